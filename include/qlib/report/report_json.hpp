/// The report as JSON: what `qlib quant --json` prints, and report.json.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/report/accuracy_report.hpp>

#include <string>
#include <string_view>

namespace qlib::inline v0 {

/// One document, indented by one. What is not known is left out; numbers that are not finite are null. A histogram is cut to the powers of
/// two that occur: {"first_exponent", "negative", "positive", "below"}.
std::string json_of(const accuracy_report& report);

/// The reverse of json_of. Unknown keys are skipped; `where` is the file, for errors: not JSON, or a key of another type.
errors parse_report(std::string_view text, const std::string& where, accuracy_report& out);

/// The document of `qlib eval --json`. Errors as above, and none of its keys is there.
errors parse_evaluation(std::string_view text, const std::string& where, reported_evaluation& out);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/report/report_json.ipp>
#endif
