// What happens when the device fails: out of memory, refused ops, timeouts, lost devices, and each call of each function once.
#include "../conformance/matrices.hpp"
#include "ascend_fake.hpp"

#include <qlib/backend/hold.hpp>
#include <qlib/backend/scalar.hpp>
#include <qlib/core/parallel.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <memory>

namespace {

using namespace qlib;
using ascend_test::fake;
using ascend_test::session;

/// A weight, its scales, and the scalar backend's codes.
struct problem {
  law::matrix<float> x;
  quant_spec spec{};
  grid g;
  std::vector<range> seen;
  std::vector<float> scales;
  law::matrix<std::int8_t> codes;

  explicit problem(std::size_t rows = 64, std::size_t cols = 128, unsigned seed = 1)
      : x{law::gaussian<float>(rows, cols, seed)}, g{grid_of(spec.granularity, rows, cols)}, seen(g.tiles()), scales(g.tiles()), codes{rows, cols} {
    scalar_backend{}.ranges(view(), spec.granularity, std::span{seen});
    scalar_backend{}.solve_qparams(seen, spec, {g, scales, {}});
    scalar_backend{}.quantize(view(), spec, params(), codes.view());
  }
  matrix_view<const float> view() const { return x.view(); }
  const_qparams_view params() const { return {g, scales, {}}; }

