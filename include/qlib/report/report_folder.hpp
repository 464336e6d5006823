/// A folder with report.json and report.html.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/report/accuracy_report.hpp>

#include <string>

namespace qlib::inline v0 {

/// Whether reports can be written there, before anything else is done: the folder, or the nearest one above it, takes a new file.
status check_report_folder(const std::string& folder);

/// The same of one file, which may be there.
status check_report_file(const std::string& path);

/// Writes both files; makes the folder if it is not there. Each file appears whole or not at all. Errors: run_failed.
status write_report(const std::string& folder, const accuracy_report& report);

/// Writes one text file, whole or not at all, and the folder for it.
status write_report_file(const std::string& path, const std::string& text);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/report/report_folder.ipp>
#endif
