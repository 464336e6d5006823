#pragma once
#include <qlib/backend/ascend/ascend_backend.ipp>
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/hold_operation.ipp>
#include <qlib/backend/ascend/int8_matmul.ipp>
#include <qlib/backend/ascend/numeric_bounds.hpp>
#include <qlib/backend/ascend/quantize_operation.ipp>
#include <qlib/backend/ascend/range_operation.ipp>
#include <qlib/backend/ascend/scale_operation.ipp>
#include <qlib/backend/ascend/self_test.hpp>
#include <qlib/backend/ascend/token_operation.ipp>
#include <qlib/backend/ascend/weight_only_matmul.ipp>
#include <qlib/backend/scalar.hpp>

#include <cmath>
#include <memory>
#include <vector>

namespace qlib::inline v0::ascend {

namespace trials {

inline std::vector<chain> all_chains(const lane& l) {
  return {holding::hold_chain(l, dtype::f32),      holding::hold_chain(l, dtype::f16),
          holding::hold_chain(l, dtype::bf16),     ranging::range_chain(dtype::f32, false),
          ranging::range_chain(dtype::f16, false), ranging::range_chain(dtype::bf16, false),
          ranging::range_chain(dtype::f32, true),  counting::histogram_chain(),
          quantizing::quantize_chain(false),       quantizing::quantize_chain(true),
          quantizing::dequantize_chain(),          scaling::scale_chain(),
          token_wise::token_chain(dtype::f16),     token_wise::token_chain(dtype::bf16),
          int8_product::product_chain(),           weight_only::product_chain(dtype::f16),
          weight_only::product_chain(dtype::bf16)};
}

inline path_trial try_path(lane& l, const chain& c, path p) {
  path_trial t{std::string{name_of(c.operation)}, std::string{name_of(p)}, std::string{qlib::name_of(c.type)}, {}};
  if (!has_functions(p, l.api())) {
    t.outcome = "not in the libraries";
  } else if (!is_allowed(p, l.known().family(), c.type)) {
    t.outcome = "not for this chip";
  } else if (l.lost()) {
    t.outcome = "not tried: the device is lost";
  } else {
    const device_scope scope{l.dev()};
    failure why;
    const std::optional<bool> works = prove_path(l, c, p, why);
    t.outcome = !works ? why.line() : *works ? "works" : "differs";
  }
  return t;
}

/// Values of both signs, `seed` apart, rounded to T.
template <Element T>
std::vector<T> values(std::size_t n, std::uint32_t seed) {
  std::vector<T> out(n);
  for (T& v : out) {
    seed = seed * 1664525u + 1013904223u;
    const float u = static_cast<float>(seed >> 8) * 0x1p-23f - 1.0f;
    v = narrowed<T>(u * u * u * 0.3f);
  }
  return out;
}

inline std::string granularity_text(tile t) { return t.rows == 0 ? "columns" : t.cols == 0 ? "rows" : "groups of " + std::to_string(t.cols); }

/// Runs operations on one lane, and keeps what came of them.
class bench {
 public:
  bench(const ascend_backend& backend, soc_family family, std::vector<operation_trial>& out) : backend_{backend}, family_{family}, out_{out} {}

