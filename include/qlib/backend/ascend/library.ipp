#pragma once
#include <qlib/backend/ascend/constants.hpp>
#include <qlib/backend/ascend/library.hpp>

#include <cstdlib>
#include <cstring>

#include <dirent.h>
#include <dlfcn.h>

namespace qlib::inline v0::ascend {

namespace loading {

/// A library that was opened, or why it was not.
struct opened {
  void* handle = nullptr;
  std::string reason = {};
};

inline opened open(const std::string& directory, const char* soname) {
  const std::string file = directory.empty() ? soname : directory + "/" + soname;
  // RTLD_NOW may fail on symbols that are never called; RTLD_LOCAL keeps their C++ runtime's symbols away from ours.
  if (void* handle = ::dlopen(file.c_str(), RTLD_LAZY | RTLD_LOCAL)) return {handle};
  const char* reason = ::dlerror();
  return {nullptr, reason ? reason : "dlopen failed"};
}

inline error unusable(std::string problem, std::string remedy) {
  return {.kind = error_kind::invalid_input, .where = "npu", .subject = {}, .problem = std::move(problem), .remedy = std::move(remedy)};
}

inline error no_driver(const std::string& reason) {
  return unusable("CANN is here, but the driver does not work: " + reason,
                  "install the Ascend driver and firmware (npu-smi info must list the device), or pass the device and driver into the container");
}

/// Other files than those with a name of their own: libopapi_*.so, sorted.
inline std::vector<std::string> split_op_libraries(const std::string& directory) {
  std::vector<std::string> found;
  DIR* folder = directory.empty() ? nullptr : ::opendir(directory.c_str());
  if (!folder) return found;
  while (const dirent* entry = ::readdir(folder)) {
    const std::string_view name{entry->d_name};
    if (!name.starts_with("libopapi_") || !name.ends_with(".so") || name == "libopapi_nn.so" || name == "libopapi_math.so") continue;
    auto place = found.begin();
    while (place != found.end() && *place < name) ++place;
    found.insert(place, std::string{name});
  }
  ::closedir(folder);
  return found;
}

/// A value as it fits into one line.
inline std::string in_quotes(std::string_view value) {
  std::string out{value.substr(0, 64)};
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20) c = '?';
  return "'" + out + (value.size() > 64 ? "...'" : "'");
}

inline error wrong_visible_devices(std::string problem) {
  return {.kind = error_kind::invalid_input,
          .where = "npu",
          .subject = "ASCEND_RT_VISIBLE_DEVICES",
          .problem = std::move(problem),
          .remedy = "unset it, or list device numbers such as 0,1 (npu-smi info shows them)"};
}

/// count: how many devices ASCEND_RT_VISIBLE_DEVICES names; 0 where it is not set. It must be a list such as "0,1,2"; the runtime itself only shows
/// no device, or some of them, otherwise.
inline status read_visible_devices(int& count) {
  count = 0;
  const char* text = std::getenv("ASCEND_RT_VISIBLE_DEVICES");
  if (!text) return {};
  const std::string_view list{text};
  if (list.find_first_not_of(' ') == std::string_view::npos) return wrong_visible_devices("is empty, which hides every device");
  std::vector<int> seen;
  for (std::size_t begin = 0; begin <= list.size();) {
    std::size_t end = list.find(',', begin);
    if (end == std::string_view::npos) end = list.size();
    const std::string_view digits = list.substr(begin, end - begin);
    if (digits.find(' ') != std::string_view::npos && digits.find_first_not_of(" 0123456789") == std::string_view::npos)
      return wrong_visible_devices(in_quotes(list) + " has spaces, which the runtime does not read");
    if (digits.empty() || digits.size() > 4 || digits.find_first_not_of("0123456789") != std::string_view::npos)
      return wrong_visible_devices(in_quotes(list) + " is not a list of device numbers");
    int id = 0;
    for (const char d : digits) id = id * 10 + (d - '0');
    for (const int other : seen)
      if (other == id) return wrong_visible_devices(in_quotes(list) + " names device " + std::to_string(id) + " twice");
    seen.push_back(id);
    begin = end + 1;
  }
  count = static_cast<int>(seen.size());
  return {};
}

}  // namespace loading

QLIB_INLINE library::library(library&& other) noexcept
    : api_{other.api_},
      files_{std::move(other.files_)},
      soc_{std::move(other.soc_)},
      device_count_{other.device_count_},
      initialized_{std::exchange(other.initialized_, false)},
      shared_{other.shared_} {}

