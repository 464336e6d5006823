#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/qparams.hpp>
#include <qlib/core/view.hpp>
#include <qlib/observer/ranges_are_for.hpp>
#include <qlib/recipe/policy_options.hpp>
#include <qlib/recipe/recipe.hpp>
#include <qlib/registry.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

namespace qlib::inline v0 {

/// Range and round of rows with policies that are chosen at run time, one visit a stage (registry.hpp). Keeps the policies between calls.
class row_quantizer {
 public:
  /// Both must be what a plan has checked.
  void choose(const policy_choice& observer, const policy_choice& rounder) {
    if (observer_choice_ != observer) {
      observer_ = *make_policy<registry::observers>(observer, {}, "observer");
      observer_choice_ = observer;
    }
    if (rounder_choice_ != rounder) {
      rounder_ = *make_policy<registry::rounders>(rounder, {}, "rounder");
      rounder_choice_ = rounder;
    }
  }

  /// A device's calls are round trips: only an observer that makes one call a strip runs there, the others on the host.
  template <class O>
  static constexpr bool observer_reads_once = requires {
    requires O::keeps_extremes;
  };

  /// Parameters and codes of w, whole tiles. False if a value is NaN or infinite: neither is specified then.
  template <class B, class T>
  bool quantize(const B& backend, matrix_view<const T> w, const quant_spec& spec, qparams_view q, matrix_view<std::int8_t> codes) {
    const std::span<const range> seen = std::visit(
        [&](auto& o) {
          ranges_are_for(o, spec);
          o.reset(spec.granularity, q.grid);
          if constexpr (requires { B::preferred_bytes; } && !observer_reads_once<std::remove_reference_t<decltype(o)>>)
            o.observe(native_backend{}, w);
          else o.observe(backend, w);
          return std::span<const range>{o.ranges()};
        },
        *observer_);
    if (!std::all_of(seen.begin(), seen.end(), [](const range& r) { return r.defined(); })) return false;
    solve_qparams(seen, spec, q);
    std::visit([&](const auto& r) { r.round(backend, w, spec, {}, as_const(q), codes); }, *rounder_);
    return true;
  }

 private:
  std::optional<registry::observers::any> observer_;
  std::optional<registry::rounders::any> rounder_;
  policy_choice observer_choice_, rounder_choice_;
};

}  // namespace qlib::inline v0
