#pragma once
#include <qlib/config.hpp>

#include <cmath>

namespace qlib::inline v0 {

/// Error of a quantized weight against its source, over all elements, in f64.
struct weight_error {
  double mse = 0, cosine = 1, max_abs_err = 0;
  double rms = 0;  ///< root of the mean square of the source

  /// Root of the mean square error over the rms of the source: 0.01 is one percent, or 40 dB. 0 for a source of zeros.
  double relative() const { return rms > 0 ? std::sqrt(mse) / rms : 0; }
};

}  // namespace qlib::inline v0
