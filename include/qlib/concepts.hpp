/// The concepts that policies model, and nothing else. Their laws are tests in tests/conformance/, run over every policy in
/// registry.hpp.
#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/field.hpp>
#include <qlib/core/qparams.hpp>
#include <qlib/core/quant_spec.hpp>
#include <qlib/core/stats.hpp>
#include <qlib/core/status.hpp>
#include <qlib/core/view.hpp>
#include <qlib/suppressor/smoothing_group.hpp>
#include <qlib/suppressor/transform.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace qlib::inline v0 {

/// Everything that a recipe can name: a name, and options that describe themselves. One whose options can be out of range has
/// `static std::optional<std::string> check(const options&)`, the text of what is wrong; a recipe is then refused when it is planned.
template <class P>
concept Policy = std::constructible_from<P, typename P::options> && requires {
  { P::name } -> std::convertible_to<std::string_view>;
  P::options::fields();
};

/// Element types that weights are read as.
template <class T>
concept Element = std::same_as<T, float> || std::same_as<T, bf16> || std::same_as<T, f16>;

/// Kernels. Law: codes and packed bytes equal those of `scalar_backend` bit for bit, ranges and counts too.
template <class B>
concept Backend = requires(const B& b, matrix_view<const float> f, matrix_view<const bf16> h, matrix_view<const std::int8_t> q,
                           matrix_view<std::int8_t> codes, matrix_view<std::uint8_t> bytes, matrix_view<float> values, std::span<range> ranges,
                           const_qparams_view params, quant_spec spec, tile t, range limits, std::span<std::uint32_t> counts, std::span<float> floats,
                           std::span<const float> factors, qparams_view solved, std::size_t n) {
  { B::name } -> std::convertible_to<std::string_view>;
  b.to_float(h, values);
  b.ranges(f, t, ranges);
  b.ranges(h, t, ranges);
  b.column_absmax(f, floats);
  b.column_absmax(h, floats);
  b.histogram(f, limits, counts);
  b.histogram(h, limits, counts);
  { b.outside(f, limits, floats) } -> std::same_as<std::size_t>;
  { b.outside(h, limits, floats) } -> std::same_as<std::size_t>;
  b.quantize(f, spec, params, codes);
  b.quantize(h, spec, params, codes);
  b.dequantize(q, spec, params, values);
  b.pack_nibbles(q, std::uint8_t{}, bytes);
  b.pack_nibble_rows(q, bytes);
  b.scale_columns(values, factors);
  b.scale_rows(values, factors);
  { b.scaled_quantize(f, factors, spec, solved, codes) } -> std::same_as<bool>;
  { b.scaled_quantize(h, factors, spec, solved, codes) } -> std::same_as<bool>;
  { b.scaled_fake_quantize(f, factors, spec, values) } -> std::same_as<bool>;
  { b.scaled_fake_quantize(h, factors, spec, values) } -> std::same_as<bool>;
  b.hadamard_rows(values, n);
  b.hadamard_columns(values, n);
  b.combine_rows(f, f, values);
};

namespace detail {
/// A backend with empty kernels, to check policies against without including a real one.
struct backend_archetype {
  static constexpr std::string_view name = "archetype";
  void to_float(auto&&...) const {}
  void ranges(auto&&...) const {}
  void column_absmax(auto&&...) const {}
  void histogram(auto&&...) const {}
  std::size_t outside(auto&&...) const { return 0; }
  void quantize(auto&&...) const {}
  void dequantize(auto&&...) const {}
  void pack_nibbles(auto&&...) const {}
  void pack_nibble_rows(auto&&...) const {}
  void scale_columns(auto&&...) const {}
  void scale_rows(auto&&...) const {}
  bool scaled_quantize(auto&&...) const { return true; }
  bool scaled_fake_quantize(auto&&...) const { return true; }
  void hadamard_rows(auto&&...) const {}
  void hadamard_columns(auto&&...) const {}
  void combine_rows(auto&&...) const {}
};
static_assert(Backend<backend_archetype>);
}  // namespace detail

/// Finds the range of each tile. Law: `merge` is associative, and an observer that was only reset is its neutral element. Which parts may be
/// observed apart and merged to equal the whole is `merge_law_of<O>` (observer/merge_law.hpp).
template <class O>
concept Observer = Policy<O> && requires(O o, const O& c, tile t, grid g, matrix_view<const float> x, detail::backend_archetype b) {
  o.reset(t, g);
  o.observe(b, x);
  o.merge(c);
  { c.ranges() } -> std::convertible_to<std::span<const range>>;
};

/// Finds a function-preserving transform. Laws: scales are positive and finite, one a channel; `fold` keeps the float function within the
/// stated ULP.
template <class S>
concept OutlierSuppressor = Policy<S> && requires(const S& s, const smoothing_group& group, const statistics_view& stats) {
  { S::needs } -> std::convertible_to<needs>;
  { s.solve(group, stats) } -> std::convertible_to<transform>;
};

/// Chooses codes. Law: codes are in [qmin, qmax]; the error is never above round-to-nearest's where the algorithm promises it.
template <class R>
concept Rounder = Policy<R> && requires(const R& r, detail::backend_archetype b, matrix_view<const float> w, quant_spec spec, statistics_view stats,
                                        const_qparams_view q, matrix_view<std::int8_t> codes) {
  { R::needs } -> std::convertible_to<needs>;
  r.round(b, w, spec, stats, q, codes);
};

/// Dtype and shape of a packed weight: known from the weight's shape and the spec alone.
struct packed_layout {
  dtype type = dtype::i8;
  std::size_t rows = 0, cols = 0;
  constexpr std::size_t row_bytes() const { return cols * bits_of(type) / 8; }
  constexpr std::size_t bytes() const { return rows * row_bytes(); }
};

/// Lays codes out in bytes. Laws: unpack(pack(q)) == q for every width and shape that it accepts; `layout` is what is written.
/// A strip of `row_multiple` rows is packed on its own, so that big matrices never stand whole in memory.
template <class P>
concept Packer = Policy<P> && requires(const P& p, detail::backend_archetype b, quant_spec spec, std::size_t n, matrix_view<const std::int8_t> q,
                                       matrix_view<std::int8_t> codes, std::byte* out, const std::byte* in) {
  { P::row_multiple } -> std::convertible_to<std::size_t>;
  { P::stores_codes } -> std::convertible_to<bool>;  ///< the packed bytes are the codes: the rounder writes them in place
  { p.accepts(spec, n, n) } -> std::same_as<status>;
  { p.layout(spec, n, n) } -> std::same_as<packed_layout>;
  p.pack(b, spec, q, out);
  p.unpack(b, spec, in, codes);
};

}  // namespace qlib::inline v0
