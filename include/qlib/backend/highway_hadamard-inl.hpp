// Sylvester's Hadamard transform and sums of signed rows for one SIMD target (see highway_lanes-inl.hpp about the guard).
//
// Each element passes through the distances in ascending order, whatever vectors and passes they are grouped into: so the bits are
// scalar_backend's.
#if defined(QLIB_BACKEND_HIGHWAY_HADAMARD_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_HADAMARD_INL
#undef QLIB_BACKEND_HIGHWAY_HADAMARD_INL
#else
#define QLIB_BACKEND_HIGHWAY_HADAMARD_INL
#endif

#include <qlib/backend/highway_lanes-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

struct lane_signs {
  static constexpr std::size_t steps = lanes == 16 ? 4 : lanes == 8 ? 3 : 2;
  float of[steps][lanes];
};

/// For each distance: 1 for the lanes that become sums, -1 for differences.
constexpr lane_signs signs_of_lanes() {
  lane_signs t{};
  for (std::size_t i = 0; i < lane_signs::steps; ++i)
    for (std::size_t k = 0; k < lanes; ++k) t.of[i][k] = (k >> i & 1) != 0 ? -1.0f : 1.0f;
  return t;
}

/// The distances inside of a vector, up to `Last`: lanes are swapped, and the products with 1 and -1 are exact, fused or not.
class lane_butterflies {
 public:
  HWY_INLINE lane_butterflies() {
    HWY_ALIGN static constexpr lane_signs table = signs_of_lanes();
    for (std::size_t i = 0; i < lane_signs::steps; ++i) sign_[i] = hn::Load(float_tag{}, table.of[i]);
  }

  template <std::size_t Last = lanes / 2>
  HWY_INLINE floats operator()(floats v) const {
    if constexpr (Last >= 1) v = hn::MulAdd(v, sign_[0], hn::Shuffle2301(v));
    if constexpr (Last >= 2) v = hn::MulAdd(v, sign_[1], hn::Shuffle1032(v));
#if HWY_MAX_BYTES >= 32
    if constexpr (Last >= 4) v = hn::MulAdd(v, sign_[2], hn::SwapAdjacentBlocks(v));
#endif
#if HWY_MAX_BYTES >= 64
    if constexpr (Last >= 8) v = hn::MulAdd(v, sign_[3], hn::ConcatLowerUpper(float_tag{}, v, v));
#endif
    return v;
  }

 private:
  floats sign_[lane_signs::steps];
};

/// N vectors, `distance` floats apart. Nested, not an array: then every compiler keeps all of them in registers.
template <std::size_t N>
struct vector_group {
  vector_group<N / 2> low, high;

  HWY_INLINE void load(const float* x, std::size_t distance) {
    low.load(x, distance);
    high.load(x + N / 2 * distance, distance);
  }
  HWY_INLINE void store(float* x, std::size_t distance) const {
    low.store(x, distance);
    high.store(x + N / 2 * distance, distance);
  }
  HWY_INLINE void within(const lane_butterflies& b) {
    low.within(b);
    high.within(b);
  }
  /// The distances 1, 2, ... N / 2 between vectors.
  HWY_INLINE void between() {
    low.between();
    high.between();
    low.meet(high);
  }
  HWY_INLINE void meet(vector_group& other) {
    low.meet(other.low);
    high.meet(other.high);
  }
};
template <>
struct vector_group<1> {
  floats v;

  HWY_INLINE void load(const float* x, std::size_t) { v = hn::LoadU(float_tag{}, x); }
  HWY_INLINE void store(float* x, std::size_t) const { hn::StoreU(v, float_tag{}, x); }
  HWY_INLINE void within(const lane_butterflies& b) { v = b(v); }
  HWY_INLINE void between() {}
  HWY_INLINE void meet(vector_group& other) {
    const floats sum = hn::Add(v, other.v);
    other.v = hn::Sub(v, other.v);
    v = sum;
  }
};

/// Vectors that a pass holds in registers at a time.
inline constexpr std::size_t most_together = HWY_MAX_BYTES == 64 ? 16 : 8;

