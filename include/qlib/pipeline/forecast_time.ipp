#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/model/parameter_check.hpp>
#include <qlib/pipeline/forecast_time.hpp>
#include <qlib/pipeline/row_quantizer.hpp>

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace qlib::inline v0 {

namespace detail {

/// The fastest of three calls, in seconds: the first one warms caches up.
template <class Work>
double fastest_seconds(const Work& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

/// Seconds an element of `item` takes to be ranged, rounded and packed, from rows like its own.
template <Element T>
double seconds_an_element(const work_item& item) {
  const linear_encoding& e = *item.encoding;
  const std::size_t tile_rows = std::max<std::size_t>(1, e.spec.granularity.rows);  // of a whole matrix, a strip is enough
  const std::size_t most = std::max<std::size_t>(1, (std::size_t{1} << 18) / item.cols);
  const std::size_t rows = std::min(item.rows, std::max<std::size_t>(tile_rows, most / tile_rows * tile_rows)) / 8 * 8;
  if (rows == 0) return 0;
  std::vector<T> values(rows * item.cols);
  std::uint32_t state = 1;
  for (T& v : values) {
    state = state * 1664525u + 1013904223u;
    const float x = static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-31f;
    if constexpr (std::is_same_v<T, float>) v = x;
    else if constexpr (std::is_same_v<T, bf16>) v = to_bf16(x);
    else v = to_f16(x);
  }
  const matrix_view<const T> w{values.data(), rows, item.cols};
  const grid g = grid_of(e.spec.granularity, rows, item.cols);
  std::vector<float> scales(g.tiles());
  std::vector<std::int32_t> zeros(e.spec.symmetric ? 0 : g.tiles());
  std::vector<std::int8_t> codes(w.size());
  std::vector<std::byte> packed(std::visit([&](const auto& p) { return p.layout(e.spec, rows, item.cols).bytes(); }, e.packer));
  row_quantizer quantizer;
  quantizer.choose(item.observer, item.rounder);
  const double seconds = fastest_seconds([&] {
    (void)quantizer.quantize(native_backend{}, w, e.spec, {g, scales, zeros}, e.packer, {codes.data(), rows, item.cols}, packed.data());
  });
  return seconds / static_cast<double>(w.size());
}

/// Which items a probe stands for.
struct probed_kind {
  quant_spec spec;
  dtype type;
  policy_choice observer;
  std::size_t packer;
  double seconds;  ///< an element
};

}  // namespace detail

QLIB_INLINE double forecast_seconds(const quantization_plan& plan, std::size_t threads) {
  constexpr double copied_a_second = 4e9;  // bytes that are read and written unchanged
  std::vector<detail::probed_kind> kinds;
  double seconds = 0;
  for (const work_item& item : plan.items) {
    const double elements = static_cast<double>(item.rows) * static_cast<double>(item.cols);
    if (!item.encoding || elements == 0) {
      seconds += elements * (item.raw ? 1 : 4) / copied_a_second;
      continue;
    }
    const std::size_t packer = item.encoding->packer.index();
    const auto known = std::find_if(kinds.begin(), kinds.end(), [&](const detail::probed_kind& k) {
      return k.spec == item.encoding->spec && k.type == item.type && k.observer == item.observer && k.packer == packer;
    });
    double each;
    if (known != kinds.end()) {
      each = known->seconds;
    } else {
      each = item.type == dtype::bf16  ? detail::seconds_an_element<bf16>(item)
             : item.type == dtype::f16 ? detail::seconds_an_element<f16>(item)
                                       : detail::seconds_an_element<float>(item);
      kinds.push_back({item.encoding->spec, item.type, item.observer, packer, each});
    }
    seconds += elements * each;
  }
  return seconds / static_cast<double>(std::max<std::size_t>(1, threads));
}

QLIB_INLINE double forecast_calibration_seconds(const decoder& model, const quantization_plan& plan,
                                                std::span<const std::vector<std::int32_t>> samples,
                                                std::span<const std::vector<std::int32_t>> suppress_samples) {
  constexpr double tried = 20;  // products of a search, about
  constexpr std::size_t rows = 256, width = 1024;
  double tokens = 0;
  for (const auto& all : {samples, suppress_samples})
    for (const auto& s : all) tokens += static_cast<double>(s.size());
  double products = 0;  // multiply-adds
  for (std::size_t l = 0; l < model.layers(); ++l) {
    const layer_sizes sizes = sizes_of_layer(model.description(), l, model.source());
    products += tokens * (static_cast<double>(sizes.dense_weights) + static_cast<double>(sizes.expert_weights));
  }
  const double searched = std::min(tokens, 512.0);
  for (const planned_suppression& p : plan.suppressions)
    for (const std::string& target : p.graph.targets)
      if (const auto shape = model.source().shape(target + ".weight"); shape && shape->size() == 2)
        products += tried * searched * static_cast<double>((*shape)[0]) * static_cast<double>((*shape)[1]);
  const std::vector<float> x(rows * width, 0.5f), w(width * width, 0.25f);
  std::vector<float> y(rows * width);
  const double probe = detail::fastest_seconds([&] {
    model.products()(matrix_view<const float>{x.data(), rows, width}, matrix_view<const float>{w.data(), width, width},
                     matrix_view<float>{y.data(), rows, width});
  });
  return products * probe / (static_cast<double>(rows) * width * width);
}

}  // namespace qlib::inline v0
