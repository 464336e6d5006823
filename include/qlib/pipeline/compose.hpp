/// Policies plugged together at compile time.
#pragma once
#include <qlib/backend/hold.hpp>
#include <qlib/concepts.hpp>
#include <qlib/core/buffer.hpp>
#include <qlib/observer/ranges_are_for.hpp>
#include <qlib/suppressor/smoothing_group.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

namespace qlib::inline v0 {

/// Rows that are ranged, rounded and packed together: whole tiles and whole packed rows, and small enough that the second pass
/// reads from the cache. 16 KiB of source, 16 KiB of the next strip under way and the codes fit an L1d of 48 KiB; at least one tile.
constexpr std::size_t strip_rows(const quant_spec& spec, std::size_t row_multiple, std::size_t rows, std::size_t cols, std::size_t element_bytes,
                                 std::size_t target = 16 << 10) {
  if (rows == 0 || spec.granularity.rows == 0) return rows;
  const std::size_t unit = spec.granularity.rows % row_multiple == 0 ? spec.granularity.rows : spec.granularity.rows * row_multiple;
  const std::size_t units = std::max<std::size_t>(1, target / std::max<std::size_t>(1, unit * cols * element_bytes));
  return std::min(rows, unit * units);
}

/// A value that no code can stand for, as an error: "weight[17, 3]: NaN".
[[gnu::cold]] inline error non_finite_error(float value, std::size_t row, std::size_t col) {
  error e{.subject = "weight[", .problem = {}, .remedy = "the checkpoint is damaged or was trained to overflow; a weight must be finite"};
  e.subject += std::to_string(row);
  e.subject += ", ";
  e.subject += std::to_string(col);
  e.subject += ']';
  e.problem = std::isnan(value) ? "NaN" : value > 0 ? "+infinity" : "-infinity";
  return e;
}

/// Of the first NaN or infinity of w, whose first row is `first_row` of the weight. Called only after a range came back undefined.
template <Element T>
[[gnu::cold]] error non_finite_error(matrix_view<const T> w, std::size_t first_row) {
  for (std::size_t r = 0; r < w.rows(); ++r)
    for (std::size_t c = 0; c < w.cols(); ++c)
      if (const float v = to_float(w(r, c)); !std::isfinite(v)) return non_finite_error(v, first_row + r, c);
  return {.subject = "weight", .problem = "non-finite range", .remedy = {}};
}

/// The parameters of w's tiles, whole tiles: by the backend in one pass where the observer keeps nothing but extremes. False if a value is NaN or
/// infinite: q is not specified then.
template <Observer O, Backend B, Element T>
bool solve_tiles(O& observer, const B& backend, matrix_view<const T> w, const quant_spec& spec, qparams_view q) {
  if constexpr (requires {
                  requires O::keeps_extremes;
                  { backend.solve_tiles(w, spec, q) } -> std::same_as<bool>;
                }) {
    return backend.solve_tiles(w, spec, q);
  } else {
    ranges_are_for(observer, spec);
    observer.reset(spec.granularity, q.grid);
    observer.observe(backend, w);
    for (const range& seen : observer.ranges())
      if (!seen.defined()) return false;
    if constexpr (requires { backend.solve_qparams(observer.ranges(), spec, q); }) backend.solve_qparams(observer.ranges(), spec, q);
    else qlib::solve_qparams(observer.ranges(), spec, q);
    return true;
  }
}

/// The packer's nibble_flip where codes of `spec` can be packed while they are made (backend.quantize_nibbles): none where the rounder is not
/// element by element, or the packer has another layout.
template <Rounder R, Packer P>
std::optional<std::uint8_t> fused_nibbles(const R&, const P& packer, const quant_spec& spec) {
  if constexpr (requires {
                  requires R::element_wise;
                  packer.nibble_flip(spec);
                })
    return packer.nibble_flip(spec);
  else return std::nullopt;
}

/// The four stages of weight quantization as one object: suppress, range, round, pack. Each stage is a policy; a combination that
/// cannot work does not compile, with a message that names the policy and what it misses.
template <Observer O, OutlierSuppressor S, Rounder R, Packer P, Backend B>
struct pipeline {
  O observer{};
  S suppressor{};
  R rounder{};
  P packer{};
  B backend{};

