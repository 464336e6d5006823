/// How long a run will take, from short probes of this machine. Disks are not probed: what is not in the page cache takes longer.
#pragma once
#include <qlib/model/decoder.hpp>
#include <qlib/pipeline/plan.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace qlib::inline v0 {

/// Seconds for quantizing and packing everything in `plan`: a strip of each kind of layer is quantized, some milliseconds a kind.
double forecast_seconds(const quantization_plan& plan, std::size_t threads);

/// Seconds for the calibration pass: the decoder's products for all tokens, and those that searches for outlier suppression try, at the rate of
/// one product of some milliseconds.
double forecast_calibration_seconds(const decoder& model, const quantization_plan& plan, std::span<const std::vector<std::int32_t>> samples,
                                    std::span<const std::vector<std::int32_t>> suppress_samples = {});

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/forecast_time.ipp>
#endif