  template <Element T>
  void element_operations() {
    const std::vector<T> x = values<T>(rows * cols, 3);
    const matrix_view<const T> view{x.data(), rows, cols};
    for (const tile t : {tile::per_channel(), tile::per_group(128), tile{0, 1}}) {
      std::vector<range> found(grid_of(t, rows, cols).tiles()), expected = found;
      exact<T>("ranges of " + granularity_text(t), [&] { backend_.ranges(view, t, std::span{found}); });
      scalar_backend{}.ranges(view, t, std::span{expected});
      for (std::size_t i = 0; i < found.size(); ++i) compare(found[i].min == expected[i].min && found[i].max == expected[i].max ? 0 : 1);
    }
    std::vector<float> top(cols), highest(cols);
    exact<T>("column_absmax", [&] { backend_.column_absmax(view, std::span{top}); });
    scalar_backend{}.column_absmax(view, std::span{highest});
    for (std::size_t c = 0; c < cols; ++c) compare(top[c] == highest[c] ? 0 : 1);

    std::vector<std::uint32_t> counts(256), right(256);
    exact<T>("histogram", [&] { backend_.histogram(view, {-0.3f, 0.3f}, std::span{counts}); });
    scalar_backend{}.histogram(view, {-0.3f, 0.3f}, std::span{right});
    for (std::size_t b = 0; b < counts.size(); ++b) compare(std::fabs(static_cast<double>(counts[b]) - right[b]));

    const numeric_bounds bounds = bounds_of(family_, dtype_of<T>);
    for (const tile t : {tile::per_channel(), tile::per_group(128), tile{0, 1}})
      for (const bool symmetric : {true, false}) {
        const quant_spec spec{.symmetric = symmetric, .granularity = t};
        const grid g = grid_of(t, rows, cols);
        std::vector<float> s(g.tiles());
        std::vector<std::int32_t> z(symmetric ? 0 : g.tiles());
        static_cast<void>(scalar_backend{}.solve_tiles(view, spec, qparams_view{g, s, z}));
        std::vector<std::int8_t> codes(x.size()), best(x.size());
        begin<T>("quantize " + granularity_text(t) + (symmetric ? "" : ", zero points"), bounds.code_difference,
                 bounds.mismatches(bounds.static_rate, x.size()), [&] {
                   backend_.quantize(view, spec, const_qparams_view{g, s, z}, {codes.data(), rows, cols});
                 });
        scalar_backend{}.quantize(view, spec, const_qparams_view{g, s, z}, {best.data(), rows, cols});
        for (std::size_t i = 0; i < codes.size(); ++i) compare(std::abs(codes[i] - best[i]));
      }

    std::vector<std::int8_t> codes(x.size()), best(x.size());
    std::vector<float> s(rows), right_s(rows);
    begin<T>("quantize_per_token", bounds.code_difference, bounds.mismatches(bounds.dynamic_rate, x.size()), [&] {
      backend_.quantize_per_token(view, {codes.data(), rows, cols}, s);
    });
    quantize_per_token_on_host(host_matrix{view}, {best.data(), rows, cols}, right_s);
    for (std::size_t i = 0; i < codes.size(); ++i) compare(std::abs(codes[i] - best[i]));
    begin<T>("scales of quantize_per_token", bounds.scale_relative, rows, [] {});
    for (std::size_t r = 0; r < rows; ++r) compare(std::fabs(static_cast<double>(s[r]) / right_s[r] - 1));
    weight_only_product<T>();
    end();
  }

  void other_operations() {
    const std::vector<float> x = values<float>(rows * cols, 5), factors = values<float>(std::max(rows, cols), 6);
    std::vector<std::int8_t> q(rows * cols), w(64 * cols);
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = static_cast<std::int8_t>(i * 89 % 255 - 127);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::int8_t>(i * 57 % 255 - 127);
    const matrix_view<const std::int8_t> codes{q.data(), rows, cols}, weight{w.data(), 64, cols};
    std::vector<float> found(x.size()), expected(x.size());
    exact<std::int8_t>("dequantize", [&] { backend_.dequantize(codes, {}, {{rows, 1}, factors, {}}, {found.data(), rows, cols}); });
    scalar_backend{}.dequantize(codes, {}, {{rows, 1}, factors, {}}, {expected.data(), rows, cols});
    for (std::size_t i = 0; i < found.size(); ++i) compare(found[i] == expected[i] ? 0 : 1);

    for (const bool by_column : {false, true}) {
      found = expected = x;
      const matrix_view<float> view{found.data(), rows, cols};
      exact<float>(by_column ? "scale_columns" : "scale_rows",
                   [&] { by_column ? backend_.scale_columns(view, factors) : backend_.scale_rows(view, factors); });
      for (std::size_t i = 0; i < found.size(); ++i) compare(found[i] == expected[i] * factors[by_column ? i % cols : i / cols] ? 0 : 1);
    }

    std::vector<float> sums(rows * 64), right(rows * 64);
    const float relative = int8_product_relative(family_);
    begin<std::int8_t>("int8_matmul", relative, relative > 0 ? sums.size() : 0, [&] {
      backend_.int8_matmul(codes, factors, weight, factors, {sums.data(), rows, 64});
    });
    int8_matmul_on_host(codes, factors, weight, factors, {right.data(), rows, 64});
    for (std::size_t i = 0; i < sums.size(); ++i)
      compare(sums[i] == right[i] ? 0 : right[i] == 0 ? 1 : std::fabs(static_cast<double>(sums[i]) / right[i] - 1));
    end();
  }

 private:
  static constexpr std::size_t rows = 96, cols = 512;

