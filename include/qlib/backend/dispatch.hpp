/// Kernels for the CPU that the program runs on, chosen once at run time. Only in qlib::compiled: one of its units compiles the
/// kernels for every instruction set (backend/dispatch.ipp).
#pragma once
#include <qlib/config.hpp>

#if !defined(QLIB_COMPILED)
#error "qlib/backend/dispatch.hpp is part of qlib::compiled: link it, or include qlib/backend/highway.hpp"
#endif

#include <qlib/backend/scalar.hpp>

#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// The kernels that read one element type. The last argument of those that write codes, bytes or floats of them: they are not read soon, so
/// write them past the caches.
template <Element T>
struct element_kernels {
  void (*to_float)(matrix_view<const T>, matrix_view<float>);
  void (*ranges)(matrix_view<const T>, tile, std::span<range>);
  bool (*solve_tiles)(matrix_view<const T>, const quant_spec&, qparams_view);
  void (*quantize)(matrix_view<const T>, const quant_spec&, const_qparams_view, matrix_view<std::int8_t>, bool);
  void (*quantize_nibbles)(matrix_view<const T>, const quant_spec&, const_qparams_view, std::uint8_t, matrix_view<std::int8_t>,
                           matrix_view<std::uint8_t>, bool);
  void (*column_absmax)(matrix_view<const T>, std::span<float>);
  void (*histogram)(matrix_view<const T>, range, std::span<std::uint32_t>);
  std::size_t (*outside)(matrix_view<const T>, range, std::span<float>);
  bool (*scaled_quantize)(matrix_view<const T>, std::span<const float>, const quant_spec&, qparams_view, matrix_view<std::int8_t>, bool);
  bool (*scaled_fake_quantize)(matrix_view<const T>, std::span<const float>, const quant_spec&, matrix_view<float>, bool);
};

/// One instruction set's kernels, as plain function pointers: scalar_backend says what each does.
struct kernel_table {
  std::string_view isa;  ///< "scalar", "ssse3", "sse4", "avx2", "avx3" (AVX-512), "avx3_dl" (Ice Lake, Zen 4 and later)
  element_kernels<float> f32;
  element_kernels<bf16> b16;
  element_kernels<f16> h16;
  void (*solve_qparams)(std::span<const range>, const quant_spec&, qparams_view);
  void (*dequantize)(matrix_view<const std::int8_t>, const quant_spec&, const_qparams_view, matrix_view<float>);
  void (*pack_nibbles)(matrix_view<const std::int8_t>, std::uint8_t, matrix_view<std::uint8_t>, bool);
  void (*pack_nibble_rows)(matrix_view<const std::int8_t>, matrix_view<std::uint8_t>, bool);
  void (*finish_streaming)();
  void (*scale_columns)(matrix_view<float>, std::span<const float>);
  void (*scale_rows)(matrix_view<float>, std::span<const float>);
  void (*hadamard_rows)(matrix_view<float>, std::size_t);
  void (*hadamard_columns)(matrix_view<float>, std::size_t);
  void (*combine_rows)(matrix_view<const float>, matrix_view<const float>, matrix_view<float>);

  template <Element T>
  const element_kernels<T>& of() const {
    if constexpr (std::is_same_v<T, float>) return f32;
    else if constexpr (std::is_same_v<T, bf16>) return b16;
    else return h16;
  }
};

/// Instruction sets in the library that this CPU runs, best first; "scalar" is always the last.
std::vector<std::string_view> compiled_targets();

/// The first of them.
std::string_view chosen_target();

/// The kernels of the chosen target.
const kernel_table& best_kernels();

/// The kernels of one instruction set; an error that lists the choices where it is unknown or this CPU lacks it.
result<const kernel_table*> kernels_for(std::string_view isa);

/// Runs the kernels of a table: by default the best for this CPU.
struct native_backend : scalar_backend {
  static constexpr std::string_view name = "native";

  native_backend() : kernels_{&best_kernels()} {}
  explicit native_backend(const kernel_table& kernels) : kernels_{&kernels} {}

