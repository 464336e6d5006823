/// How far calibration came, in a file beside the journal: a killed pass goes on with the next layer.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/pipeline/calibration.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace qlib::inline v0 {

/// A calibration pass between two layers: all that the layers behind need.
struct pass_between_layers {
  std::size_t layers = 0;                       ///< that ran
  calibration* found = nullptr;                 ///< in them; its folds are those of suppression alone
  std::span<float> hidden;                      ///< the residual stream, [tokens, hidden_size]
  std::span<float> hidden_of_suppression = {};  ///< of samples that sub-graphs are solved with, if they have their own
};

/// As store_calibration; the numbers of the streams follow what was found.
status store_pass(const pass_between_layers& pass, std::uint64_t key, const std::string& path);

/// Fills `*pass.found` and the streams, whose sizes belong to the key. False if there is no such file, it belongs to another key or layout, or is
/// damaged: what it would fill is then worth nothing. Errors: a file that cannot be read.
result<bool> load_pass(pass_between_layers& pass, std::uint64_t key, const std::string& path);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/stored_pass.ipp>
#endif
