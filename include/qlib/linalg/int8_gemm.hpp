/// Matrix products of int8 codes: what an engine of W8A8 computes.
#pragma once
#include <qlib/core/buffer.hpp>
#include <qlib/core/view.hpp>
#include <qlib/linalg/gemm.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0 {

/// A matrix quantized symmetrically to int8, each row by its own scale: |largest| / 127, at least 2^-23 (quant_spec's ascend rule). Codes lie in
/// [-127, 127]. Keeps its memory between calls.
class int8_rows {
 public:
  /// Of the products x[r, c] * factors[c], rounded to f32; factors: [columns], finite and positive, or empty for ones. False if a product is not
  /// finite or memory is missing: the contents are not specified then. The number of threads never changes a bit.
  bool quantize(matrix_view<const float> x, std::span<const float> factors = {}, std::size_t threads = 1);

  matrix_view<const std::int8_t> codes() const { return {reinterpret_cast<const std::int8_t*>(memory_.data()), scales_.size(), columns_}; }
  std::span<const float> scales() const { return scales_; }  ///< [rows]

 private:
  buffer memory_;
  std::size_t columns_ = 0;
  std::vector<float> scales_;
};

/// y = x wᵀ of int8. Sums are exact in int32 for fewer than 2^17 columns, so every way of computing them gives the same bits: oneDNN where it is
/// there and the CPU has VNNI or AMX, else our kernels. Any number of threads may use one int8_gemm at a time.
class int8_gemm {
 public:
  /// `kind` chooses as in gemm; both give the same bits.
  explicit int8_gemm(gemm_kind kind = gemm_kind::fastest, std::size_t threads = 1);

  /// x: [tokens, in_features], w: [out_features, in_features], y: [tokens, out_features]; y overlaps neither.
  void operator()(matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w, matrix_view<std::int32_t> y) const;

  /// y = f32(sum) * (x's scale * w's scale), each operation rounded to f32.
  void operator()(const int8_rows& x, const int8_rows& w, matrix_view<float> y) const;

  /// What runs: "onednn 2.6.3 s8, highway avx3_dl s8 for small products", "scalar s8", ….
  std::string_view name() const { return name_; }

 private:
  const gemm_kernels* kernels_;
  bool onednn_ = false;
  std::size_t threads_;
  std::string name_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/linalg/int8_gemm.ipp>
#endif
