/// Reports of runs, and of checkpoints that are there already.
#pragma once
#include <qlib/format/weight_folder.hpp>
#include <qlib/model/calibration_data.hpp>
#include <qlib/pipeline/run.hpp>
#include <qlib/report/accuracy_report.hpp>

namespace qlib::inline v0 {

/// What a run of `plan` over `source` did. `found` and `data` may be null: nothing was calibrated. What only the program knows (seconds,
/// memory, the quant type's name) stays as it is by default.
accuracy_report describe_run(const checkpoint& source, const quantization_plan& plan, const run_report& done, const calibration* found,
                             const calibration_report* data);

/// What a folder's names, shapes and description tell: types and sizes. No errors were measured, and what it was made from is not known.
accuracy_report describe_checkpoint(const weight_folder& folder);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/report/describe.ipp>
#endif