QLIB_INLINE result<library> library::open(const library_options& options) {
  std::string directory = options.directory;
  if (const char* asked = std::getenv("QLIB_ACL_LIB_DIR"); directory.empty() && asked) directory = asked;
  library self;
  int listed = 0;
  if (status s = loading::read_visible_devices(listed); !s) return std::move(s).error();
  if (status s = self.load_runtime(directory); !s) return std::move(s).error();
  if (status s = self.load_ops(directory); !s) return std::move(s).error();
  if (status s = self.initialize(); !s) return std::move(s).error();
  return self;
}

QLIB_INLINE status library::load_runtime(const std::string& directory) {
  std::string reasons;
  for (const char* soname : {"libacl_rt.so", "libascendcl.so"}) {
    loading::opened runtime = loading::open(directory, soname);
    if (!runtime.handle) {
      if (runtime.reason.find("libascend_hal") != std::string::npos) return loading::no_driver(runtime.reason);
      reasons += (reasons.empty() ? "" : "; ") + runtime.reason;
      continue;
    }
    files_.emplace_back(soname);
    resolve(runtime.handle);
    return {};
  }
  return loading::unusable("no CANN: " + reasons, directory.empty() ? "install CANN and source its set_env.sh, or use --device cpu"
                                                                    : "check the folder (QLIB_ACL_LIB_DIR), or use --device cpu");
}

