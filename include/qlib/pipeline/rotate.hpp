/// Folds of a rotation: from a plan alone, without data.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/model/folds.hpp>
#include <qlib/pipeline/plan.hpp>

namespace qlib::inline v0 {

/// Every norm's gains go into what reads it, the residual stream is rotated by one Hadamard matrix (writers' outputs, readers' inputs, the
/// embedding), values by another within each head (QuaRot, Ashkboos et al. 2024, stage 1). Products of weights are f32. Errors: tensors that
/// cannot be read.
status rotate(const planned_rotation& plan, const parameter_source& source, model_folds& out);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/rotate.ipp>
#endif
