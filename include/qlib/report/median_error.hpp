/// The middle of what quantization does to the weights of a model.
#pragma once
#include <qlib/report/accuracy_report.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <vector>

namespace qlib::inline v0 {

/// Median of the layers' relative weight errors, of an even number the mean of the two in the middle; nothing if no error was measured.
inline std::optional<double> median_error(const accuracy_report& r) {
  std::vector<double> errors;
  for (const reported_layer& l : r.layers)
    if (l.error) errors.push_back(l.error->relative());
  if (errors.empty()) return std::nullopt;
  std::sort(errors.begin(), errors.end());
  const std::size_t n = errors.size();
  return n % 2 == 1 ? errors[n / 2] : (errors[n / 2 - 1] + errors[n / 2]) / 2;
}

}  // namespace qlib::inline v0