QLIB_INLINE void library::resolve(void* handle) {
#define QLIB_ACL_RESOLVE(type, name, parameters) \
  if (!api_.name) api_.name = reinterpret_cast<decltype(api_.name)>(::dlsym(handle, #name));
  QLIB_ACL_REQUIRED(QLIB_ACL_RESOLVE)
  QLIB_ACL_OPTIONAL(QLIB_ACL_RESOLVE)
#undef QLIB_ACL_RESOLVE
  // Both phases of one library, or none.
#define QLIB_ACL_RESOLVE(type, name, parameters)                                                                \
  if (!api_.name) {                                                                                             \
    void* const plan = ::dlsym(handle, #name "GetWorkspaceSize");                                               \
    if (plan) api_.name = reinterpret_cast<launch_function>(::dlsym(handle, #name));                            \
    if (api_.name) api_.name##GetWorkspaceSize = reinterpret_cast<decltype(api_.name##GetWorkspaceSize)>(plan); \
  }
  QLIB_ACL_OPS(QLIB_ACL_RESOLVE)
#undef QLIB_ACL_RESOLVE
}

QLIB_INLINE status library::load_ops(const std::string& directory) {
  const auto load = [&](const std::string& from, const char* soname) {
    void* const handle = loading::open(from, soname).handle;
    if (!handle) return;
    files_.emplace_back(soname);
    resolve(handle);
  };
  for (const char* newer : {"libnnopbase.so", "libopapi_nn.so", "libopapi_math.so"}) load(directory, newer);
  std::string folder = directory;
  if (const char* home = std::getenv("ASCEND_HOME_PATH"); folder.empty() && home) folder = std::string{home} + "/lib64";
  for (const std::string& name : loading::split_op_libraries(folder))
    if (!missing_ops().empty()) load(folder, name.c_str());
  for (const char* older : {"libopapi.so", "libaclnn_ops_infer.so", "libaclnn_math.so"})
    if (!missing_ops().empty()) load(directory, older);
  return {};
}

QLIB_INLINE status library::initialize() {
  if (!api_.aclInit)
    return loading::unusable(files_.front() + " has no aclInit", "it is not a CANN runtime: check LD_LIBRARY_PATH and QLIB_ACL_LIB_DIR");
  const std::int32_t code = api_.aclInit(nullptr);
  const failure failed = check(code, "aclInit");
  if (code == error_stub)
    return loading::unusable(files_.front() + " is a stub library, for linking only (aclInit returned 100039)",
                             "put the folder of the real libraries before the stubs' in LD_LIBRARY_PATH");
  shared_ = code == error_repeat_initialize;
  if (failed && !shared_) return loading::no_driver(failed.line());
  initialized_ = true;
  const auto stop = [&](error e) -> status {
    static_cast<void>(shutdown());
    return e;
  };
  const char* missing = nullptr;
#define QLIB_ACL_PRESENT(type, name, parameters) \
  if (!missing && !api_.name) missing = #name;
  QLIB_ACL_REQUIRED(QLIB_ACL_PRESENT)
#undef QLIB_ACL_PRESENT
  if (missing)
    return stop(loading::unusable("the function " + std::string{missing} + " is missing in the CANN libraries",
                                  "update CANN (8.0 or later), or use --device cpu"));
  std::uint32_t count = 0;
  if (const failure f = check(api_.aclrtGetDeviceCount(&count), "aclrtGetDeviceCount"); f && f.kind != failure_class::not_available)
    return stop(loading::no_driver(f.line()));
  device_count_ = static_cast<int>(count);
  // The runtime shows the devices up to the first that does not exist.
  int listed = 0;
  if (loading::read_visible_devices(listed) && listed > device_count_)
    return stop(loading::wrong_visible_devices(loading::in_quotes(std::getenv("ASCEND_RT_VISIBLE_DEVICES")) + " names " + std::to_string(listed) +
                                               (listed == 1 ? " device" : " devices") + ", of which this host shows " +
                                               std::to_string(device_count_)));
  if (device_count_ == 0)
    return stop(loading::unusable("CANN and its driver work, but there is no device", "check npu-smi info and ASCEND_RT_VISIBLE_DEVICES"));
  if (const char* name = api_.aclrtGetSocName()) soc_ = name;
  return {};
}

QLIB_INLINE failure library::check(std::int32_t code, const char* function) const {
  if (code == 0) return {};
  failure f{.kind = class_of(code), .code = code, .text = function};
  // A stub returns its error code for every function: from this one it would not be a pointer.
  const char* message = api_.aclGetRecentErrMsg && code != error_stub ? api_.aclGetRecentErrMsg() : nullptr;
  if (message && *message) {
    f.text += ": ";
    for (; *message; ++message) f.text += *message == '\n' || *message == '\r' ? ' ' : *message;
  }
  return f;
}

QLIB_INLINE std::vector<std::string_view> library::missing_ops() const {
  std::vector<std::string_view> names;
#define QLIB_ACL_LIST(type, name, parameters) \
  if (!api_.name) names.push_back(#name);
  QLIB_ACL_OPS(QLIB_ACL_LIST)
#undef QLIB_ACL_LIST
  return names;
}

QLIB_INLINE std::string library::version(const char* package) const {
  if (!api_.aclsysGetVersionStr) return {};
  std::string name = package;
  char text[128] = {};
  if (api_.aclsysGetVersionStr(name.data(), text) != 0) return {};
  text[sizeof text - 1] = 0;
  return text;
}

QLIB_INLINE status library::check_devices(const std::vector<int>& ids) const {
  const std::string visible = device_count_ == 1 ? "1 device" : std::to_string(device_count_) + " devices";
  const auto wrong = [](std::string problem, std::string remedy) {
    return error{.kind = error_kind::invalid_input, .where = "npu", .subject = {}, .problem = std::move(problem), .remedy = std::move(remedy)};
  };
  const std::string choices = device_count_ == 1 ? "0" : "0 to " + std::to_string(device_count_ - 1);
  if (ids.size() > static_cast<std::size_t>(device_count_))
    return wrong(std::to_string(ids.size()) + " devices asked for, " + visible + " visible to this process",
                 "name fewer (" + choices + "), or check ASCEND_RT_VISIBLE_DEVICES");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= device_count_)
      return wrong("no device " + std::to_string(ids[i]) + ": " + visible + " visible to this process",
                   "choose from " + choices + ", or check ASCEND_RT_VISIBLE_DEVICES");
    for (std::size_t j = 0; j < i; ++j)
      if (ids[i] == ids[j]) return wrong("device " + std::to_string(ids[i]) + " is named twice", "name each device once");
  }
  return {};
}

QLIB_INLINE status library::shutdown() {
  if (!std::exchange(initialized_, false)) return {};
  const char* function = "aclFinalizeReference";
  std::int32_t code = 0;
  if (api_.aclFinalizeReference) {
    code = api_.aclFinalizeReference(nullptr);
  } else if (!shared_ && api_.aclFinalize) {  // aclFinalize ends everybody's initialization: only ours may be ended so
    function = "aclFinalize";
    code = api_.aclFinalize();
  }
  if (const failure f = check(code, function)) return f.as_error("npu");
  return {};
}

}  // namespace qlib::inline v0::ascend
