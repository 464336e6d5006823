// The exact int8 product of gemm_kernels.hpp for one SIMD target, where gemm_kernels-inl.hpp has kernels. Columns of y are the lanes of a
// vector. A word is what one instruction multiplies and adds within a lane: four bytes of k where the CPU has VNNI, else two shorts.
#if defined(QLIB_LINALG_INT8_KERNELS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_LINALG_INT8_KERNELS_INL
#undef QLIB_LINALG_INT8_KERNELS_INL
#else
#define QLIB_LINALG_INT8_KERNELS_INL
#endif

#include <qlib/linalg/gemm_kernels.hpp>

#include <hwy/highway.h>

#include <cstring>

#if (HWY_TARGET == HWY_AVX2 && !defined(HWY_DISABLE_BMI2_FMA)) || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {
namespace int8_tile {
namespace hn = hwy::HWY_NAMESPACE;

using word_tag = hn::ScalableTag<std::int32_t>;
using words = hn::Vec<word_tag>;

inline constexpr bool has_vnni = HWY_TARGET == HWY_AVX3_DL;
inline constexpr std::size_t lanes = HWY_LANES(std::int32_t);
inline constexpr std::size_t width = 2 * lanes;                         ///< columns of y that a block of registers holds
inline constexpr std::size_t height = HWY_TARGET == HWY_AVX2 ? 4 : 12;  ///< its rows
inline constexpr std::size_t per_word = has_vnni ? 4 : 2;
inline constexpr std::size_t k_words = gemm_k_block - 1;  ///< of a block of k; one row of a panel holds corrections
inline constexpr std::size_t x_stride = gemm_k_block;

/// sum + the products of the lane's parts, added. VNNI takes x as unsigned bytes.
HWY_INLINE words add_products(words sum, words x, words w) {
#if HWY_TARGET == HWY_AVX3_DL
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(x.raw), "v"(w.raw));  // Highway 1.0.3 does not switch VNNI on for this target
  return sum;
#else
  const hn::ScalableTag<std::int16_t> d;
  words unused = sum;
  return hn::ReorderWidenMulAccumulate(word_tag{}, hn::BitCast(d, x), hn::BitCast(d, w), sum, unused);
#endif
}

/// The sums of `Rows` rows of x with one panel of w. Nested, as in gemm_kernels-inl.hpp.
template <std::size_t Rows>
struct block_of_sums {
  words low, high;
  block_of_sums<Rows - 1> below;

  HWY_INLINE void start(words a, words b) {
    low = a;
    high = b;
    below.start(a, b);
  }
  HWY_INLINE void add(const std::int32_t* HWY_RESTRICT x, words w_low, words w_high) {
    const words v = hn::Set(word_tag{}, *x);
    low = add_products(low, v, w_low);
    high = add_products(high, v, w_high);
    below.add(x + x_stride, w_low, w_high);
  }
  HWY_INLINE void store(std::int32_t* HWY_RESTRICT y, std::size_t stride, bool replaces) const {
    const word_tag d;
    hn::StoreU(replaces ? low : hn::Add(hn::LoadU(d, y), low), d, y);
    hn::StoreU(replaces ? high : hn::Add(hn::LoadU(d, y + lanes), high), d, y + lanes);
    below.store(y + stride, stride, replaces);
  }
};
template <>
struct block_of_sums<0> {
  HWY_INLINE void start(words, words) {}
  HWY_INLINE void add(const std::int32_t*, words, words) {}
  HWY_INLINE void store(std::int32_t*, std::size_t, bool) const {}
};

struct destination {
  std::int32_t* y;
  std::size_t stride, cols;
  bool replaces;
};

/// panel: a row of corrections, then `depth` rows of words.
template <std::size_t Rows>
HWY_NOINLINE void multiply_block(const std::int32_t* HWY_RESTRICT x, const std::int32_t* HWY_RESTRICT panel, std::size_t depth, destination to) {
  const word_tag d;
  block_of_sums<Rows> sums;
  sums.start(hn::Load(d, panel), hn::Load(d, panel + lanes));
  panel += width;
  for (std::size_t k = 0; k < depth; ++k, panel += width) sums.add(x + k, hn::Load(d, panel), hn::Load(d, panel + lanes));
  if (to.cols == width) return sums.store(to.y, to.stride, to.replaces);
  HWY_ALIGN std::int32_t edge[Rows * width];
  sums.store(edge, width, true);
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t c = 0; c < to.cols; ++c) {
      std::int32_t& out = to.y[r * to.stride + c];
      out = static_cast<std::int32_t>(static_cast<std::uint32_t>(to.replaces ? 0 : out) + static_cast<std::uint32_t>(edge[r * width + c]));
    }
}

template <std::size_t Rows>
HWY_INLINE void multiply_rows(std::size_t rows, const std::int32_t* x, const std::int32_t* panel, std::size_t depth, destination to) {
  if constexpr (Rows > 0) {
    if (rows == Rows) multiply_block<Rows>(x, panel, depth, to);
    else multiply_rows<Rows - 1>(rows, x, panel, depth, to);
  }
}

