/// Matrix products of the float forward.
#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/core/view.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace qlib::inline v0 {

struct gemm_kernels;

/// What the products are computed with.
enum class gemm_kind {
  fastest,       ///< oneDNN when it is built in and installed, else our kernels; ours for small products, where it is slower to start
  reproducible,  ///< our f32 kernels with one summation order on every instruction set (gemm_kernels.hpp): the same bytes on any machine
};

struct gemm_options {
  gemm_kind kind = gemm_kind::fastest;
  /// Round x to bf16 before products with bf16 weights, as a bf16 model does: 2 to 5 times as fast. Only `fastest`, only with a oneDNN and a
  /// CPU that have bf16 products, only products that are not small; the others take x as it is.
  bool bf16_inputs = false;
  std::size_t threads = 1;
};

/// y = x wᵀ, in f32. The number of threads never changes a bit of y: the matrix is cut into tiles of a fixed size, and each is
/// computed by one thread. Any number of threads may use one gemm at a time.
class gemm {
 public:
  explicit gemm(const gemm_options& options = {});

  /// x: [tokens, in_features], w: [out_features, in_features], y: [tokens, out_features]; y overlaps neither.
  void operator()(matrix_view<const float> x, matrix_view<const float> w, matrix_view<float> y) const;
  void operator()(matrix_view<const float> x, matrix_view<const bf16> w, matrix_view<float> y) const;

  const gemm_options& options() const { return options_; }

  /// What runs, for the report: "onednn 2.6.3 bf16, highway avx3_dl f32 for small products", "highway avx2 f32", "scalar f32", ….
  std::string_view name() const { return name_; }

 private:
  bool multiply_bf16(matrix_view<const float> x, matrix_view<const bf16> w, matrix_view<float> y) const;
  template <class W>
  void multiply_ours(matrix_view<const float> x, matrix_view<const W> w, matrix_view<float> y) const;

  gemm_options options_;
  const gemm_kernels* kernels_;
  bool onednn_f32_ = false, onednn_bf16_ = false;
  std::string name_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/linalg/gemm.ipp>
#endif