/// How many of `distances` the next pass takes: as even shares as the registers allow.
HWY_INLINE std::size_t share_of(std::size_t distances) {
  constexpr std::size_t most = most_together == 16 ? 4 : 3;
  const std::size_t passes = (distances + most - 1) / most;
  return passes == 0 ? 0 : (distances + passes - 1) / passes;
}

/// All distances below N * lanes, of n floats.
template <std::size_t N>
HWY_INLINE void first_pass(float* x, std::size_t n) {
  const lane_butterflies inside;
  for (std::size_t i = 0; i < n; i += N * lanes) {
    vector_group<N> g;
    g.load(x + i, lanes);
    g.within(inside);
    g.between();
    g.store(x + i, lanes);
  }
}

/// Distances `distance`, 2 * distance, ... N / 2 * distance, of n floats.
template <std::size_t N>
HWY_INLINE void later_pass(float* x, std::size_t n, std::size_t distance) {
  for (std::size_t i = 0; i < n; i += N * distance)
    for (std::size_t k = i; k < i + distance; k += lanes) {
      vector_group<N> g;
      g.load(x + k, distance);
      g.between();
      g.store(x + k, distance);
    }
}

template <std::size_t Block>
HWY_INLINE void short_blocks(float* x, std::size_t n) {
  const lane_butterflies inside;
  for (std::size_t i = 0; i < n; i += lanes) hn::StoreU(inside.template operator()<Block / 2>(hn::LoadU(float_tag{}, x + i)), float_tag{}, x + i);
}

HWY_INLINE std::size_t exponent_of(std::size_t power_of_two) {
  std::size_t e = 0;
  while ((std::size_t{2} << e) <= power_of_two) ++e;
  return e;
}

/// n floats in blocks of `block`, which holds a vector at least.
inline void long_blocks(float* x, std::size_t n, std::size_t block) {
  std::size_t left = exponent_of(block / lanes), share = share_of(left);
  for (std::size_t at = 0; at < n; at += block) {
    float* const from = x + at;
    std::size_t rest = left, distance = lanes << share;
    switch (share) {
      case 0:
        first_pass<1>(from, block);
        break;
      case 1:
        first_pass<2>(from, block);
        break;
      case 2:
        first_pass<4>(from, block);
        break;
      case 3:
        first_pass<8>(from, block);
        break;
      default:
        first_pass<most_together>(from, block);
        break;
    }
    for (rest -= share; rest > 0;) {
      const std::size_t taken = share_of(rest);
      switch (taken) {
        case 1:
          later_pass<2>(from, block, distance);
          break;
        case 2:
          later_pass<4>(from, block, distance);
          break;
        case 3:
          later_pass<8>(from, block, distance);
          break;
        default:
          later_pass<most_together>(from, block, distance);
          break;
      }
      distance <<= taken;
      rest -= taken;
    }
  }
}

inline void hadamard_rows(matrix_view<float> x, std::size_t block) {
  for (std::size_t r = 0; r < x.rows(); ++r) {
    float* const row = x.row(r);
    if (block >= lanes) {
      long_blocks(row, x.cols(), block);
      continue;
    }
    const std::size_t whole = x.cols() / lanes * lanes;
    if (block == 2) short_blocks<2>(row, whole);
    if (block == 4 && lanes > 4) short_blocks<4>(row, whole);
    if (block == 8 && lanes > 8) short_blocks<8>(row, whole);
    scalar_backend{}.hadamard_rows({row + whole, 1, x.cols() - whole}, block);
  }
}

/// Distances of `distance`, ... N / 2 * distance rows.
template <std::size_t N>
HWY_INLINE void column_pass(matrix_view<float> x, std::size_t whole, std::size_t distance) {
  for (std::size_t r = 0; r < x.rows(); r += N * distance)
    for (std::size_t k = r; k < r + distance; ++k)
      for (std::size_t c = 0; c < whole; c += lanes) {
        vector_group<N> g;
        g.load(x.row(k) + c, distance * x.stride());
        g.between();
        g.store(x.row(k) + c, distance * x.stride());
      }
}

