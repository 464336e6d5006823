#pragma once
#include <qlib/io/output_file.hpp>
#include <qlib/report/report_folder.hpp>
#include <qlib/report/report_html.hpp>
#include <qlib/report/report_json.hpp>

#include <cstdlib>
#include <filesystem>

#include <unistd.h>

namespace qlib::inline v0 {

QLIB_INLINE status check_report_folder(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code ec;
  fs::path at = fs::absolute(folder, ec).lexically_normal();
  while (!fs::exists(at, ec) && at.has_parent_path() && at != at.parent_path()) at = at.parent_path();
  if (!fs::is_directory(at, ec)) return error{.where = at.string(), .problem = "is not a directory", .remedy = "name another folder for the report"};
  // What access() says is not enough: root may write everywhere, but not below /proc.
  std::string probe = at / ".qlib-report-XXXXXX";
  const int file = ::access(at.c_str(), W_OK) == 0 ? ::mkstemp(probe.data()) : -1;
  if (file < 0)
    return error{.where = at.string(), .problem = "is not writable", .remedy = "name another folder for the report or change its permissions"};
  ::close(file);
  ::unlink(probe.c_str());
  for (const char* name : {"report.json", "report.html"})
    if (fs::is_directory(fs::path{folder} / name, ec))
      return error{.where = (fs::path{folder} / name).string(), .problem = "is a directory", .remedy = "name another folder for the report"};
  return {};
}

QLIB_INLINE status check_report_file(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ec;
  if (fs::is_directory(path, ec)) return error{.where = path, .problem = "is a directory", .remedy = "name another file for the report"};
  const fs::path folder = fs::path{path}.parent_path();
  return check_report_folder(folder.empty() ? "." : folder.string());
}

QLIB_INLINE status write_report_file(const std::string& path, const std::string& text) {
  namespace fs = std::filesystem;
  const auto failed = [&](const std::string& why) {
    return error{.kind = error_kind::run_failed,
                 .where = path,
                 .problem = "cannot be written" + (why.empty() ? "" : ": " + why),
                 .remedy = "the checkpoint itself is complete"};
  };
  std::error_code ec;
  if (const fs::path parent = fs::path{path}.parent_path(); !parent.empty()) fs::create_directories(parent, ec);
  if (ec) return failed(ec.message());
  status s = replace_file(path, text);
  if (s) return s;
  error why = std::move(s).error();
  return failed(why.problem);
}

QLIB_INLINE status write_report(const std::string& folder, const accuracy_report& report) {
  if (status s = write_report_file(folder + "/report.json", json_of(report) + "\n"); !s) return s;
  return write_report_file(folder + "/report.html", html_of(report));
}

}  // namespace qlib::inline v0