  /// What makes w [out_features, in_features], the only reader of its input, easier to quantize: w has to be folded by it (suppressor/fold.hpp)
  /// before it runs. Scales that are not positive and finite are 1.
  transform suppress(matrix_view<const float> w, const quant_spec& spec, const statistics_view& stats) const {
    transform t = suppressor.solve(smoothing_group{.weights = std::span{&w, 1}, .weight_spec = spec}, stats);
    for (float& s : t.scale)
      if (!std::isfinite(s) || !(s > 0)) s = 1.0f;
    return t;
  }

  /// Quantizes w [rows, cols], a whole matrix or a strip of it that starts at a tile boundary. `q` receives the parameters of w's
  /// tiles, `out` packer.layout(spec, rows, cols).bytes() bytes. `scratch` must hold w.size() bytes unless P::stores_codes. `streams`: `out`
  /// is not read soon, and a backend that can writes it past the caches: `backend.finish_streaming()` ends that.
  template <Element T>
  status run_strip(matrix_view<const T> w, const quant_spec& spec, const statistics_view& stats, qparams_view q, std::byte* scratch, std::byte* out,
                   std::size_t first_row = 0, bool streams = false) {
    // Ranged, then rounded: a device reads w once.
    [[maybe_unused]] const auto held = [&] {
      if constexpr (requires { requires R::element_wise; }) return hold(backend, w);
      else return nothing_held{};
    }();
    if (!solve_tiles(observer, backend, w, spec, q)) return non_finite_error(w, first_row);
    auto* codes = reinterpret_cast<std::int8_t*>(P::stores_codes ? out : scratch);
    const matrix_view<std::int8_t> code_view{codes, w.rows(), w.cols()};
    B to_out = backend;
    if constexpr (requires {
                    { backend.streaming() } -> std::same_as<B>;
                  })
      if (streams) to_out = backend.streaming();
    if constexpr (requires { backend.quantize_nibbles(w, spec, as_const(q), {}, {}, {}); })
      if (const auto flip = fused_nibbles(rounder, packer, spec)) {  // codes need not see memory
        auto* bytes = reinterpret_cast<std::uint8_t*>(out);
        const std::size_t row_bytes = packer.layout(spec, w.rows(), w.cols()).row_bytes();
        to_out.quantize_nibbles(w, spec, as_const(q), *flip, code_view, matrix_view<std::uint8_t>{bytes, w.rows(), row_bytes});
        return {};
      }
    rounder.round(P::stores_codes ? to_out : backend, w, spec, stats, as_const(q), code_view);
    if constexpr (!P::stores_codes) packer.pack(to_out, spec, matrix_view<const std::int8_t>{code_view}, out);
    return {};
  }

  /// The whole matrix, strip by strip. Output of 4 MiB and more goes past the caches. scratch: strip_rows(...) * cols bytes unless
  /// P::stores_codes.
  template <Element T>
  status run(matrix_view<const T> w, const quant_spec& spec, const statistics_view& stats, qparams_view q, std::byte* scratch, std::byte* out) {
    const std::size_t step = strip_rows(spec, P::row_multiple, w.rows(), w.cols(), sizeof(T));
    const std::size_t tile_rows = resolve(spec.granularity, w.rows(), w.cols()).rows;
    const packed_layout layout = packer.layout(spec, w.rows(), w.cols());
    const bool streams = layout.bytes() >= std::size_t{4} << 20;
    for (std::size_t r = 0; r < w.rows(); r += step) {
      const std::size_t count = std::min(step, w.rows() - r);
      if (status s = run_strip(w.strip(r, count), spec, stats, q.strip(r, count, tile_rows), scratch, out + r / P::row_multiple * layout.row_bytes(),
                               r, streams);
          !s)
        return s;
    }
    if constexpr (requires { backend.finish_streaming(); })
      if (streams) backend.finish_streaming();
    return {};
  }
};

}  // namespace qlib::inline v0
