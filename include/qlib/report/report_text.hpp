/// The report for a terminal, at most 100 columns but for long names.
#pragma once
#include <qlib/report/accuracy_report.hpp>

#include <string>

namespace qlib::inline v0 {

/// Sizes, errors, evaluation, and the five worst layers.
std::string text_of(const accuracy_report& report);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/report/report_text.ipp>
#endif
