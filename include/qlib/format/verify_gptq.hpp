#pragma once
#include <qlib/format/verify_findings.hpp>

#include <string>

namespace qlib::inline v0::detail {

/// Rules GPTQ-* and AWQ-*: the configuration, and qweight, qzeros, scales and g_idx of every module; GCU-* for vLLM-GCU's limits.
void verify_gptq(findings& f, const std::string& format);

/// Rules GCU-*: TopsCompressor's int8 format (quant_method "w8a8"): weight I8 [N, K], out_scales F32 [N], in_scales [K] or one.
void verify_gcu_w8a8(findings& f);

}  // namespace qlib::inline v0::detail

#if !defined(QLIB_COMPILED)
#include <qlib/format/verify_gptq.ipp>
#endif
