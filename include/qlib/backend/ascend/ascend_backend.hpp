/// Kernels on an Ascend NPU. Nothing of Ascend is needed to build, or to run without one.
///
///     auto lanes = qlib::open_lanes({0, 1}, 3);                 // two devices, three workers each
///     if (!lanes) return report(lanes.error());                 // "npu: no CANN: ...: install CANN ..."
///     (*lanes)[worker].quantize(weight, spec, params, codes);   // one thread a lane
///     if (auto s = (*lanes)[worker].finish(); !s) ...           // the lane is lost: its results since the last good finish are not valid
#pragma once
#include <qlib/backend/ascend/hold_operation.hpp>
#include <qlib/backend/ascend/lane.hpp>
#include <qlib/backend/ascend/staging.hpp>
#include <qlib/backend/native.hpp>

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace qlib::inline v0 {

/// A lane of a device, as a Backend. Copies are the same lane. Calls are complete when they return; different lanes work at once, each on a
/// thread of its own.
///
/// Ranges, column_absmax, histogram and dequantize give the bits of scalar_backend, codes are within ascend::numeric_bounds. What a device cannot
/// do, or not exactly, the CPU does: `paths` tells. Kernels return nothing: after a run_failed of `finish`, what the lane wrote since the last
/// good `finish` is not valid, and later calls write nothing.
class ascend_backend {
 public:
  static constexpr std::string_view name = "ascend";
  /// Matrices much smaller than this are not worth a call.
  static constexpr std::size_t preferred_bytes = std::size_t{4} << 20;

  /// No device: everything runs on the CPU.
  ascend_backend() = default;
  explicit ascend_backend(std::shared_ptr<ascend::lane> lane) : lane_{std::move(lane)} {}

  /// Success, or what this lane failed of: the device was lost, or did not answer (run_failed). Its work can be given to another lane.
  status finish() const;
  bool lost() const { return lane_ && lane_->lost(); }
  /// "quantize: AscendQuantV3": one line for each operation since the lane was opened, or `forget_paths`.
  std::vector<std::string> paths() const;
  void forget_paths() const;
  /// Null without a device.
  const std::shared_ptr<ascend::lane>& shared_lane() const { return lane_; }
  /// -1 without one.
  int device_id() const { return lane_ ? lane_->dev().id() : -1; }
  /// Null without a device. For shutdown, after the last lane of the process is gone.
  std::shared_ptr<ascend::library> library() const { return lane_ ? lane_->lib() : nullptr; }

  /// qlib::hold: x stays in the device's memory as long as the result lives; one matrix a lane.
  class held_matrix {
   public:
    held_matrix(std::shared_ptr<ascend::lane> l, const ascend::host_matrix& x) : lane_{std::move(l)}, scope_{lane_.get(), x} {}
    explicit operator bool() const { return static_cast<bool>(scope_); }

   private:
    std::shared_ptr<ascend::lane> lane_;
    ascend::hold_scope scope_;  // ends first
  };
  template <Element T>
  [[nodiscard]] held_matrix hold(matrix_view<const T> x) const {
    return {lane_, ascend::host_matrix{x}};
  }

  template <Element T>
  void ranges(matrix_view<const T> x, tile t, std::span<range> out) const {
    ranges_of(ascend::host_matrix{x}, t, out);
  }
  template <Element T>
  void column_absmax(matrix_view<const T> x, std::span<float> out) const {
    column_absmax_of(ascend::host_matrix{x}, out);
  }
  template <Element T>
  void histogram(matrix_view<const T> x, range limits, std::span<std::uint32_t> counts) const {
    histogram_of(ascend::host_matrix{x}, limits, counts);
  }
  template <Element T>
  void quantize(matrix_view<const T> x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes) const {
    quantize_of(ascend::host_matrix{x}, spec, q, codes);
  }
  void dequantize(matrix_view<const std::int8_t> codes, const quant_spec& spec, const_qparams_view q, matrix_view<float> out) const;

  /// Work that moves more bytes than it computes stays on the CPU.
  template <Element T>
  void to_float(matrix_view<const T> x, matrix_view<float> out) const {
    native_backend{}.to_float(x, out);
  }
  template <Element T>
  std::size_t outside(matrix_view<const T> x, range inner, std::span<float> out) const {
    return native_backend{}.outside(x, inner, out);
  }
  void solve_qparams(std::span<const range> seen, const quant_spec& spec, qparams_view out) const { native_backend{}.solve_qparams(seen, spec, out); }
  void pack_nibbles(matrix_view<const std::int8_t> codes, std::uint8_t flip, matrix_view<std::uint8_t> bytes) const {
    native_backend{}.pack_nibbles(codes, flip, bytes);
  }
  void pack_nibble_rows(matrix_view<const std::int8_t> codes, matrix_view<std::uint8_t> bytes) const {
    native_backend{}.pack_nibble_rows(codes, bytes);
  }

  template <Element T>
  bool scaled_quantize(matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, qparams_view q,
                       matrix_view<std::int8_t> codes) const {
    return native_backend{}.scaled_quantize(x, factors, spec, q, codes);
  }
  template <Element T>
  bool scaled_fake_quantize(matrix_view<const T> x, std::span<const float> factors, const quant_spec& spec, matrix_view<float> out) const {
    return native_backend{}.scaled_fake_quantize(x, factors, spec, out);
  }
  void hadamard_rows(matrix_view<float> x, std::size_t block) const { native_backend{}.hadamard_rows(x, block); }
  void hadamard_columns(matrix_view<float> x, std::size_t block) const { native_backend{}.hadamard_columns(x, block); }
  void combine_rows(matrix_view<const float> factors, matrix_view<const float> x, matrix_view<float> out) const {
    native_backend{}.combine_rows(factors, x, out);
  }

  /// x[r, c] *= factors[r], and x[r, c] *= factors[c]; one rounding each.
  void scale_rows(matrix_view<float> x, std::span<const float> factors) const;
  void scale_columns(matrix_view<float> x, std::span<const float> factors) const;

  /// Dynamic activations: ascend::quantize_per_token.
  template <Element T>
  void quantize_per_token(matrix_view<const T> x, matrix_view<std::int8_t> codes, std::span<float> scales) const {
    quantize_per_token_of(ascend::host_matrix{x}, codes, scales);
  }
  /// Quantized linear layers for evaluation: ascend::int8_matmul and ascend::weight_only_matmul.
  void int8_matmul(matrix_view<const std::int8_t> x, std::span<const float> x_scales, matrix_view<const std::int8_t> w,
                   std::span<const float> w_scales, matrix_view<float> out) const;
  template <Element T>
  void weight_only_matmul(matrix_view<const T> x, matrix_view<const std::int8_t> w, const quant_spec& spec, const_qparams_view q,
                          matrix_view<float> out) const {
    weight_only_matmul_of(ascend::host_matrix{x}, w, spec, q, out);
  }

 private:
  void ranges_of(const ascend::host_matrix& x, tile t, std::span<range> out) const;
  void column_absmax_of(const ascend::host_matrix& x, std::span<float> out) const;
  void histogram_of(const ascend::host_matrix& x, range limits, std::span<std::uint32_t> counts) const;
  void quantize_of(const ascend::host_matrix& x, const quant_spec& spec, const_qparams_view q, matrix_view<std::int8_t> codes) const;
  void quantize_per_token_of(const ascend::host_matrix& x, matrix_view<std::int8_t> codes, std::span<float> scales) const;
  void weight_only_matmul_of(const ascend::host_matrix& x, matrix_view<const std::int8_t> w, const quant_spec& spec, const_qparams_view q,
                             matrix_view<float> out) const;

  std::shared_ptr<ascend::lane> lane_;
};
static_assert(Backend<ascend_backend>);

/// `lanes_per_device` lanes on each device, the first lane of each device first. The libraries are loaded here; they stay initialized until
/// library()->shutdown(). Errors: ascend::library::open, and a device that does not open.
result<std::vector<ascend_backend>> open_lanes(const std::vector<int>& devices, std::size_t lanes_per_device,
                                               const ascend::lane_options& options = {}, const ascend::library_options& libraries = {});

/// The same with libraries that are loaded.
result<std::vector<ascend_backend>> open_lanes(std::shared_ptr<ascend::library> library, const std::vector<int>& devices,
                                               std::size_t lanes_per_device, const ascend::lane_options& options = {});

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/ascend_backend.ipp>
#endif
