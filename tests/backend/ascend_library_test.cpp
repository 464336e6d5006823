// The loader: which libraries are found, and the one line that says why they cannot be used.
#include "ascend_fake.hpp"

#include <qlib/backend/ascend/device_list.hpp>
#include <qlib/backend/ascend/library.hpp>

#include <doctest/doctest.h>

#include <cstdlib>

namespace {

using namespace qlib;
using ascend_test::fake;

/// Sets an environment variable, and gives back what was there.
class environment {
 public:
  environment(const char* key, const char* value) : key_{key} {
    if (const char* old = std::getenv(key)) old_ = old, had_ = true;
    setenv(key, value, 1);
  }
  ~environment() {
    if (had_) setenv(key_, old_.c_str(), 1);
    else unsetenv(key_);
  }

 private:
  const char* key_;
  std::string old_;
  bool had_ = false;
};

error error_of(const fake& f) {
  auto lib = ascend::library::open(f.options());
  REQUIRE(!lib);
  return lib.error();
}

/// One line, of the caller's making (exit code 2), with a remedy.
void check_bad_input(const error& e, const char* part) {
  CAPTURE(e.text());
  CHECK(e.kind == error_kind::invalid_input);
  CHECK(e.where == "npu");
  CHECK(e.text().find(part) != std::string::npos);
  CHECK(e.text().find('\n') == std::string::npos);
  CHECK(!e.remedy.empty());
}

}  // namespace

TEST_CASE("Ascend: new and old libraries are found by their names, and shut down") {
  for (const char* variant : {"new", "old"}) {
    CAPTURE(variant);
    fake f{{{"SOC", "Ascend910B3"}, {"DEVICES", "2"}}, variant};
    auto lib = ascend::library::open(f.options());
    REQUIRE_MESSAGE(lib, lib.error().text());
    CHECK(lib->soc() == "Ascend910B3");
    CHECK(lib->device_count() == 2);
    CHECK(lib->files().front() == (variant == std::string{"new"} ? "libacl_rt.so" : "libascendcl.so"));
    CHECK(!lib->shared());
    CHECK((lib->api().aclnnAscendQuantV3 != nullptr) == (variant == std::string{"new"}));
    CHECK(lib->missing_ops().empty() == (variant == std::string{"new"}));
    CHECK(lib->shutdown());
    CHECK(lib->shutdown());  // nothing is left to shut down
  }
}

TEST_CASE("Ascend: the folder of the libraries comes from the environment where no option names it") {
  fake f;
  const environment set{"QLIB_ACL_LIB_DIR", f.folder.c_str()};
  auto lib = ascend::library::open();
  REQUIRE_MESSAGE(lib, lib.error().text());
  CHECK(lib->shutdown());
}

TEST_CASE("Ascend: a host without CANN, a driver or real libraries says so in one line") {
  SUBCASE("no CANN") {
    fake f;
    auto lib = ascend::library::open({f.folder + "/nowhere"});
    REQUIRE(!lib);
    check_bad_input(lib.error(), "no CANN");
  }
  SUBCASE("operator libraries without a runtime") {
    fake f{{}, "no_runtime"};
    check_bad_input(error_of(f), "no CANN");
  }
  SUBCASE("no driver") {
    fake f{{}, "no_driver"};
    check_bad_input(error_of(f), "driver");
  }
  SUBCASE("a stub library") {
    fake f{{}, "stub"};
    check_bad_input(error_of(f), "stub library");
  }
  SUBCASE("a required function is missing") {
    fake f{{}, "missing_symbol"};
    check_bad_input(error_of(f), "aclrtMemcpyAsync");
  }
  SUBCASE("no device") {
    fake f{{{"DEVICES", "0"}}};
    check_bad_input(error_of(f), "no device");
  }
}

TEST_CASE("Ascend: ASCEND_RT_VISIBLE_DEVICES must be a list of device numbers") {
  struct row {
    const char *value, *part;
  };
  for (const row& r :
       {row{"", "is empty"}, row{" ", "is empty"}, row{"a", "'a' is not a list"}, row{"0,,1", "not a list"}, row{"0,1,", "not a list"},
        row{"-1", "not a list"}, row{"0,1,0", "names device 0 twice"}, row{"0,00", "names device 0 twice"}, row{"0, 1", "'0, 1' has spaces"},
        row{"0\n1", "'0?1' is not a list"}, row{"7", "'7' names 1 device, of which this host shows 0"},
        row{"0,7", "'0,7' names 2 devices, of which this host shows 1"}, row{"99999", "not a list"}}) {
    CAPTURE(r.value);
    const environment set{"ASCEND_RT_VISIBLE_DEVICES", r.value};
    fake f{{{"DEVICES", "2"}}};
    const error e = error_of(f);
    check_bad_input(e, r.part);
    CHECK(e.subject == "ASCEND_RT_VISIBLE_DEVICES");
  }
  const environment set{"ASCEND_RT_VISIBLE_DEVICES", "1"};
  fake f{{{"DEVICES", "2"}}};
  auto lib = ascend::library::open(f.options());
  REQUIRE_MESSAGE(lib, lib.error().text());
  CHECK(lib->device_count() == 1);
  CHECK(lib->shutdown());
}