/// `count` elements as words, zeros behind the last.
HWY_INLINE void to_words(const std::int8_t* from, std::size_t count, std::size_t depth, std::int32_t* out) {
  if constexpr (has_vnni) {
    std::memcpy(out, from, count);
    std::memset(reinterpret_cast<char*>(out) + count, 0, depth * per_word - count);
  } else {
    const hn::ScalableTag<std::int16_t> d;
    const hn::Rebind<std::int8_t, decltype(d)> d8;
    auto* shorts = reinterpret_cast<std::int16_t*>(out);
    std::size_t i = 0;
    for (; i + 2 * lanes <= count; i += 2 * lanes) hn::StoreU(hn::PromoteTo(d, hn::LoadU(d8, from + i)), d, shorts + i);
    for (; i < count; ++i) shorts[i] = from[i];
    for (; i < depth * per_word; ++i) shorts[i] = 0;
  }
}

/// Rows [first, first + width) of w as words, rows that w lacks as zeros; before them what the sums start from: x's bytes have 128 too much.
HWY_NOINLINE void pack_panel(matrix_view<const std::int8_t> w, std::size_t first, std::size_t k0, std::size_t count, std::size_t depth,
                             std::int32_t* HWY_RESTRICT panel) {
  const word_tag d;
  HWY_ALIGN std::int32_t row[4][gemm_k_block];
  const std::size_t rows = HWY_MIN(width, w.rows() - first);
  const hn::CappedTag<std::int32_t, 4> d4;
  const hn::Repartition<std::int64_t, decltype(d4)> d64;
  std::int32_t* const body = panel + width;
  for (std::size_t c = 0; c < width; c += 4) {
    for (std::size_t i = 0; i < 4; ++i)
      if (c + i < rows) to_words(w.row(first + c + i) + k0, count, depth, row[i]);
      else std::memset(row[i], 0, depth * sizeof(std::int32_t));
    std::size_t k = 0;
    for (; k + 4 <= depth; k += 4) {
      const auto a = hn::Load(d4, row[0] + k), b = hn::Load(d4, row[1] + k), e = hn::Load(d4, row[2] + k), f = hn::Load(d4, row[3] + k);
      const auto ab0 = hn::BitCast(d64, hn::InterleaveLower(d4, a, b)), ab1 = hn::BitCast(d64, hn::InterleaveUpper(d4, a, b));
      const auto ef0 = hn::BitCast(d64, hn::InterleaveLower(d4, e, f)), ef1 = hn::BitCast(d64, hn::InterleaveUpper(d4, e, f));
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d64, ab0, ef0)), d4, body + k * width + c);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d64, ab0, ef0)), d4, body + (k + 1) * width + c);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d64, ab1, ef1)), d4, body + (k + 2) * width + c);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d64, ab1, ef1)), d4, body + (k + 3) * width + c);
    }
    for (; k < depth; ++k)
      for (std::size_t i = 0; i < 4; ++i) body[k * width + c + i] = row[i][k];
  }
  for (std::size_t half = 0; half < width; half += lanes) {
    words start = hn::Zero(d);
    if constexpr (has_vnni) {
      const words all_128 = hn::Set(d, static_cast<std::int32_t>(0x80808080u));
      for (std::size_t k = 0; k < depth; ++k) start = add_products(start, all_128, hn::Load(d, body + k * width + half));
      start = hn::Neg(start);
    }
    hn::Store(start, d, panel + half);
  }
}

inline void multiply(matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w, matrix_view<std::int32_t> y, float* workspace) {
  if (y.rows() == 0 || y.cols() == 0) return;
  auto* const x_block = reinterpret_cast<std::int32_t*>(workspace);
  std::int32_t* const panels = x_block + gemm_tile_rows * gemm_k_block;
  if (x.cols() == 0)
    for (std::size_t m = 0; m < y.rows(); ++m) std::memset(y.row(m), 0, y.cols() * sizeof(std::int32_t));
  for (std::size_t k0 = 0; k0 < x.cols(); k0 += k_words * per_word) {
    const std::size_t count = HWY_MIN(k_words * per_word, x.cols() - k0), depth = (count + per_word - 1) / per_word;
    for (std::size_t m = 0; m < y.rows(); ++m) {
      std::int32_t* const out = x_block + m * x_stride;
      to_words(x.row(m) + k0, count, depth, out);
      if constexpr (has_vnni)
        for (std::size_t k = 0; k < depth; ++k) out[k] ^= static_cast<std::int32_t>(0x80808080u);
    }
    for (std::size_t n = 0; n < y.cols(); n += width) {
      std::int32_t* const panel = panels + n * gemm_k_block;
      pack_panel(w, n, k0, count, depth, panel);
      for (std::size_t m = 0; m < y.rows(); m += height)
        multiply_rows<height>(HWY_MIN(height, y.rows() - m), x_block + m * x_stride, panel, depth,
                              {y.row(m) + n, y.stride(), HWY_MIN(width, y.cols() - n), k0 == 0});
    }
  }
}

}  // namespace int8_tile
inline constexpr auto int8_multiply = int8_tile::multiply;
}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#elif HWY_TARGET == HWY_NEON && HWY_ARCH_ARM_A64
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {
inline constexpr auto int8_multiply = detail::scalar_int8_gemm;
}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
#endif
#endif  // toggle
