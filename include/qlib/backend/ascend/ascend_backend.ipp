#pragma once
#include <qlib/backend/ascend/ascend_backend.hpp>
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/matmul_operation.hpp>
#include <qlib/backend/ascend/quantize_operation.hpp>
#include <qlib/backend/ascend/range_operation.hpp>
#include <qlib/backend/ascend/scale_operation.hpp>
#include <qlib/backend/ascend/token_operation.hpp>

#include <memory>

namespace qlib::inline v0 {

QLIB_INLINE status ascend_backend::finish() const {
  if (!lost()) return {};
  return lane_->first_failure().as_error(lane_->name(), "check npu-smi info; a run that was killed continues with --resume");
}

QLIB_INLINE std::vector<std::string> ascend_backend::paths() const { return lane_ ? lane_->record().lines() : std::vector<std::string>{}; }

QLIB_INLINE void ascend_backend::forget_paths() const {
  if (lane_) lane_->record().forget();
}

QLIB_INLINE void ascend_backend::ranges_of(const ascend::host_matrix& x, tile t, std::span<range> out) const {
  if (lane_) return ascend::ranges(*lane_, x, t, out);
  ascend::visit_floats(x, [&](auto view) { native_backend{}.ranges(view, t, out); });
}

QLIB_INLINE void ascend_backend::column_absmax_of(const ascend::host_matrix& x, std::span<float> out) const {
  if (lane_) return ascend::column_absmax(*lane_, x, out);
  ascend::visit_floats(x, [&](auto view) { native_backend{}.column_absmax(view, out); });
}

QLIB_INLINE void ascend_backend::histogram_of(const ascend::host_matrix& x, range limits, std::span<std::uint32_t> counts) const {
  if (lane_) return ascend::histogram(*lane_, x, limits, counts);
  ascend::visit_floats(x, [&](auto view) { native_backend{}.histogram(view, limits, counts); });
}

QLIB_INLINE void ascend_backend::quantize_of(const ascend::host_matrix& x, const quant_spec& spec, const_qparams_view q,
                                             matrix_view<std::int8_t> codes) const {
  if (lane_) return ascend::quantize(*lane_, x, spec, q, codes);
  ascend::visit_floats(x, [&](auto view) { native_backend{}.quantize(view, spec, q, codes); });
}

QLIB_INLINE void ascend_backend::dequantize(matrix_view<const std::int8_t> codes, const quant_spec& spec, const_qparams_view q,
                                            matrix_view<float> out) const {
  if (lane_) return ascend::dequantize(*lane_, codes, spec, q, out);
  native_backend{}.dequantize(codes, spec, q, out);
}

QLIB_INLINE void ascend_backend::scale_rows(matrix_view<float> x, std::span<const float> factors) const {
  if (lane_) return ascend::scale_rows(*lane_, x, factors);
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t c = 0; c < x.cols(); ++c) x(r, c) *= factors[r];
}

QLIB_INLINE void ascend_backend::scale_columns(matrix_view<float> x, std::span<const float> factors) const {
  if (lane_) return ascend::scale_columns(*lane_, x, factors);
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t c = 0; c < x.cols(); ++c) x(r, c) *= factors[c];
}

QLIB_INLINE void ascend_backend::quantize_per_token_of(const ascend::host_matrix& x, matrix_view<std::int8_t> codes, std::span<float> scales) const {
  if (lane_) return ascend::quantize_per_token(*lane_, x, codes, scales);
  ascend::quantize_per_token_on_host(x, codes, scales);
}

QLIB_INLINE void ascend_backend::int8_matmul(matrix_view<const std::int8_t> x, std::span<const float> x_scales, matrix_view<const std::int8_t> w,
                                             std::span<const float> w_scales, matrix_view<float> out) const {
  if (lane_) return ascend::int8_matmul(*lane_, x, x_scales, w, w_scales, out);
  ascend::int8_matmul_on_host(x, x_scales, w, w_scales, out);
}

QLIB_INLINE void ascend_backend::weight_only_matmul_of(const ascend::host_matrix& x, matrix_view<const std::int8_t> w, const quant_spec& spec,
                                                       const_qparams_view q, matrix_view<float> out) const {
  if (lane_) return ascend::weight_only_matmul(*lane_, x, w, spec, q, out);
  ascend::weight_only_matmul_on_host(x, w, spec, q, out);
}

QLIB_INLINE result<std::vector<ascend_backend>> open_lanes(std::shared_ptr<ascend::library> library, const std::vector<int>& devices,
                                                           std::size_t lanes_per_device, const ascend::lane_options& options) {
  if (status s = library->check_devices(devices); !s) return std::move(s).error();
  std::vector<std::shared_ptr<ascend::capability>> known;
  std::vector<ascend_backend> lanes;
  for (const int id : devices) {
    std::int64_t architecture = 0;
    if (library->api().aclrtGetDeviceInfo &&
        library->api().aclrtGetDeviceInfo(static_cast<std::uint32_t>(id), ascend::attribute_npu_arch, &architecture) != 0)
      architecture = 0;
    known.push_back(std::make_shared<ascend::capability>(ascend::family_of(library->soc(), architecture)));
  }
  for (std::size_t n = 0; n < lanes_per_device; ++n)
    for (std::size_t d = 0; d < devices.size(); ++d) {
      auto lane = std::make_shared<ascend::lane>(library, known[d], options);
      if (const ascend::failure f = lane->open(devices[d]))
        return f.as_error("npu:" + std::to_string(devices[d]), "check npu-smi info: the device may be in use, or its driver stuck");
      lanes.emplace_back(std::move(lane));
    }
  return lanes;
}

QLIB_INLINE result<std::vector<ascend_backend>> open_lanes(const std::vector<int>& devices, std::size_t lanes_per_device,
                                                           const ascend::lane_options& options, const ascend::library_options& libraries) {
  auto library = ascend::library::open(libraries);
  if (!library) return std::move(library).error();
  auto shared = std::make_shared<ascend::library>(*std::move(library));
  auto lanes = open_lanes(shared, devices, lanes_per_device, options);
  if (!lanes) static_cast<void>(shared->shutdown());
  return lanes;
}

}  // namespace qlib::inline v0
