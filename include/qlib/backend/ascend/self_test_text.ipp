#pragma once
#include <qlib/backend/ascend/self_test.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>

namespace qlib::inline v0::ascend {

namespace trials {

inline std::string padded(const std::string& text, std::size_t width) {
  return text + std::string(text.size() < width ? width - text.size() : 1, ' ');
}

inline std::string short_number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  return text;
}

inline std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out.empty() ? "none" : out;
}

}  // namespace trials

QLIB_INLINE std::string to_text(const self_test_report& report) {
  using trials::padded;
  std::string out = "npu:" + std::to_string(report.device) + "  " + (report.soc.empty() ? "unnamed chip" : report.soc) + ", family " + report.family;
  if (report.architecture != 0) out += ", architecture " + std::to_string(report.architecture);
  if (report.cube_cores != 0) out += ", " + std::to_string(report.cube_cores) + " cube cores";
  if (report.vector_cores != 0) out += ", " + std::to_string(report.vector_cores) + " vector cores";
  if (report.total_memory != 0) out += ", " + std::to_string(report.total_memory >> 20) + " MiB";
  out += "\nlibraries    " + trials::joined(report.files) + "\nversions     " + trials::joined(report.versions) + "\nmissing ops  " +
         trials::joined(report.missing_ops) + "\n\n";
  for (const path_trial& t : report.paths) out += padded(t.operation, 20) + padded(t.type, 6) + padded(t.path, 34) + t.outcome + "\n";
  out += "\n";
  for (const operation_trial& t : report.operations) {
    out += padded(t.passed ? "pass" : "FAIL", 6) + padded(t.operation, 36) + padded(t.type, 6) + padded(t.path, 34) + std::to_string(t.different) +
           " of " + std::to_string(t.values) + " differ";
    if (t.different > 0) out += ", by " + trials::short_number(t.largest_error) + " at most";
    out += " (allowed: " + std::to_string(t.different_bound) + ", by " + trials::short_number(t.bound) + ")\n";
  }
  if (!report.failure.empty()) out += "\n" + report.failure + "\n";
  out += std::string{"\nself-test: "} + (report.passed ? "passed" : "FAILED") + "\n";
  return out;
}

QLIB_INLINE std::string to_json(const self_test_report& report) {
  using json = nlohmann::ordered_json;
  json paths = json::array(), operations = json::array();
  for (const path_trial& t : report.paths) paths.push_back({{"operation", t.operation}, {"type", t.type}, {"path", t.path}, {"outcome", t.outcome}});
  for (const operation_trial& t : report.operations)
    operations.push_back({{"operation", t.operation},
                          {"type", t.type},
                          {"path", t.path},
                          {"values", t.values},
                          {"different", t.different},
                          {"different_bound", t.different_bound},
                          {"largest_error", t.largest_error},
                          {"bound", t.bound},
                          {"passed", t.passed}});
  const json out{{"device", report.device},
                 {"soc", report.soc},
                 {"family", report.family},
                 {"architecture", report.architecture},
                 {"cube_cores", report.cube_cores},
                 {"vector_cores", report.vector_cores},
                 {"free_memory", report.free_memory},
                 {"total_memory", report.total_memory},
                 {"libraries", report.files},
                 {"versions", report.versions},
                 {"missing_ops", report.missing_ops},
                 {"paths", paths},
                 {"operations", operations},
                 {"failure", report.failure},
                 {"passed", report.passed}};
  // The device's own texts may be in any encoding.
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace qlib::inline v0::ascend
