/// Hadamard matrices of many orders, and the orthogonal rotations that are made of them (QuaRot, QuIP, SpinQuant).
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/core/view.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace qlib::inline v0 {

/// A square matrix of 1 and -1.
struct sign_matrix {
  std::size_t order = 0;
  std::vector<std::int8_t> signs;  ///< [order, order], row-major

  int operator()(std::size_t r, std::size_t c) const { return signs[r * order + c]; }
};

/// Whether `hadamard_matrix` has this order. Orders up to 256 that are multiples of 4 and not there: 188 and 236 (both exist, neither by the
/// constructions here); of orders that are not 1, 2 or a multiple of 4 there are none.
bool has_hadamard(std::size_t order);

/// A matrix H with H Hᵀ = order I: H_base ⊗ Sylvester, whose base is the smallest that a construction gives: Paley's first (q + 1, q = 3 mod 4)
/// and second (2 q + 2, q = 1 mod 4) over the field of any prime power q, and Goethals and Seidel's array for 92, 116, 156 and 172. The base
/// is at most 4096. An error names the nearest orders that there are.
result<sign_matrix> hadamard_matrix(std::size_t order);

/// The base's order: hadamard_matrix(order) = hadamard_matrix(base) ⊗ Sylvester(order / base). 0 where there is none.
std::size_t hadamard_base(std::size_t order);

struct rotation_options {
  std::size_t block_size = 0;  ///< order of one block; 0: the whole size
  /// Random signs, the same in each block: the i-th is negative if the i-th output of splitmix64, started from the seed, has its top bit set
  /// (state += 0x9e3779b97f4a7c15; then the finalizer of Steele, Lea and Flood 2014). None: all positive.
  std::optional<std::uint64_t> seed = {};
  std::size_t threads = 1;  ///< never changes a bit
};

/// The orthogonal matrix R = I ⊗ diag(signs) H / sqrt(block_size) of order `size`, applied in O(n log n) operations in f32.
///
/// Each element is scaled by a sign / sqrt(block_size) first (forward) or last (inverse), in one rounding, none where the block size is a power of
/// four. Sums go through the power of two in scalar_backend::hadamard_rows' order, then through the base's rows as in combine_rows. So integers with
/// |x| block_size <= 2^24 come back exactly where the block size is a power of four; elsewhere a row
/// comes back within about 2^-22 of its length (root mean square; 1.1 to 2.1 times 2^-23 for orders 4096 to 29568).
class hadamard_rotation {
 public:
  /// Errors: block_size does not divide size; there is no Hadamard matrix of its order.
  static result<hadamard_rotation> make(std::size_t size, const rotation_options& options = {});

  std::size_t size() const { return size_; }
  std::size_t block_size() const { return signs_.size(); }
  /// Of the random signs, if it has some: with size and block size all that makes it.
  std::optional<std::uint64_t> seed() const { return seed_; }

  /// x becomes x R; x: [any, size].
  void rows(matrix_view<float> x) const;
  /// x becomes x Rᵀ.
  void rows_back(matrix_view<float> x) const;
  /// w becomes Rᵀ w; w: [size, any].
  void columns(matrix_view<float> w) const;
  /// w becomes R w.
  void columns_back(matrix_view<float> w) const;

 private:
  hadamard_rotation() = default;
  void rotate_row(float* x, float* scratch, bool back) const;
  void rotate_rows(matrix_view<float> x, bool back) const;
  void rotate_columns(matrix_view<float> w, bool back) const;

  std::size_t size_ = 0, base_ = 1, threads_ = 1;
  std::optional<std::uint64_t> seed_;
  std::vector<float> signs_;        ///< [block_size]: signs / sqrt(block_size)
  std::vector<float> base_matrix_;  ///< [base, base], empty if 1
  std::vector<float> base_transposed_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/linalg/hadamard.ipp>
#endif