  bool ranges_agree(const std::vector<range>& found) const {
    return std::equal(found.begin(), found.end(), seen.begin(), [](const range& a, const range& b) { return a.min == b.min && a.max == b.max; });
  }
  bool codes_agree(const law::matrix<std::int8_t>& found) const {
    return std::equal(found.elements.begin(), found.elements.end(), codes.elements.begin(), [](int a, int b) { return std::abs(a - b) <= 1; });
  }
};

/// Ranges, codes and values back of a problem, by one lane; whether they are right.
bool work(const ascend_backend& b, const problem& p) {
  std::vector<range> seen(p.seen.size());
  law::matrix<std::int8_t> codes{p.x.rows, p.x.cols};
  law::matrix<float> back{p.x.rows, p.x.cols};
  b.ranges(p.view(), p.spec.granularity, std::span{seen});
  b.quantize(p.view(), p.spec, p.params(), codes.view());
  b.dequantize(std::as_const(p.codes).view(), p.spec, p.params(), back.view());
  if (b.lost()) return false;
  law::matrix<float> expected{p.x.rows, p.x.cols};
  scalar_backend{}.dequantize(std::as_const(p.codes).view(), p.spec, p.params(), expected.view());
  return p.ranges_agree(seen) && p.codes_agree(codes) && back.elements == expected.elements;
}

/// Ranges of a matrix that is held, if it can be; whether they are right.
bool work_on_held(const ascend_backend& b, const law::matrix<f16>& x) {
  std::vector<range> seen(x.rows, range::empty()), expected = seen;
  {
    const auto held = hold(b, x.view());
    b.ranges(x.view(), tile::per_channel(), std::span{seen});
  }
  scalar_backend{}.ranges(x.view(), tile::per_channel(), std::span{expected});
  return !b.lost() &&
         std::equal(seen.begin(), seen.end(), expected.begin(), [](const range& r, const range& e) { return r.min == e.min && r.max == e.max; });
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool slow_host = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool slow_host = true;
#else
constexpr bool slow_host = false;
#endif
#else
constexpr bool slow_host = false;
#endif

}  // namespace

TEST_CASE("Ascend: a device with little memory gets smaller chunks, and gives the same results") {
  const problem p{512, 1024};  // 2 MiB
  fake f{{{"MEMORY", "1500000"}}};
  session s{f};
  CHECK(work(*s, p));
  CHECK(s->finish());
  CHECK(s->paths() == std::vector<std::string>{"ranges: Aminmax", "quantize: AscendQuantV3", "dequantize: Cast + Add + Mul"});
}

TEST_CASE("Ascend: a device without memory leaves the work to the CPU") {
  const problem p;
  fake f{{{"MEMORY", "1000"}}};
  session s{f};
  CHECK(work(*s, p));
  CHECK(s->finish());
  CHECK(s->paths() == std::vector<std::string>{"ranges: cpu", "quantize: cpu", "dequantize: cpu"});
}

TEST_CASE("Ascend: an op that the device refuses is replaced by the next, once, with one line in the log") {
  struct row {
    const char *functions, *path;
    std::size_t lines;
  };
  for (const row& r :
       {row{"aclnnAscendQuantV3GetWorkspaceSize:1:561003", "AscendQuantV3, transposed view", 1},
        row{"aclnnAscendQuantV3:1:361001", "AscendQuantV3, transposed view", 1},
        row{"aclnnAscendQuantV3GetWorkspaceSize:1:161002;aclnnAscendQuantV3GetWorkspaceSize:2:561002", "AscendQuant, transposed view", 2},
        row{"aclnnAscendQuantV3GetWorkspaceSize:1:561003;aclnnAscendQuantV3GetWorkspaceSize:2:561003;aclnnAscendQuantGetWorkspaceSize:1:561003",
            "Mul + Add + Round + Clamp + Cast", 3},
        row{"aclnnAscendQuantV3GetWorkspaceSize:1:561003;aclnnAscendQuantV3GetWorkspaceSize:2:561003;aclnnAscendQuantGetWorkspaceSize:1:"
            "561003;aclnnMulGetWorkspaceSize:1:561003",
            "cpu", 4}}) {
    CAPTURE(std::string{r.functions});
    const problem p;
    fake f{{{"FAIL", r.functions}}};
    session s{f};
    for (int again = 0; again < 2; ++again) {
      law::matrix<std::int8_t> codes{p.x.rows, p.x.cols};
      s->quantize(p.view(), p.spec, p.params(), codes.view());
      CHECK(p.codes_agree(codes));
    }
    CHECK(s->finish());
    CHECK(s->paths() == std::vector<std::string>{std::string{"quantize: "} + r.path});
    CHECK(s.lines.size() == r.lines);
    for (const std::string& line : s.lines) CHECK_MESSAGE(line.find("npu:0: quantize: aclnn") == 0, line);
  }
}

TEST_CASE("Ascend: an op that refuses one width is left out for that width, and does the others") {
  const auto codes_of_rows = [](const session& s, int width) {
    const auto cols = static_cast<std::size_t>(width);
    const problem p{16, cols};
    law::matrix<std::int8_t> codes{16, cols};
    s->forget_paths();
    s->quantize(p.view(), p.spec, p.params(), codes.view());
    CHECK(p.codes_agree(codes));
    return s->paths().front();
  };
  const std::string best = "quantize: AscendQuantV3", next = "quantize: AscendQuantV3, transposed view";
  SUBCASE("once") {
    fake f;
    session s{f};
    CHECK(codes_of_rows(s, 64) == best);  // proven
    for (const auto& [fault, odd] : {std::pair{"aclnnAscendQuantV3GetWorkspaceSize:1:561002", 33}, {"aclnnAscendQuantV3:1:361001", 35}}) {
      const std::size_t lines = s.lines.size();
      f.set("FAIL", fault);
      CHECK(codes_of_rows(s, odd) == next);
      f.unset("FAIL");
      CHECK(codes_of_rows(s, odd) == next);  // not asked again
      CHECK(codes_of_rows(s, 64) == best);
      REQUIRE(s.lines.size() == lines + 1);
      CHECK(s.lines.back().ends_with(": AscendQuantV3 is not used for rows of " + std::to_string(odd)));
    }
    CHECK(s->finish());
  }
  SUBCASE("many widths are the whole path") {
    fake f;
    session s{f};
    CHECK(codes_of_rows(s, 64) == best);
    CHECK(codes_of_rows(s, 65) == best);
    constexpr int most = ascend::capability::most_widths;
    for (int n = 0; n <= most; ++n) {
      f.set("FAIL", "aclnnAscendQuantV3GetWorkspaceSize:1:561002");
      CHECK(codes_of_rows(s, 100 + n) == next);
    }
    f.unset("FAIL");
    CHECK(s.lines.size() == most + 1);
    CHECK(s.lines.back().ends_with(" is not used any more"));
    CHECK(codes_of_rows(s, 64) != best);
    CHECK(s->finish());
  }
}

TEST_CASE("Ascend: tokens of any width are quantized by the chips that take whole 32 values alone") {
  for (const char* chip : {"Ascend310P3", "Ascend910A"}) {
    CAPTURE(std::string{chip});
    fake f{{{"SOC", chip}}};
    session s{f};
    for (const std::size_t cols : {33, 1, 64, 31}) {
      const auto x = law::gaussian<f16>(5, cols, 3);
      law::matrix<std::int8_t> codes{5, cols};
      std::vector<float> scales(5);
      s->forget_paths();
      s->quantize_per_token(x.view(), codes.view(), scales);
      CHECK(s->paths() == std::vector<std::string>{"quantize_per_token: DynamicQuant"});
      for (std::size_t r = 0; r < 5; ++r) {
        float largest = 0;
        for (std::size_t c = 0; c < cols; ++c) largest = std::max(largest, std::fabs(to_float(x.view()(r, c))));
        CHECK(std::fabs(scales[r] - largest / 127) <= 0x1p-10f * largest / 127);
        for (std::size_t c = 0; c < cols; ++c)
          CHECK(std::fabs(static_cast<float>(codes.view()(r, c)) - to_float(x.view()(r, c)) / largest * 127) <= 0.63f);  // half, and 127 * 2^-10
      }
    }
    CHECK(s->finish());
    CHECK(s.lines.empty());
  }
}

TEST_CASE("Ascend: a lost device is a run_failed, after which its lanes write nothing") {
  const problem p;
  for (int task = 1; task < 60; task += 3) {
    CAPTURE(task);
    fake f{{{"DEVICES", "2"}, {"LOST", "0:" + std::to_string(task)}}};
    session s{f, {0, 1}, 1};
    bool right = true;
    for (int round = 0; round < 3 && right; ++round) right = work(s.lanes[0], p);
    if (right) continue;  // not that many tasks
    REQUIRE(s.lanes[0].lost());
    const status failed = s.lanes[0].finish();
    REQUIRE(!failed);
    CHECK(failed.error().kind == error_kind::run_failed);
    CHECK(failed.error().where == "npu:0");
    CHECK(!failed.error().remedy.empty());
    law::matrix<std::int8_t> codes{p.x.rows, p.x.cols, std::int8_t{77}};
    s.lanes[0].quantize(p.view(), p.spec, p.params(), codes.view());
    CHECK(std::all_of(codes.elements.begin(), codes.elements.end(), [](int q) { return q == 77; }));
    CHECK(s.lines.size() >= 1);
    CHECK(work(s.lanes[1], p));  // the other device goes on
    CHECK(s.lanes[1].finish());
  }
}

TEST_CASE("Ascend: a device that does not answer in time is a lost one") {
  const problem p;
  fake f{{{"TASK_US", "300000"}}};
  ascend::lane_options options;
  options.timeout_milliseconds = 50;
  session s{f, {0}, 1, options};
  CHECK(!work(*s, p));
  CHECK(s->lost());
  const status failed = s->finish();
  REQUIRE(!failed);
  CHECK(failed.error().text().find("timeout") != std::string::npos);
  f.set("TASK_US", "0");
}

TEST_CASE("Ascend: each call fails once with each class of error, and nothing crashes, leaks or is wrong in silence") {
  const problem p{32, 64};
  std::vector<std::string> functions{"task"};
  for (const char* name : ascend::required_names) functions.emplace_back(name);
  for (const char* name : ascend::optional_names) functions.emplace_back(name);
  for (const char* name : ascend::op_names) {
    functions.emplace_back(name);
    functions.push_back(std::string{name} + "GetWorkspaceSize");
  }
  const auto halves = law::gaussian<f16>(8, 64, 2);
  std::size_t runs = 0, survived = 0, lost = 0, refused = 0;
  for (const std::string& function : functions)
    for (const int code : {207001, 561003, 161002, 107003, 507046, 507010, 500000, 100039})
      for (int n = 1; function != "task" || code != 507046; ++n, ++runs) {  // that one is of waiting for a task
        REQUIRE(n < 1000);
        CAPTURE(function);
        CAPTURE(code);
        CAPTURE(n);
        fake f{{{"FAIL", function + ":" + std::to_string(n) + ":" + std::to_string(code)}}};
        f.allow_leftovers();
        auto lib = ascend::library::open(f.options());
        if (lib) {
          auto shared = std::make_shared<ascend::library>(*std::move(lib));
          auto lanes = open_lanes(shared, {0}, 2);
          if (lanes) {
            for (const ascend_backend& b : *lanes) {
              const bool right = work(b, p) && work_on_held(b, halves);
              CHECK(right == !b.lost());  // wrong and not lost, or lost and complete: neither may be
              CHECK(static_cast<bool>(b.finish()) == right);
              right ? ++survived : ++lost;
            }
            lanes->clear();
          } else {
            CHECK(!lanes.error().text().empty());
            ++refused;
          }
          if (const status s = shared->shutdown(); !s) CHECK(!s.error().text().empty());
        } else {
          CHECK(!lib.error().text().empty());
          ++refused;
        }
        CHECK_MESSAGE(f.violations() == 0, f.report());
        // What cannot be released stays: the object, and a context that still has it.
        const bool releases = function.find("Destroy") != std::string::npos || function.find("Free") != std::string::npos;
        if (!releases) CHECK_MESSAGE(f.leaks() == 0, f.report());
        if (f.fired() == 0) break;
      }
  // Of each kind there must be some, or the loop tests nothing: 2298 runs when it was written.
  CHECK(runs > 2000);
  CHECK(survived > 1000);
  CHECK(lost > 100);
  CHECK(refused > 10);
}

TEST_CASE("Ascend: lanes of several devices work at once, each on its thread, and give what one lane gives") {
  constexpr std::size_t tasks = 48;
  std::vector<problem> problems;
  for (std::size_t i = 0; i < tasks; ++i) problems.emplace_back(40 + i, 96, static_cast<unsigned>(i));
  std::vector<std::vector<std::int8_t>> first;
  for (const std::size_t devices : {1, 2, 4}) {
    fake f{{{"DEVICES", std::to_string(devices)}}};
    std::vector<int> ids;
    for (std::size_t d = 0; d < devices; ++d) ids.push_back(static_cast<int>(d));
    const auto lib = f.load();
    auto lanes = open_lanes(lib, ids, 3);
    REQUIRE(lanes);
    REQUIRE(lanes->size() == 3 * devices);
    CHECK((*lanes)[0].device_id() == 0);
    CHECK((*lanes)[devices].device_id() == 0);
    CHECK((*lanes)[devices - 1].device_id() == static_cast<int>(devices) - 1);
    std::vector<std::vector<std::int8_t>> found(tasks);
    std::vector<char> right(tasks);
    parallel_for(tasks, lanes->size(), [&](std::size_t worker, std::size_t task) {
      const problem& p = problems[task];
      const ascend_backend lane = (*lanes)[worker];
      right[task] = work(lane, p);
      law::matrix<std::int8_t> codes{p.x.rows, p.x.cols};
      lane.quantize(p.view(), p.spec, p.params(), codes.view());
      found[task] = codes.elements;
      return true;
    });
    CHECK(std::count(right.begin(), right.end(), 1) == tasks);
    for (const ascend_backend& lane : *lanes) CHECK(lane.finish());
    if (first.empty()) first = found;
    CHECK(first == found);
    lanes->clear();
    CHECK(lib->shutdown());
  }
}

TEST_CASE("Ascend: three lanes overlap copies with ops: the time is that of the ops, which take longest here" * doctest::skip(slow_host)) {
  constexpr std::size_t tasks = 40;
  const problem p{256, 1024};
  fake f;
  session s{f, {0}, 3};
  for (const ascend_backend& lane : s.lanes) REQUIRE(work(lane, p));  // buffers are there, ops are tested
  f.set("COPY_NS_PER_KIB", "20000");
  f.set("COMPUTE_NS_PER_KIB", "20000");
  // Of the views of AscendQuantV3: 1 MiB of values, 256 KiB of codes, 1 KiB of scales.
  const double ops = tasks * (1024 + 256 + 1) * 20e-6;
  double best = 1e9;
  for (int attempt = 0; attempt < 3 && best > 1.15 * ops; ++attempt) {  // other work on this machine may take its cores meanwhile
    const auto begin = std::chrono::steady_clock::now();
    parallel_for(tasks, s.lanes.size(), [&](std::size_t worker, std::size_t) {
      law::matrix<std::int8_t> codes{p.x.rows, p.x.cols};
      s.lanes[worker].quantize(p.view(), p.spec, p.params(), codes.view());
      return true;
    });
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  CHECK(best > 0.95 * ops);
  CHECK(best <= 1.15 * ops);
}
