#pragma once
#include <qlib/concepts.hpp>

namespace qlib::inline v0 {

/// Round to nearest: each weight gets the code whose value is closest (docs/rounding.md). Data-free; one pass.
struct rtn_rounder {
  static constexpr std::string_view name = "rtn";
  static constexpr qlib::needs needs = qlib::needs::nothing;
  static constexpr bool element_wise = true;  ///< a code depends on its weight and tile alone: `round` is the backend's quantize
  using options = no_options;

  explicit rtn_rounder(options = {}) {}

  /// w: [rows, cols]; q covers w's tiles; codes: [rows, cols], int8 values or e4m3 bits.
  template <class B, class T>
  void round(const B& backend, matrix_view<const T> w, const quant_spec& spec, const statistics_view&, const_qparams_view q,
             matrix_view<std::int8_t> codes) const {
    backend.quantize(w, spec, q, codes);
  }
};
static_assert(Rounder<rtn_rounder>);

}  // namespace qlib::inline v0
