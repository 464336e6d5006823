#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/linalg/hadamard.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace qlib::inline v0 {
namespace detail {

inline constexpr std::size_t largest_base = 4096;

/// q = p^k for a prime p; {0, 0} for what is no prime power.
struct prime_power {
  std::size_t p = 0, k = 0;
};
inline prime_power as_prime_power(std::size_t q) {
  if (q < 2) return {};
  std::size_t p = 2;
  while (q % p != 0) p += p * p > q ? q - p : 1;
  std::size_t k = 0, rest = q;
  for (; rest % p == 0; rest /= p) ++k;
  return rest == 1 ? prime_power{p, k} : prime_power{};
}

/// The quadratic character of the field of q = p^k elements, element i being the polynomial whose coefficients are i's digits in base p:
/// 0 of zero, 1 of squares, -1 of the others.
inline std::vector<int> quadratic_character(std::size_t q, prime_power power) {
  const std::size_t top = q / power.p;  // the weight of the leading digit
  // Where x has order q - 1 modulo a monic polynomial, its powers are the field but zero, and the even ones are the squares.
  for (std::size_t polynomial = 1; polynomial < q; ++polynomial) {
    std::vector<int> character(q, 0);
    std::size_t element = 1, order = 0;
    while (character[element] == 0 && element != 0) {
      character[element] = order % 2 == 0 ? 1 : -1;
      ++order;
      const std::size_t lead = element / top;
      std::size_t next = element % top * power.p;  // times x; then less lead times the polynomial
      for (std::size_t weight = 1; weight < q; weight *= power.p) {
        const std::size_t digit = next / weight % power.p, less = lead * (polynomial / weight % power.p) % power.p;
        next += ((digit + power.p - less) % power.p) * weight;
        next -= digit * weight;
      }
      element = next;
    }
    if (order == q - 1 && element == 1) return character;
  }
  return {};
}

/// [q, q]: the character of row minus column.
inline std::vector<int> jacobsthal(std::size_t q) {
  const prime_power power = as_prime_power(q);
  const std::vector<int> character = quadratic_character(q, power);
  std::vector<int> out(q * q);
  for (std::size_t r = 0; r < q; ++r)
    for (std::size_t c = 0; c < q; ++c) {
      std::size_t difference = 0;
      for (std::size_t weight = 1; weight < q; weight *= power.p)
        difference += (r / weight % power.p + power.p - c / weight % power.p) % power.p * weight;
      out[r * q + c] = character[difference];
    }
  return out;
}

inline sign_matrix paley_first(std::size_t q) {
  const std::vector<int> j = jacobsthal(q);
  sign_matrix h{q + 1, std::vector<std::int8_t>((q + 1) * (q + 1), 1)};
  for (std::size_t r = 1; r <= q; ++r) {
    h.signs[r * (q + 1)] = -1;
    for (std::size_t c = 1; c <= q; ++c) h.signs[r * (q + 1) + c] = static_cast<std::int8_t>(r == c ? 1 : j[(r - 1) * q + c - 1]);
  }
  return h;
}

inline sign_matrix paley_second(std::size_t q) {
  const std::vector<int> j = jacobsthal(q);
  const std::size_t n = 2 * (q + 1);
  sign_matrix h{n, std::vector<std::int8_t>(n * n)};
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < n; ++c) {
      const std::size_t a = r / 2, b = c / 2, corner = r % 2 * 2 + c % 2;
      constexpr int on_diagonal[] = {1, -1, -1, -1}, elsewhere[] = {1, 1, 1, -1};
      const int s = a == 0 || b == 0 ? 1 : j[(a - 1) * q + b - 1];
      h.signs[r * n + c] = static_cast<std::int8_t>(a == b ? on_diagonal[corner] : s * elsewhere[corner]);
    }
  return h;
}

/// First rows of four circulants whose autocorrelations add up to zero. Found by exhaustive search among rows that a group of multipliers
/// leaves as they are.
using four_rows = std::array<std::string_view, 4>;
inline constexpr four_rows circulants[] = {
    {"-+-----+++-++-+++-----+", "-++--+++-+-++-+-+++--++", "++-+-++-+--++--+-++-+-+", "-+++-------++-------+++"},
    {"++-+++---+--+-++-+--+---+++-+", "-------+++-+--++--+-+++------", "+-+-++---+--+-++-+--+---++-+-", "++++---+++-+--++--+-+++---+++"},
    {"++-----++--+++--++--+++++-+---+--++-+++", "-+-++---++++----++-++++++++++--+-+----+", "+---+-+---+-+--+-+++-+-++++-+-++-+--+-+",
     "-++-++++--+-+-+++-+--++-+++--++-++++++-"},
    {"++---++++-+--+--++--------++--+--+-++++---+", "--+------++++-+-++--+--+--++-+-++++------+-", "+++-+-++--+-+-++++-+----+-++++-+-+--++-+-++",
     "+---++--++++-+-+++-++--++-+++-+-++++--++---"}};