  /// The instruction set in use, as in kernel_table::isa.
  std::string_view isa() const { return kernels_->isa; }

  /// The same kernels, for codes and bytes that are not read soon: they go past the caches. Before another thread is told of them, call
  /// `finish_streaming`.
  native_backend streaming() const {
    native_backend b = *this;
    b.streams_ = true;
    return b;
  }
  void finish_streaming() const { kernels_->finish_streaming(); }

  template <Element T>
  void to_float(matrix_view<const T> x, matrix_view<float> out) const {
    kernels_->of<T>().to_float(x, out);
  }
  template <Element T>
  void ranges(matrix_view<const T> x, tile t, std::span<range> out) const {
    kernels_->of<T>().ranges(x, t, out);
  }
  template <Element T>
  void column_absmax(matrix_view<const T> x, std::span<float> out) const {
    kernels_->of<T>().column_absmax(x, out);
  }
  template <Element T>
  void histogram(matrix_view<const T> x, range limits, std::span<std::uint32_t> counts) const {
    kernels_->of<T>().histogram(x, limits, counts);
  }
  template <Element T>
  std::size_t outside(matrix_view<const T> x, range inner, std::span<float> out) const {
    return kernels_->of<T>().outside(x, inner, out);
  }
  void solve_qparams(std::span<const range> seen, const quant_spec& spec, qparams_view out) const { kernels_->solve_qparams(seen, spec, out); }
  template <Element T>
  bool solve_tiles(matrix_view<const T> x, const quant_spec& spec, qparams_view q) const {
    return kernels_->of<T>().solve_tiles(x, spec, q);
  }
  template <Element T>
  void quantize(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes) const {
    kernels_->of<T>().quantize(x, spec, q, codes, streams_);
  }
  template <Element T>
  void quantize_nibbles(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, std::uint8_t flip, matrix_view<std::int8_t> codes,
                        matrix_view<std::uint8_t> bytes) const {
    kernels_->of<T>().quantize_nibbles(x, spec, q, flip, codes, bytes, streams_);
  }
  void dequantize(matrix_view<const std::int8_t> codes, const quant_spec& spec, const_qparams_view q, matrix_view<float> out) const {
    kernels_->dequantize(codes, spec, q, out);
  }
  void pack_nibbles(matrix_view<const std::int8_t> codes, std::uint8_t flip, matrix_view<std::uint8_t> bytes) const {
    kernels_->pack_nibbles(codes, flip, bytes, streams_);
  }
  void pack_nibble_rows(matrix_view<const std::int8_t> codes, matrix_view<std::uint8_t> bytes) const {
    kernels_->pack_nibble_rows(codes, bytes, streams_);
  }
  void scale_columns(matrix_view<float> x, std::span<const float> factors) const { kernels_->scale_columns(x, factors); }
  void scale_rows(matrix_view<float> x, std::span<const float> factors) const { kernels_->scale_rows(x, factors); }
  template <Element T>
  bool scaled_quantize(matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, qparams_view q,
                       matrix_view<std::int8_t> codes) const {
    return kernels_->of<T>().scaled_quantize(x, factors, spec, q, codes, streams_);
  }
  template <Element T>
  bool scaled_fake_quantize(matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, matrix_view<float> out) const {
    return kernels_->of<T>().scaled_fake_quantize(x, factors, spec, out, streams_);
  }
  void hadamard_rows(matrix_view<float> x, std::size_t block) const { kernels_->hadamard_rows(x, block); }
  void hadamard_columns(matrix_view<float> x, std::size_t block) const { kernels_->hadamard_columns(x, block); }
  void combine_rows(matrix_view<const float> signs, matrix_view<const float> x, matrix_view<float> out) const {
    kernels_->combine_rows(signs, x, out);
  }

 private:
  const kernel_table* kernels_;
  bool streams_ = false;
};
static_assert(Backend<native_backend>);

}  // namespace qlib::inline v0
