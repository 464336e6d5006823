// The report that a user with hardware sends.
#include "ascend_fake.hpp"

#include <qlib/backend/ascend/self_test.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace {

using namespace qlib;
using ascend_test::fake;

ascend::self_test_report report_of(const fake& f) {
  const auto lib = f.load();
  auto r = ascend::self_test(lib, 0);
  REQUIRE_MESSAGE(r, r.error().text());
  CHECK(lib->shutdown());
  return *std::move(r);
}

}  // namespace

TEST_CASE("Ascend: the self-test passes on every chip, and says which path did what") {
  for (const char* variant : {"new", "old"})
    for (const char* chip : {"Ascend910B3", "Ascend910_9391", "Ascend310P3", "Ascend910A", "Ascend310B1", "Ascend950PR_9589", "Ascend77"}) {
      fake f{{{"SOC", chip}}, variant};
      const ascend::self_test_report r = report_of(f);
      const std::string text = to_text(r);
      INFO(variant, "\n", text);
      CHECK(r.passed);
      CHECK(r.soc == chip);
      CHECK(text.find(std::string{"npu:0  "} + chip) == 0);
      CHECK(text.find("self-test: passed") != std::string::npos);
      CHECK(r.failure.empty());
      CHECK(r.operations.size() > 40);
      // 310B has no op, and everything is the CPU's.
      const bool any = std::any_of(r.paths.begin(), r.paths.end(), [](const auto& t) { return t.outcome == "works"; });
      CHECK(any == (std::string{chip} != "Ascend310B1"));
      for (const auto& t : r.operations) CHECK((!t.path.empty() || t.operation == "scales of quantize_per_token"));
    }
}

TEST_CASE("Ascend: the self-test is JSON too") {
  fake f;
  const ascend::self_test_report r = report_of(f);
  const auto j = nlohmann::json::parse(to_json(r));
  CHECK(j.at("soc") == "Ascend910B3");
  CHECK(j.at("passed") == true);
  CHECK(j.at("operations").size() == r.operations.size());
  CHECK(j.at("paths").size() == r.paths.size());
  CHECK(j.at("paths")[0].at("outcome") == "works");
}

TEST_CASE("Ascend: the self-test of a device that is lost on the way ends, and fails") {
  fake f{{{"LOST", "0:20"}}};
  const ascend::self_test_report r = report_of(f);
  CHECK(!r.passed);
  CHECK(r.failure.find("npu:0") == 0);
  CHECK(to_text(r).find("self-test: FAILED") != std::string::npos);
}

TEST_CASE("Ascend: the self-test names an op that the device refuses") {
  fake f{{{"FAIL", "aclnnQuantMatmulV5GetWorkspaceSize:1:561003"}}};
  const ascend::self_test_report r = report_of(f);
  CHECK(r.passed);  // the next path does it
  const auto refused = std::find_if(r.paths.begin(), r.paths.end(), [](const auto& t) { return t.path == "QuantMatmulV5"; });
  REQUIRE(refused != r.paths.end());
  CHECK(refused->outcome.find("aclnnQuantMatmulV5: unsupported (561003)") == 0);
}

TEST_CASE("Ascend: the self-test of a device that is not there is an error") {
  fake f;
  const auto lib = f.load();
  const auto r = ascend::self_test(lib, 3);
  REQUIRE(!r);
  CHECK(r.error().kind == error_kind::invalid_input);
  CHECK(lib->shutdown());
}
