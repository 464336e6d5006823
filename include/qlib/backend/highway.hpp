/// SIMD kernels for the instruction set that this translation unit is compiled for (-march). Needs Highway's headers, not its
/// library. With GCC and no -march the static target is scalar code: there, run-time dispatch (backend/dispatch.hpp) is the fast one.
///
/// For -march=native and the like, define HWY_WANT_AVX3_DL and HWY_DISABLE_PCLMUL_AES, as qlib::highway does: without them Highway 1.0
/// refuses some CPUs and takes SSSE3 for AVX2 on others.
#pragma once
#include <qlib/backend/highway-inl.hpp>

namespace qlib::inline v0 {

/// The target is in the type, and only this unit's target is defined, so that units compiled for different instruction sets never
/// share a kernel.
template <std::int64_t Target>
struct basic_highway;

template <>
struct basic_highway<HWY_STATIC_TARGET> : scalar_backend {
  static constexpr std::string_view name = "highway";

#if QLIB_HIGHWAY_KERNELS
  /// The same kernels, for codes and bytes that are not read soon: they go past the caches. Before another thread is told of them, call
  /// `finish_streaming`.
  basic_highway streaming() const {
    basic_highway b = *this;
    b.streams_ = true;
    return b;
  }
  void finish_streaming() const { HWY_NAMESPACE::finish_streaming(); }

  template <Element T>
  void to_float(matrix_view<const T> x, matrix_view<float> out) const {
    HWY_NAMESPACE::to_float(x, out);
  }
  template <Element T>
  void ranges(matrix_view<const T> x, tile t, std::span<range> out) const {
    HWY_NAMESPACE::ranges(x, t, out);
  }
  template <Element T>
  void column_absmax(matrix_view<const T> x, std::span<float> out) const {
    HWY_NAMESPACE::column_absmax(x, out);
  }
  template <Element T>
  void histogram(matrix_view<const T> x, range limits, std::span<std::uint32_t> counts) const {
    HWY_NAMESPACE::histogram(x, limits, counts);
  }
  template <Element T>
  std::size_t outside(matrix_view<const T> x, range inner, std::span<float> out) const {
    return HWY_NAMESPACE::outside(x, inner, out);
  }
  void solve_qparams(std::span<const range> seen, const quant_spec& spec, qparams_view out) const { HWY_NAMESPACE::solve_qparams(seen, spec, out); }
  template <Element T>
  bool solve_tiles(matrix_view<const T> x, const quant_spec& spec, qparams_view q) const {
    return HWY_NAMESPACE::solve_tiles(x, spec, q);
  }
  template <Element T>
  void quantize(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes) const {
    HWY_NAMESPACE::quantize(x, spec, q, codes, streams_);
  }
  template <Element T>
  void quantize_nibbles(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, std::uint8_t flip, matrix_view<std::int8_t> codes,
                        matrix_view<std::uint8_t> bytes) const {
    HWY_NAMESPACE::quantize_nibbles(x, spec, q, flip, codes, bytes, streams_);
  }
  void dequantize(matrix_view<const std::int8_t> codes, const quant_spec& spec, const_qparams_view q, matrix_view<float> out) const {
    HWY_NAMESPACE::dequantize(codes, spec, q, out);
  }
  void pack_nibbles(matrix_view<const std::int8_t> codes, std::uint8_t flip, matrix_view<std::uint8_t> bytes) const {
    HWY_NAMESPACE::pack_nibbles(codes, flip, bytes, streams_);
  }
  void pack_nibble_rows(matrix_view<const std::int8_t> codes, matrix_view<std::uint8_t> bytes) const {
    HWY_NAMESPACE::pack_nibble_rows(codes, bytes, streams_);
  }
  void scale_columns(matrix_view<float> x, std::span<const float> factors) const { HWY_NAMESPACE::scale_columns(x, factors); }
  void scale_rows(matrix_view<float> x, std::span<const float> factors) const { HWY_NAMESPACE::scale_rows(x, factors); }
  template <Element T>
  bool scaled_quantize(matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, qparams_view q,
                       matrix_view<std::int8_t> codes) const {
    return HWY_NAMESPACE::scaled_quantize(x, factors, spec, q, codes, streams_);
  }
  template <Element T>
  bool scaled_fake_quantize(matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, matrix_view<float> out) const {
    return HWY_NAMESPACE::scaled_fake_quantize(x, factors, spec, out, streams_);
  }
  void hadamard_rows(matrix_view<float> x, std::size_t block) const { HWY_NAMESPACE::hadamard_rows(x, block); }
  void hadamard_columns(matrix_view<float> x, std::size_t block) const { HWY_NAMESPACE::hadamard_columns(x, block); }
  void combine_rows(matrix_view<const float> signs, matrix_view<const float> x, matrix_view<float> out) const {
    HWY_NAMESPACE::combine_rows(signs, x, out);
  }

 private:
  bool streams_ = false;
#endif
};

using highway_backend = basic_highway<HWY_STATIC_TARGET>;
static_assert(Backend<highway_backend>);

}  // namespace qlib::inline v0
