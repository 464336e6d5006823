/// How much memory a run will take, beyond what the process has when it begins.
#pragma once
#include <qlib/model/decoder.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/suppress.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// Most bytes that making and writing the output takes: each thread's chunk as it is mapped, loaded, folded, made and packed.
/// Mapped pages of other chunks are given back. `measure_error`: run_options::measure_error.
std::uint64_t forecast_run_memory(const quantization_plan& plan, std::size_t threads, bool measure_error = false);

/// Most bytes that calibration takes: the residual stream of all tokens, the largest layer with its activations, what suppressors keep of their
/// inputs, or the largest sub-graph while it is solved.
std::uint64_t forecast_calibration_memory(const decoder& model, const quantization_plan& plan, std::span<const std::vector<std::int32_t>> samples,
                                          const suppress_options& suppress = {}, std::span<const std::vector<std::int32_t>> suppress_samples = {});

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/forecast_memory.ipp>
#endif