inline sign_matrix goethals_seidel(const four_rows& rows) {
  const std::size_t t = rows[0].size(), n = 4 * t;
  sign_matrix h{n, std::vector<std::int8_t>(n * n)};
  // Row by row of blocks: which circulant, negated or not. Off the diagonal they are reversed, below the first row transposed before.
  constexpr int which[4][4] = {{0, 1, 2, 3}, {-1, 0, 3, -2}, {-2, -3, 0, 1}, {-3, 2, -1, 0}};
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < n; ++c) {
      const std::size_t a = r / t, b = c / t, i = r % t, k = c % t;
      const int from = which[a][b];
      const bool transposed = a != 0 && b != 0;
      const std::size_t at = a == b ? (k + t - i) % t : transposed ? (i + k + 1) % t : (2 * t - 1 - k - i) % t;
      const int sign = rows[static_cast<std::size_t>(std::abs(from))][at] == '+' ? 1 : -1;
      h.signs[r * n + c] = static_cast<std::int8_t>(from < 0 ? -sign : sign);
    }
  return h;
}

enum class hadamard_kind { none, one, paley_first, paley_second, goethals_seidel };

/// Which construction gives this order without doubling.
inline hadamard_kind construction_of(std::size_t order) {
  if (order == 1) return hadamard_kind::one;
  if (order % 4 != 0 || order > largest_base) return hadamard_kind::none;
  if (as_prime_power(order - 1).p != 0) return hadamard_kind::paley_first;  // q = 3 mod 4, as 4 divides the order
  if (order / 2 % 4 == 2 && as_prime_power(order / 2 - 1).p != 0) return hadamard_kind::paley_second;
  for (const four_rows& rows : circulants)
    if (order == 4 * rows[0].size()) return hadamard_kind::goethals_seidel;
  return hadamard_kind::none;
}

}  // namespace detail

QLIB_INLINE std::size_t hadamard_base(std::size_t order) {
  if (order == 0) return 0;
  std::size_t base = order;
  while (base % 2 == 0) base /= 2;
  for (; base <= order && base <= detail::largest_base; base *= 2)
    if (detail::construction_of(base) != detail::hadamard_kind::none) return base;
  return 0;
}

QLIB_INLINE bool has_hadamard(std::size_t order) { return hadamard_base(order) != 0; }

QLIB_INLINE result<sign_matrix> hadamard_matrix(std::size_t order) {
  const std::size_t base = hadamard_base(order);
  if (base == 0) {
    std::size_t below = order, above = order + 1;
    while (below > 0 && !has_hadamard(below)) --below;
    while (!has_hadamard(above)) ++above;
    return error{.subject = "a Hadamard matrix of order " + std::to_string(order),
                 .problem = order % 4 == 0 && order > 0 ? "no construction here gives it" : "there is none: orders are 1, 2 and multiples of 4",
                 .remedy = "the nearest are " + (below > 0 ? std::to_string(below) + " and " : std::string{}) + std::to_string(above) +
                           "; or rotate blocks of a size that divides the channels"};
  }
  sign_matrix b{1, {1}};
  switch (detail::construction_of(base)) {
    case detail::hadamard_kind::paley_first:
      b = detail::paley_first(base - 1);
      break;
    case detail::hadamard_kind::paley_second:
      b = detail::paley_second(base / 2 - 1);
      break;
    case detail::hadamard_kind::goethals_seidel:
      for (const detail::four_rows& rows : detail::circulants)
        if (base == 4 * rows[0].size()) b = detail::goethals_seidel(rows);
      break;
    default:
      break;
  }
  const std::size_t m = order / base;
  sign_matrix h{order, std::vector<std::int8_t>(order * order)};
  for (std::size_t r = 0; r < order; ++r)
    for (std::size_t c = 0; c < order; ++c) {
      std::size_t shared = r % m & c % m, odd = 0;
      for (; shared != 0; shared &= shared - 1) odd ^= 1;
      const std::int8_t s = b.signs[r / m * base + c / m];
      h.signs[r * order + c] = odd != 0 ? static_cast<std::int8_t>(-s) : s;
    }
  return h;
}

QLIB_INLINE result<hadamard_rotation> hadamard_rotation::make(std::size_t size, const rotation_options& options) {
  const std::size_t block = options.block_size == 0 ? size : options.block_size;
  if (size == 0 || size % block != 0)
    return error{.subject = "a rotation of " + std::to_string(size) + " channels",
                 .problem = "is not a multiple of the block size " + std::to_string(block),
                 .remedy = "choose a block size that divides it"};
  hadamard_rotation out;
  out.size_ = size;
  out.base_ = hadamard_base(block);
  out.threads_ = std::max<std::size_t>(1, options.threads);
  out.seed_ = options.seed;
  if (out.base_ != 1) {
    auto base = hadamard_matrix(out.base_ == 0 ? block : out.base_);
    if (!base) return std::move(base).error();
    out.base_matrix_.resize(out.base_ * out.base_);
    out.base_transposed_.resize(out.base_ * out.base_);
    for (std::size_t r = 0; r < out.base_; ++r)
      for (std::size_t c = 0; c < out.base_; ++c)
        out.base_matrix_[r * out.base_ + c] = out.base_transposed_[c * out.base_ + r] = static_cast<float>((*base)(r, c));
  }
  out.signs_.assign(block, static_cast<float>(1 / std::sqrt(static_cast<double>(block))));
  if (options.seed) {
    std::uint64_t state = *options.seed;
    for (float& s : out.signs_) {
      std::uint64_t z = state += 0x9e3779b97f4a7c15u;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      z ^= z >> 31;
      if ((z >> 63) != 0) s = -s;
    }
  }
  return out;
}

