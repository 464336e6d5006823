/// What the documents of a plan say to those who will read them.
#pragma once
#include <qlib/format/compressed_tensors_config.hpp>

namespace qlib::inline v0 {

struct quantization_plan;

namespace detail {

/// `quantization_config` of the config.json that a plan writes; empty for AscendV1.
stored_config planned_config(const quantization_plan& plan);

}  // namespace detail

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/planned_config.ipp>
#endif