TEST_CASE("Ascend: devices are refused that this process does not see") {
  fake f{{{"DEVICES", "2"}}};
  const auto lib = f.load();
  CHECK(lib->check_devices({0, 1}));
  struct row {
    std::vector<int> ids;
    const char* part;
  };
  for (const row& r :
       {row{{2}, "no device 2"}, row{{-1}, "no device -1"}, row{{0, 1, 2}, "3 devices asked for, 2 devices visible"}, row{{1, 1}, "named twice"}}) {
    const status s = lib->check_devices(r.ids);
    REQUIRE(!s);
    check_bad_input(s.error(), r.part);
    const auto lanes = open_lanes(r.ids, 1, {}, f.options());
    REQUIRE(!lanes);
    CHECK(lanes.error().text() == s.error().text());
  }
  CHECK(lib->shutdown());
}

TEST_CASE("Ascend: a runtime that another library initialized is used, and left initialized") {
  fake f;
  const auto other = f.load();
  {
    auto lib = ascend::library::open(f.options());
    REQUIRE_MESSAGE(lib, lib.error().text());
    CHECK(lib->shared());
    CHECK(lib->shutdown());
  }
  std::uint32_t count = 0;
  CHECK(other->api().aclrtGetDeviceCount(&count) == 0);
  CHECK(count == 1);
  CHECK(other->shutdown());
}

TEST_CASE("Ascend: an old runtime, which cannot count its users, is not finalized for another's") {
  fake f{{}, "old"};
  const auto other = f.load();
  auto lib = ascend::library::open(f.options());
  REQUIRE_MESSAGE(lib, lib.error().text());
  CHECK(!static_cast<bool>(lib->api().aclFinalizeReference));
  CHECK(lib->shutdown());
  CHECK(f.calls("aclFinalize") == 0);
  CHECK(other->shutdown());
  CHECK(f.calls("aclFinalize") == 1);
}

TEST_CASE("Ascend: the list of functions is what the fake exports") {
  fake f;
  const auto lib = f.load();
  CHECK(lib->missing_ops().empty());
#define QLIB_ACL_PRESENT(type, name, parameters) CHECK_MESSAGE(static_cast<bool>(lib->api().name), #name);
  QLIB_ACL_REQUIRED(QLIB_ACL_PRESENT)
  QLIB_ACL_OPTIONAL(QLIB_ACL_PRESENT)
#undef QLIB_ACL_PRESENT
  CHECK(lib->shutdown());
}

TEST_CASE("Ascend: devices are named npu, or npu: and numbers") {
  CHECK(*ascend::parse_devices("npu") == std::vector<int>{0});
  CHECK(*ascend::parse_devices("npu:3") == std::vector<int>{3});
  CHECK(*ascend::parse_devices("npu:0,1,12") == std::vector<int>{0, 1, 12});
  for (const char* wrong : {"", "cpu", "npu:", "npu:,", "npu:0,", "npu:x", "npu:-1", "npu:1,1", "npu0", "npu:99999", "npu: 1"}) {
    const auto r = ascend::parse_devices(wrong);
    CAPTURE(wrong);
    REQUIRE(!r);
    CHECK(r.error().kind == error_kind::invalid_input);
    CHECK(r.error().where == "--device");
    CHECK(!r.error().remedy.empty());
  }
}

TEST_CASE("Ascend: chips are told apart by their architecture, else by their name") {
  using enum ascend::soc_family;
  struct row {
    const char* name;
    std::int64_t architecture;
    ascend::soc_family family;
  };
  for (const row& r : {row{"Ascend910B3", 0, a2},
                       row{"Ascend910B4-1", 0, a2},
                       row{"Ascend910B2C", 0, a2},
                       row{"Ascend910B", 0, train1},
                       row{"Ascend910A", 0, train1},
                       row{"Ascend910", 0, train1},
                       row{"Ascend910PremiumA", 0, train1},
                       row{"Ascend910_9391", 0, a3},
                       row{"Ascend910_9362", 2201, a3},
                       row{"Ascend310P3", 0, p310},
                       row{"Ascend310B1", 0, b310},
                       row{"Ascend950PR_9589", 0, a5},
                       row{"Ascend310", 0, unknown},
                       row{"Ascend910C", 0, unknown},
                       row{"", 0, unknown},
                       row{"Ascend910C", 2201, a2},
                       row{"new", 2002, p310},
                       row{"new", 1001, train1},
                       row{"new", 3002, b310},
                       row{"new", 3510, a5},
                       row{"new", 4000, unknown}}) {
    CAPTURE(r.name);
    CHECK(ascend::family_of(r.name, r.architecture) == r.family);
  }
}

TEST_CASE("Ascend: native codes say what to do") {
  using enum ascend::failure_class;
  struct row {
    int code;
    ascend::failure_class kind;
  };
  for (const row& r : {row{0, none},
                       row{100039, not_available},
                       row{507033, not_available},
                       row{107002, programming},
                       row{161002, programming},
                       row{200003, programming},
                       row{561003, unsupported},
                       row{361001, unsupported},
                       row{207000, unsupported},
                       row{207001, out_of_memory},
                       row{300000, out_of_memory},
                       row{207007, out_of_memory},
                       row{507046, timeout},
                       row{107020, timeout},
                       row{507014, timeout},
                       row{507010, device_lost},
                       row{507054, device_lost},
                       row{507044, device_lost},
                       row{500000, internal},
                       row{561000, internal},
                       row{-1, internal}})
    CHECK_MESSAGE(ascend::class_of(r.code) == r.kind, r.code);
  const ascend::failure f{.kind = out_of_memory, .code = 207001, .text = "aclrtMalloc: no memory left"};
  CHECK(f.line() == "aclrtMalloc: out of memory (207001): no memory left");
  CHECK(f.as_error("npu:1").text() == "npu:1: aclrtMalloc: out of memory (207001): no memory left");
}