QLIB_INLINE void hadamard_rotation::rotate_row(float* x, float* scratch, bool back) const {
  const native_backend kernels;
  const std::size_t block = signs_.size(), power = block / base_;
  const matrix_view<float> blocks{x, size_ / block, block};
  if (!back) kernels.scale_columns(blocks, signs_);
  kernels.hadamard_rows({x, 1, size_}, power);
  if (base_ > 1)
    for (std::size_t b = 0; b < blocks.rows(); ++b) {
      kernels.combine_rows({(back ? base_transposed_ : base_matrix_).data(), base_, base_}, {blocks.row(b), base_, power}, {scratch, base_, power});
      std::memcpy(blocks.row(b), scratch, block * sizeof(float));
    }
  if (back) kernels.scale_columns(blocks, signs_);
}

QLIB_INLINE void hadamard_rotation::rotate_rows(matrix_view<float> x, bool back) const {
  constexpr std::size_t strip = 16;
  const std::size_t tasks = (x.rows() + strip - 1) / strip, threads = std::min(threads_, std::max<std::size_t>(1, tasks));
  std::vector<float> scratch(threads * signs_.size());
  parallel_for(tasks, threads, [&](std::size_t worker, std::size_t task) {
    for (std::size_t r = task * strip; r < std::min((task + 1) * strip, x.rows()); ++r)
      rotate_row(x.row(r), scratch.data() + worker * signs_.size(), back);
    return true;
  });
}

QLIB_INLINE void hadamard_rotation::rotate_columns(matrix_view<float> w, bool back) const {
  // Whole rows at a time, in as few passes over memory as there is cache and registers for: the first on 64 neighbouring rows, the others on 16 rows
  // far apart. Distances grow from pass to pass, as in hadamard_columns.
  const native_backend kernels;
  constexpr std::size_t width = 1024;
  const std::size_t block = signs_.size(), power = block / base_, strips = (w.cols() + width - 1) / width;
  const auto each_part = [&](std::size_t groups, const auto& work) {  // work(group, first column, columns)
    parallel_for(groups * strips, threads_, [&](std::size_t, std::size_t task) {
      const std::size_t c = task % strips * width;
      work(task / strips, c, std::min(width, w.cols() - c));
      return true;
    });
  };
  const auto scale = [&](std::size_t first, std::size_t rows, std::size_t c, std::size_t cols) {
    kernels.scale_rows({w.row(first) + c, rows, cols, w.stride()}, std::span{signs_}.subspan(first % block, rows));
  };
  const std::size_t near = std::min<std::size_t>(power, 64);
  each_part(size_ / near, [&](std::size_t group, std::size_t c, std::size_t cols) {
    if (!back) scale(group * near, near, c, cols);
    kernels.hadamard_columns({w.row(group * near) + c, near, cols, w.stride()}, near);
  });
  for (std::size_t distance = near; distance < power;) {
    const std::size_t together = std::min<std::size_t>(power / distance, 16);
    each_part(size_ / together, [&](std::size_t group, std::size_t c, std::size_t cols) {
      const std::size_t first = group / distance * distance * together + group % distance;
      kernels.hadamard_columns({w.row(first) + c, together, cols, w.stride() * distance}, together);
    });
    distance *= together;
  }
  if (base_ > 1)
    each_part(size_ / base_, [&](std::size_t group, std::size_t c, std::size_t cols) {
      const matrix_view<float> rows{w.row(group / power * block + group % power) + c, base_, cols, w.stride() * power};
      std::vector<float> sums(base_ * cols);
      kernels.combine_rows({(back ? base_transposed_ : base_matrix_).data(), base_, base_}, rows, {sums.data(), base_, cols});
      for (std::size_t i = 0; i < base_; ++i) std::memcpy(rows.row(i), sums.data() + i * cols, cols * sizeof(float));
    });
  if (back) each_part(size_ / near, [&](std::size_t group, std::size_t c, std::size_t cols) { scale(group * near, near, c, cols); });
}

QLIB_INLINE void hadamard_rotation::rows(matrix_view<float> x) const { rotate_rows(x, false); }
QLIB_INLINE void hadamard_rotation::rows_back(matrix_view<float> x) const { rotate_rows(x, true); }
QLIB_INLINE void hadamard_rotation::columns(matrix_view<float> w) const { rotate_columns(w, false); }
QLIB_INLINE void hadamard_rotation::columns_back(matrix_view<float> w) const { rotate_columns(w, true); }

}  // namespace qlib::inline v0
