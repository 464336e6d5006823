#include "settings.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

namespace fake_acl {
namespace {

constexpr std::array keys{"SOC",     "DEVICES", "MEMORY", "FAIL",  "LOST",  "COPY_NS_PER_KIB", "COMPUTE_NS_PER_KIB",
                          "TASK_US", "HISTC",   "STATIC", "ABORT", "REPORT"};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(separator, at), text.size());
    if (end > at) parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

template <class T>
bool number(const std::string& text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

bool read_faults(const std::string& text, std::vector<fault>& out) {
  for (const auto& part : split(text, ';')) {
    const auto fields = split(part, ':');
    fault f;
    if (fields.size() != 3 || !number(fields[1], f.nth) || !number(fields[2], f.code) || f.nth == 0 || f.code == 0) return false;
    f.function = fields[0];
    out.push_back(f);
  }
  return true;
}

bool read_lost(const std::string& text, std::map<int, uint64_t>& out) {
  for (const auto& part : split(text, ';')) {
    const auto fields = split(part, ':');
    int device = 0;
    uint64_t nth = 0;
    if (fields.size() != 2 || !number(fields[0], device) || !number(fields[1], nth) || nth == 0) return false;
    out[device] = nth;
  }
  return true;
}

/// Ids up to the first one that does not exist, as the driver reads ASCEND_RT_VISIBLE_DEVICES.
void restrict_to_visible(const char* visible, std::vector<int>& devices) {
  const int count = static_cast<int>(devices.size());
  devices.clear();
  for (const auto& part : split(visible, ',')) {
    int id = 0;
    if (!number(part, id) || id < 0 || id >= count) break;
    devices.push_back(id);
  }
}

bool apply(const std::string& key, const std::string& value, settings& s) {
  if (key == "SOC") {
    s.soc = value;
  } else if (key == "DEVICES") {
    uint32_t count = 0;
    if (!number(value, count) || count > 64) return false;
    s.devices.resize(count);
    for (uint32_t i = 0; i < count; ++i) s.devices[i] = static_cast<int>(i);
  } else if (key == "MEMORY") {
    return number(value, s.memory);
  } else if (key == "FAIL") {
    return read_faults(value, s.faults);
  } else if (key == "LOST") {
    return read_lost(value, s.lost);
  } else if (key == "COPY_NS_PER_KIB") {
    return number(value, s.copy_ns_per_kib);
  } else if (key == "COMPUTE_NS_PER_KIB") {
    return number(value, s.compute_ns_per_kib);
  } else if (key == "TASK_US") {
    return number(value, s.task_us);
  } else if (key == "HISTC") {
    s.torch_histc = value == "torch";
    return s.torch_histc || value == "own";
  } else if (key == "STATIC") {
    s.static_f16 = value == "f16";
    return s.static_f16 || value == "f32";
  } else if (key == "ABORT") {
    s.abort = value == "1";
  } else if (key == "REPORT") {
    s.report = value;
  }
  return true;
}

}  // namespace

bool known_setting(const std::string& key) { return std::find(keys.begin(), keys.end(), key) != keys.end(); }

bool read_settings(const overrides& more, settings& out, std::string& problem) {
  settings s;
  for (const std::string key : keys) {
    const char* from_environment = std::getenv(("QLIB_FAKE_ACL_" + key).c_str());
    const auto found = more.find(key);
    if (found == more.end() && from_environment == nullptr) continue;
    const std::string value = found != more.end() ? found->second : from_environment;
    if (!apply(key, value, s)) {
      problem = "QLIB_FAKE_ACL_" + key + "=" + value + " cannot be read";
      return false;
    }
  }
  if (const char* visible = std::getenv("ASCEND_RT_VISIBLE_DEVICES")) restrict_to_visible(visible, s.devices);
  out = s;
  return true;
}

}  // namespace fake_acl
