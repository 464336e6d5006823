/// Whether a folder stores all that the forward pass of its family needs.
#pragma once
#include <qlib/format/verify_findings.hpp>

namespace qlib::inline v0::detail {

/// By names alone, so that it is the same for every format: weights count under any of the names that a quantized one has. Of families without a
/// description nothing is said.
void verify_complete(findings& f);

}  // namespace qlib::inline v0::detail

#if !defined(QLIB_COMPILED)
#include <qlib/format/verify_complete.ipp>
#endif
