#pragma once
#include <qlib/backend/hold.hpp>
#include <qlib/backend/native.hpp>
#include <qlib/core/qparams.hpp>
#include <qlib/core/view.hpp>
#include <qlib/pipeline/compose.hpp>
#include <qlib/recipe/policy_options.hpp>
#include <qlib/recipe/recipe.hpp>
#include <qlib/registry.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
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
    [[maybe_unused]] const auto held = hold(backend, w);  // ranged, then rounded: a device reads w once
    if (!solve(backend, w, spec, q)) return false;
    round(backend, w, spec, q, codes);
    return true;
  }

  /// The same, packed: `out` receives packer.layout(spec, rows, cols).bytes() bytes. `scratch`: w's shape, for codes that have to see memory.
  template <class B, class T>
  bool quantize(const B& backend, matrix_view<const T> w, const quant_spec& spec, qparams_view q, const registry::packers::any& packer,
                matrix_view<std::int8_t> scratch, std::byte* out) {
    [[maybe_unused]] const auto held = hold(backend, w);  // ranged, then rounded: a device reads w once
    if (!solve(backend, w, spec, q)) return false;
    if constexpr (requires { backend.quantize_nibbles(w, spec, as_const(q), {}, {}, {}); }) {
      const auto flip =
          std::visit([&](const auto& p) { return std::visit([&](const auto& r) { return fused_nibbles(r, p, spec); }, *rounder_); }, packer);
      if (flip) {
        const std::size_t row_bytes = std::visit([&](const auto& p) { return p.layout(spec, w.rows(), w.cols()).row_bytes(); }, packer);
        backend.quantize_nibbles(w, spec, as_const(q), *flip, scratch, {reinterpret_cast<std::uint8_t*>(out), w.rows(), row_bytes});
        return true;
      }
    }
    round(backend, w, spec, q, scratch);
    std::visit([&](const auto& p) { p.pack(backend, spec, matrix_view<const std::int8_t>{scratch}, out); }, packer);
    return true;
  }

 private:
  template <class B, class T>
  bool solve(const B& backend, matrix_view<const T> w, const quant_spec& spec, qparams_view q) {
    return std::visit(
        [&]<class O>(O& o) {
          if constexpr (requires { B::preferred_bytes; } && !observer_reads_once<O>) return solve_tiles(o, native_backend{}, w, spec, q);
          else return solve_tiles(o, backend, w, spec, q);
        },
        *observer_);
  }
  template <class B, class T>
  void round(const B& backend, matrix_view<const T> w, const quant_spec& spec, qparams_view q, matrix_view<std::int8_t> codes) const {
    std::visit([&](const auto& r) { r.round(backend, w, spec, {}, as_const(q), codes); }, *rounder_);
  }

  std::optional<registry::observers::any> observer_;
  std::optional<registry::rounders::any> rounder_;
  policy_choice observer_choice_, rounder_choice_;
};

}  // namespace qlib::inline v0
