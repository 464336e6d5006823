// The fake of Ascend's libraries (tests/fake_acl), as a test sets it up.
#pragma once
#include <qlib/backend/ascend/ascend_backend.hpp>

#include "../fake_acl/control.hpp"

#include <doctest/doctest.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <dlfcn.h>

namespace ascend_test {

/// One test's fake: fresh when it begins, and without a leak or a misuse when it ends. All variants share one state.
class fake {
 public:
  using settings = std::initializer_list<std::pair<const char*, std::string>>;

  explicit fake(settings given = {}, const char* variant = "new") : folder{std::string{QLIB_FAKE_ACL_DIR} + "/" + variant} {
    // Any variant's runtime reaches the state; "new" always has one.
    control_ = dlopen((std::string{QLIB_FAKE_ACL_DIR} + "/new/libacl_rt.so").c_str(), RTLD_LAZY | RTLD_LOCAL);
    REQUIRE_MESSAGE(control_ != nullptr, dlerror());
    reset();
    for (const auto& [key, value] : given) set(key, value);
  }
  fake(const fake&) = delete;
  fake& operator=(const fake&) = delete;
  ~fake() {
    if (strict_) CHECK_MESSAGE(report().empty(), report());
    reset();
  }

  void set(const char* key, const std::string& value) { REQUIRE(call<decltype(qlib_fake_acl_configure)>("configure")(key, value.c_str()) == 0); }
  void unset(const char* key) { REQUIRE(call<decltype(qlib_fake_acl_configure)>("configure")(key, nullptr) == 0); }
  std::string report() const { return call<decltype(qlib_fake_acl_report)>("report")(); }
  std::uint64_t violations() const { return call<decltype(qlib_fake_acl_violations)>("violations")(); }
  std::uint64_t leaks() const { return call<decltype(qlib_fake_acl_leaks)>("leaks")(); }
  std::uint64_t fired() const { return call<decltype(qlib_fake_acl_fired)>("fired")(); }
  std::uint64_t calls(const char* function) const { return call<decltype(qlib_fake_acl_calls)>("calls")(function); }
  /// Bytes that were copied to the devices.
  std::uint64_t uploaded() const { return call<decltype(qlib_fake_acl_bytes)>("bytes")(1); }
  /// The test itself judges what is left.
  void allow_leftovers() { strict_ = false; }

  qlib::ascend::library_options options() const { return {folder}; }
  std::shared_ptr<qlib::ascend::library> load() const {
    auto lib = qlib::ascend::library::open(options());
    REQUIRE_MESSAGE(lib, lib.error().text());
    return std::make_shared<qlib::ascend::library>(*std::move(lib));
  }

  const std::string folder;

 private:
  template <class Function>
  Function* call(const char* name) const {
    auto* f = reinterpret_cast<Function*>(dlsym(control_, (std::string{"qlib_fake_acl_"} + name).c_str()));
    REQUIRE(static_cast<bool>(f));
    return f;
  }
  void reset() { call<decltype(qlib_fake_acl_reset)>("reset")(); }

  void* control_ = nullptr;
  bool strict_ = true;
};

/// A loaded library and lanes of it, closed in the right order.
class session {
 public:
  explicit session(const fake& f, const std::vector<int>& devices = {0}, std::size_t lanes_per_device = 1, qlib::ascend::lane_options options = {})
      : library{f.load()} {
    options.log = [](void* self, std::string_view line) { static_cast<session*>(self)->lines.emplace_back(line); };
    options.log_context = this;
    auto opened = qlib::open_lanes(library, devices, lanes_per_device, options);
    REQUIRE_MESSAGE(opened, opened.error().text());
    lanes = *std::move(opened);
  }
  session(const session&) = delete;
  session& operator=(const session&) = delete;
  ~session() { close(); }

  void close() {
    lanes.clear();
    const qlib::status s = library->shutdown();
    if (!s) FAIL_CHECK(s.error().text());  // no CHECK_MESSAGE: after a REQUIRE that failed it makes its text always, and there is no error
  }
  const qlib::ascend_backend& operator*() const { return lanes.front(); }
  const qlib::ascend_backend* operator->() const { return &lanes.front(); }

  std::shared_ptr<qlib::ascend::library> library;
  std::vector<qlib::ascend_backend> lanes;
  std::vector<std::string> lines;  ///< not for tests with several threads
};

}  // namespace ascend_test
