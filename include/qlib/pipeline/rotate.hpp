/// Folds of a rotation: from a plan alone, without data.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/model/folds.hpp>

#include <memory>

namespace qlib::inline v0 {

struct planned_rotation;

/// Every norm's gains go into what reads it, the residual stream is rotated by one Hadamard matrix (writers' outputs, readers' inputs, the
/// embedding), values by another within each head (QuaRot, Ashkboos et al. 2024, stage 1). Products of weights are f32. Errors: tensors that
/// cannot be read.
status rotate(const planned_rotation& plan, const parameter_source& source, model_folds& out);

/// The rotation of the residual stream: hidden states are multiplied by it.
std::shared_ptr<const hadamard_rotation> residual_rotation(const planned_rotation& plan);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/rotate.ipp>
#endif