  template <Element T>
  void weight_only_product() {
    const std::vector<T> x = values<T>(rows * cols, 7);
    const matrix_view<const T> view{x.data(), rows, cols};
    const std::vector<float> w = values<float>(64 * cols, 8);
    const matrix_view<const float> weight{w.data(), 64, cols};
    for (const tile t : {tile::per_channel(), tile::per_group(128)}) {
      const quant_spec spec{.granularity = t};
      const grid g = grid_of(t, 64, cols);
      std::vector<float> s(g.tiles()), back(w.size()), found(rows * 64), right(rows * 64);
      std::vector<std::int8_t> q(w.size());
      static_cast<void>(scalar_backend{}.solve_tiles(weight, spec, qparams_view{g, s, {}}));
      scalar_backend{}.quantize(weight, spec, const_qparams_view{g, s, {}}, {q.data(), 64, cols});
      const matrix_view<const std::int8_t> codes{q.data(), 64, cols};
      scalar_backend{}.dequantize(codes, spec, {g, s, {}}, {back.data(), 64, cols});
      const dtype used = std::is_same_v<T, bf16> && has_bf16(family_) ? dtype::bf16 : dtype::f16;
      begin<T>("weight_only_matmul, " + granularity_text(t), weight_only_relative(used), found.size(), [&] {
        backend_.weight_only_matmul(view, codes, spec, {g, s, {}}, {found.data(), rows, 64});
      });
      weight_only_matmul_on_host(host_matrix{view}, codes, spec, {g, s, {}}, {right.data(), rows, 64});
      for (std::size_t i = 0; i < found.size(); ++i) {
        double size = 0;
        for (std::size_t c = 0; c < cols; ++c) size += std::fabs(static_cast<double>(to_float(view(i / 64, c))) * back[i % 64 * cols + c]);
        compare(std::fabs(static_cast<double>(found[i]) - right[i]) / size);
      }
    }
  }

  template <class T, class Run>
  void begin(const std::string& operation, double bound, std::size_t different, Run run) {
    end();
    backend_.forget_paths();
    run();
    operation_trial t;
    t.operation = operation;
    t.type = qlib::name_of(dtype_of<T>);
    for (const std::string& line : backend_.paths()) t.path += (t.path.empty() ? "" : "; ") + line.substr(line.find(": ") + 2);
    t.bound = bound;
    t.different_bound = different;
    current_ = std::move(t);
    open_ = true;
  }
  template <class T, class Run>
  void exact(const std::string& operation, Run run) {
    begin<T>(operation, 0, 0, run);
  }
  void compare(double error) {
    ++current_.values;
    current_.different += error != 0;
    if (!(error <= current_.largest_error)) current_.largest_error = error;
  }
  void end() {
    if (!open_) return;
    open_ = false;
    current_.passed = !backend_.lost() && current_.largest_error <= current_.bound && current_.different <= current_.different_bound;
    out_.push_back(std::move(current_));
  }

  ascend_backend backend_;
  soc_family family_;
  std::vector<operation_trial>& out_;
  operation_trial current_;
  bool open_ = false;
};

}  // namespace trials

QLIB_INLINE result<self_test_report> self_test(std::shared_ptr<library> library, int device) {
  auto lanes = open_lanes(library, {device}, 1);
  if (!lanes) return std::move(lanes).error();
  const ascend_backend backend = lanes->front();
  lane& l = *backend.shared_lane();
  const functions& api = library->api();
  self_test_report r;
  r.device = device;
  r.soc = library->soc();
  r.family = name_of(l.known().family());
  r.files = library->files();
  for (const std::string_view name : library->missing_ops()) r.missing_ops.emplace_back(name);
  for (const char* package : {"runtime", "opbase", "ops-nn", "ops-math", "driver", "firmware", "toolkit"})
    if (const std::string version = library->version(package); !version.empty()) r.versions.push_back(std::string{package} + " " + version);
  const auto attribute = [&](std::int32_t which) -> std::int64_t {
    std::int64_t value = 0;
    return api.aclrtGetDeviceInfo && api.aclrtGetDeviceInfo(static_cast<std::uint32_t>(device), which, &value) == 0 ? value : 0;
  };
  r.architecture = attribute(attribute_npu_arch);
  r.cube_cores = attribute(attribute_cube_cores);
  r.vector_cores = attribute(attribute_vector_cores);
  if (const device_scope scope{l.dev()}; api.aclrtGetMemInfo) static_cast<void>(api.aclrtGetMemInfo(memory_hbm, &r.free_memory, &r.total_memory));

  for (const chain& c : trials::all_chains(l))
    for (const path p : c.paths) r.paths.push_back(trials::try_path(l, c, p));
  trials::bench bench{backend, l.known().family(), r.operations};
  bench.element_operations<float>();
  bench.element_operations<bf16>();
  bench.element_operations<f16>();
  bench.other_operations();

  if (const status s = backend.finish(); !s) r.failure = s.error().text();
  r.passed = r.failure.empty();
  for (const operation_trial& t : r.operations) r.passed = r.passed && t.passed;
  return r;
}

}  // namespace qlib::inline v0::ascend
