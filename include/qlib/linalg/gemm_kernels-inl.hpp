// The matrix product of gemm_kernels.hpp for one SIMD target, which needs a true fused multiply-add: QLIB_GEMM_KERNELS is 0 for targets
// without (there scalar_gemm_kernels serves). Columns of y are the lanes of a vector, so that no lane ever meets another.
#if defined(QLIB_LINALG_GEMM_KERNELS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_LINALG_GEMM_KERNELS_INL
#undef QLIB_LINALG_GEMM_KERNELS_INL
#else
#define QLIB_LINALG_GEMM_KERNELS_INL
#endif

#include <qlib/linalg/gemm_kernels.hpp>
#include <qlib/linalg/int8_kernels-inl.hpp>

#include <hwy/highway.h>

#include <cstring>
#include <type_traits>

#undef QLIB_GEMM_KERNELS
#if (HWY_TARGET == HWY_AVX2 && !defined(HWY_DISABLE_BMI2_FMA)) || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || \
    (HWY_TARGET == HWY_NEON && HWY_ARCH_ARM_A64)
#define QLIB_GEMM_KERNELS 1

HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {
namespace gemm_tile {
namespace hn = hwy::HWY_NAMESPACE;

using float_tag = hn::ScalableTag<float>;
using floats = hn::Vec<float_tag>;
using four_tag = hn::CappedTag<float, 4>;
using four_words_tag = hn::CappedTag<std::uint32_t, 4>;
using four_words = hn::Vec<four_words_tag>;

inline constexpr std::size_t lanes = HWY_LANES(float);
inline constexpr std::size_t width = 2 * lanes;                         ///< columns of y that a block of registers holds
inline constexpr std::size_t height = HWY_TARGET == HWY_AVX2 ? 6 : 12;  ///< its rows: 12 of 16, or 24 of 32, registers are sums
inline constexpr std::size_t x_stride = gemm_k_block;

/// The sums of `Rows` rows of x with one panel of w. Nested, not an array: then every compiler keeps all of them in registers.
template <std::size_t Rows>
struct block_of_sums {
  floats low, high;
  block_of_sums<Rows - 1> below;

  HWY_INLINE void clear() {
    low = high = hn::Zero(float_tag{});
    below.clear();
  }
  HWY_INLINE void add_products(const float* HWY_RESTRICT x, floats w_low, floats w_high) {
    const floats v = hn::Set(float_tag{}, *x);
    low = hn::MulAdd(v, w_low, low);
    high = hn::MulAdd(v, w_high, high);
    below.add_products(x + x_stride, w_low, w_high);
  }
  HWY_INLINE void store(float* HWY_RESTRICT y, std::size_t stride) const {
    hn::StoreU(low, float_tag{}, y);
    hn::StoreU(high, float_tag{}, y + lanes);
    below.store(y + stride, stride);
  }
  HWY_INLINE void add_to(float* HWY_RESTRICT y, std::size_t stride) const {
    const float_tag d;
    hn::StoreU(hn::Add(hn::LoadU(d, y), low), d, y);
    hn::StoreU(hn::Add(hn::LoadU(d, y + lanes), high), d, y + lanes);
    below.add_to(y + stride, stride);
  }
};
template <>
struct block_of_sums<0> {
  HWY_INLINE void clear() {}
  HWY_INLINE void add_products(const float*, floats, floats) {}
  HWY_INLINE void store(float*, std::size_t) const {}
  HWY_INLINE void add_to(float*, std::size_t) const {}
};

/// Where a block of sums goes: y's rows, `cols` of them; the first block of k replaces what is there.
struct destination {
  float* y;
  std::size_t stride, cols;
  bool replaces;
};

template <std::size_t Rows>
HWY_NOINLINE void multiply_block(const float* HWY_RESTRICT x, const float* HWY_RESTRICT panel, std::size_t depth, destination to) {
  const float_tag d;
  block_of_sums<Rows> sums;
  sums.clear();
  for (std::size_t k = 0; k < depth; ++k, panel += width) sums.add_products(x + k, hn::Load(d, panel), hn::Load(d, panel + lanes));
  if (to.cols == width) {
    if (to.replaces) sums.store(to.y, to.stride);
    else sums.add_to(to.y, to.stride);
    return;
  }
  HWY_ALIGN float edge[Rows * width];
  sums.store(edge, width);
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t c = 0; c < to.cols; ++c) {
      float& out = to.y[r * to.stride + c];
      out = to.replaces ? edge[r * width + c] : out + edge[r * width + c];
    }
}

template <std::size_t Rows>
HWY_INLINE void multiply_rows(std::size_t rows, const float* x, const float* panel, std::size_t depth, destination to) {
  if constexpr (Rows > 0) {
    if (rows == Rows) multiply_block<Rows>(x, panel, depth, to);
    else multiply_rows<Rows - 1>(rows, x, panel, depth, to);
  }
}

/// Four rows of four words, transposed.
struct four_by_four {
  four_words row[4];
};
HWY_INLINE four_by_four transposed(const std::uint32_t* r0, const std::uint32_t* r1, const std::uint32_t* r2, const std::uint32_t* r3) {
  const four_words_tag d;
  const hn::Repartition<std::uint64_t, four_words_tag> dd;
  const four_words a = hn::LoadU(d, r0), b = hn::LoadU(d, r1), c = hn::LoadU(d, r2), e = hn::LoadU(d, r3);
  const auto ab0 = hn::BitCast(dd, hn::InterleaveLower(d, a, b)), ab1 = hn::BitCast(dd, hn::InterleaveUpper(d, a, b));
  const auto ce0 = hn::BitCast(dd, hn::InterleaveLower(d, c, e)), ce1 = hn::BitCast(dd, hn::InterleaveUpper(d, c, e));
  return {{hn::BitCast(d, hn::InterleaveLower(dd, ab0, ce0)), hn::BitCast(d, hn::InterleaveUpper(dd, ab0, ce0)),
           hn::BitCast(d, hn::InterleaveLower(dd, ab1, ce1)), hn::BitCast(d, hn::InterleaveUpper(dd, ab1, ce1))}};
}

/// Rows [first, first + width) of w, k0 <= k < k0 + depth, as f32 into panel[k][width]; rows that w lacks are zeros.
template <class W>
HWY_NOINLINE void pack_panel(matrix_view<const W> w, std::size_t first, std::size_t k0, std::size_t depth, float* HWY_RESTRICT panel) {
  constexpr std::size_t step = 16 / sizeof(W);  // k in four words
  const four_words_tag d;
  const std::size_t rows = HWY_MIN(width, w.rows() - first);
  std::size_t c = 0;
  for (; c + 4 <= rows; c += 4) {
    const W* r = w.row(first + c) + k0;
    const std::size_t stride = w.stride();
    float* out = panel + c;
    std::size_t k = 0;
    for (; k + step <= depth; k += step, r += step, out += step * width) {
      const auto word = [](const W* p) { return reinterpret_cast<const std::uint32_t*>(p); };
      const four_by_four t = transposed(word(r), word(r + stride), word(r + 2 * stride), word(r + 3 * stride));
      for (std::size_t i = 0; i < 4; ++i) {
        if constexpr (std::is_same_v<W, float>) {
          hn::StoreU(hn::BitCast(four_tag{}, t.row[i]), four_tag{}, out + i * width);
        } else {  // a word is a pair of k
          hn::StoreU(hn::BitCast(four_tag{}, hn::ShiftLeft<16>(t.row[i])), four_tag{}, out + 2 * i * width);
          hn::StoreU(hn::BitCast(four_tag{}, hn::And(t.row[i], hn::Set(d, 0xffff0000u))), four_tag{}, out + (2 * i + 1) * width);
        }
      }
    }
    for (; k < depth; ++k, ++r, out += width)
      for (std::size_t i = 0; i < 4; ++i) out[i] = qlib::to_float(r[i * stride]);
  }
  for (; c < width; ++c)
    for (std::size_t k = 0; k < depth; ++k) panel[k * width + c] = c < rows ? qlib::to_float(w(first + c, k0 + k)) : 0.0f;
}

template <class W>
void multiply(matrix_view<const float> x, matrix_view<const W> w, matrix_view<float> y, float* workspace) {
  if (y.rows() == 0 || y.cols() == 0) return;
  float* const x_block = workspace;
  float* const panels = workspace + gemm_tile_rows * gemm_k_block;
  if (x.cols() == 0)
    for (std::size_t m = 0; m < y.rows(); ++m) std::fill_n(y.row(m), y.cols(), 0.0f);
  for (std::size_t k0 = 0; k0 < x.cols(); k0 += gemm_k_block) {
    const std::size_t depth = HWY_MIN(gemm_k_block, x.cols() - k0);
    for (std::size_t m = 0; m < y.rows(); ++m) std::memcpy(x_block + m * x_stride, x.row(m) + k0, depth * sizeof(float));
    for (std::size_t n = 0; n < y.cols(); n += width) {
      float* const panel = panels + n * gemm_k_block;
      pack_panel(w, n, k0, depth, panel);
      for (std::size_t m = 0; m < y.rows(); m += height)
        multiply_rows<height>(HWY_MIN(height, y.rows() - m), x_block + m * x_stride, panel, depth,
                              {y.row(m) + n, y.stride(), HWY_MIN(width, y.cols() - n), k0 == 0});
    }
  }
}

/// As to_bf16, with integer arithmetic only.
inline void round_to_bf16(matrix_view<const float> x, matrix_view<bf16> out) {
  const hn::ScalableTag<std::uint32_t> du;
  const hn::Rebind<std::uint16_t, decltype(du)> dh;
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const auto* from = reinterpret_cast<const std::uint32_t*>(x.row(r));
    auto* to = reinterpret_cast<std::uint16_t*>(out.row(r));
    std::size_t c = 0;
    for (; c + lanes <= x.cols(); c += lanes) {
      const auto bits = hn::LoadU(du, from + c);
      const auto upper = hn::ShiftRight<16>(bits);
      const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(hn::Set(du, 0x7fff), hn::And(upper, hn::Set(du, 1)))));
      const hn::RebindToSigned<decltype(du)> di;
      const auto magnitude = hn::BitCast(di, hn::And(bits, hn::Set(du, 0x7fffffff)));
      const auto nan = hn::RebindMask(du, hn::Gt(magnitude, hn::Set(di, 0x7f800000)));
      const auto result = hn::IfThenElse(nan, hn::Or(upper, hn::Set(du, 0x40)), rounded);
      hn::StoreU(hn::DemoteTo(dh, hn::BitCast(di, result)), dh, to + c);
    }
    for (; c < x.cols(); ++c) out(r, c) = to_bf16(x(r, c));
  }
}

inline constexpr gemm_kernels kernels {
#if HWY_TARGET == HWY_AVX3_DL
  "avx3_dl",
#elif HWY_TARGET == HWY_AVX3
  "avx3",
#elif HWY_TARGET == HWY_AVX2
  "avx2",
#else
  "neon",
#endif
      multiply<float>, multiply<bf16>, round_to_bf16, int8_multiply,
};

}  // namespace gemm_tile
}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#else
#define QLIB_GEMM_KERNELS 0
#endif
#endif  // toggle
