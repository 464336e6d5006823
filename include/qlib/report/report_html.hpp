/// The report as one HTML page: no other file, no network, light and dark, from 400 pixels on.
#pragma once
#include <qlib/report/accuracy_report.hpp>

#include <string>

namespace qlib::inline v0 {

/// Complete without scripts; the one that it has sorts the table of layers.
std::string html_of(const accuracy_report& report);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/report/report_html.ipp>
#endif