inline void hadamard_columns(matrix_view<float> x, std::size_t block) {
  const std::size_t whole = x.cols() / lanes * lanes;
  std::size_t distance = 1;
  for (std::size_t rest = exponent_of(block); rest > 0;) {
    const std::size_t taken = share_of(rest);
    switch (taken) {
      case 1:
        column_pass<2>(x, whole, distance);
        break;
      case 2:
        column_pass<4>(x, whole, distance);
        break;
      case 3:
        column_pass<8>(x, whole, distance);
        break;
      default:
        column_pass<most_together>(x, whole, distance);
        break;
    }
    distance <<= taken;
    rest -= taken;
  }
  if (whole < x.cols()) scalar_backend{}.hadamard_columns({x.data() + whole, x.rows(), x.cols() - whole, x.stride()}, block);
}

/// out[j, j + N) in columns [c, c + 2 * lanes).
template <std::size_t N>
struct row_sums {
  floats low, high;
  row_sums<N - 1> below;

  HWY_INLINE void start(const float* signs, floats a, floats b) {
    const floats s = hn::Set(float_tag{}, *signs);
    low = hn::Mul(s, a);
    high = hn::Mul(s, b);
    below.start(signs + 1, a, b);
  }
  HWY_INLINE void add(const float* signs, floats a, floats b) {
    const floats s = hn::Set(float_tag{}, *signs);
    low = hn::MulAdd(s, a, low);  // the products are exact: fused or not is the same
    high = hn::MulAdd(s, b, high);
    below.add(signs + 1, a, b);
  }
  HWY_INLINE void join(const row_sums& run) {
    low = hn::Add(low, run.low);
    high = hn::Add(high, run.high);
    below.join(run.below);
  }
  HWY_INLINE void store(float* out, std::size_t stride) const {
    hn::StoreU(low, float_tag{}, out);
    hn::StoreU(high, float_tag{}, out + lanes);
    below.store(out + stride, stride);
  }
};
template <>
struct row_sums<0> {
  HWY_INLINE void start(const float*, floats, floats) {}
  HWY_INLINE void add(const float*, floats, floats) {}
  HWY_INLINE void join(const row_sums&) {}
  HWY_INLINE void store(float*, std::size_t) const {}
};

template <std::size_t N>
HWY_INLINE void sum_rows(matrix_view<const float> signs, matrix_view<const float> x, std::size_t j, std::size_t c, matrix_view<float> out) {
  const float_tag d;
  row_sums<N> sums, run;
  const auto sum_run = [&](row_sums<N>& to, std::size_t first) HWY_ATTR {
    to.start(signs.row(first) + j, hn::LoadU(d, x.row(first) + c), hn::LoadU(d, x.row(first) + c + lanes));
    for (std::size_t i = first + 1; i < std::min(first + scalar_backend::rows_a_run, x.rows()); ++i)
      to.add(signs.row(i) + j, hn::LoadU(d, x.row(i) + c), hn::LoadU(d, x.row(i) + c + lanes));
  };
  sum_run(sums, 0);
  for (std::size_t first = scalar_backend::rows_a_run; first < x.rows(); first += scalar_backend::rows_a_run) {
    sum_run(run, first);
    sums.join(run);
  }
  sums.store(out.row(j) + c, out.stride());
}

inline void combine_rows(matrix_view<const float> signs, matrix_view<const float> x, matrix_view<float> out) {
  constexpr std::size_t together = 4, width = 2 * lanes;
  const std::size_t whole = x.cols() / width * width;
  for (std::size_t c = 0; c < whole; c += width) {
    std::size_t j = 0;
    for (; j + together <= out.rows(); j += together) sum_rows<together>(signs, x, j, c, out);
    for (; j < out.rows(); ++j) sum_rows<1>(signs, x, j, c, out);
  }
  if (whole < x.cols())
    scalar_backend{}.combine_rows(signs, {x.data() + whole, x.rows(), x.cols() - whole, x.stride()},
                                  {out.data() + whole, out.rows(), x.cols() - whole, out.stride()});
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
