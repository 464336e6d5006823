#pragma once
#include <qlib/format/compressed_tensors_config.hpp>
#include <qlib/format/verify_findings.hpp>

#include <string>

namespace qlib::inline v0::detail {

/// Rules CT-*: the quantization_config, which modules it covers, their tensors, fused layers and key-value scales.
void verify_compressed_tensors(findings& f);

/// The tensors of one module that `s` covers.
void verify_compressed_tensors_module(findings& f, const stored_scheme& s, const std::string& module);

/// Why `e` has no kernel for the scheme, or empty.
std::string refusal(engine e, const stored_scheme& s, bool expert, const stored_config& config);

}  // namespace qlib::inline v0::detail

#if !defined(QLIB_COMPILED)
#include <qlib/format/verify_compressed_tensors.ipp>
#include <qlib/format/verify_compressed_tensors_module.ipp>
#endif
