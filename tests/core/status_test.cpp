#include <qlib/core/status.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>

namespace {

using namespace qlib;

result<std::unique_ptr<int>> half(int x) {
  if (x % 2 != 0) return error{.subject = std::to_string(x), .problem = "is odd"};
  return std::make_unique<int>(x / 2);
}

}  // namespace

TEST_CASE("an error is one line of the parts that it has") {
  CHECK(error{.where = "a.safetensors", .subject = "w", .problem = "is missing", .remedy = "copy it"}.text() ==
        "a.safetensors: w: is missing: copy it");
  CHECK(error{.problem = "is missing"}.text() == "is missing");
  CHECK(error{.where = "a", .remedy = "b"}.text() == "a: b");
  CHECK(error{}.text().empty());
}

TEST_CASE("an error is the input's fault unless it says otherwise") { CHECK(error{}.kind == error_kind::invalid_input); }

TEST_CASE("a result is a value or the error that prevented it") {
  auto good = half(6);
  REQUIRE(good);
  CHECK(**good == 3);
  CHECK(*half(8).operator->()->get() == 4);
  const std::unique_ptr<int> moved = *std::move(good);
  CHECK(*moved == 3);

  const auto bad = half(7);
  REQUIRE(!bad);
  CHECK(bad.error().text() == "7: is odd");
  CHECK(half(9).error().subject == "9");
}

TEST_CASE("a status is success or an error") {
  CHECK(status{});
  const status failed = error{.problem = "no"};
  REQUIRE(!failed);
  CHECK(failed.error().problem == "no");
}
