/// What decides the bytes of a run, setting by setting: kept in the work folder and beside the result, so that `resume` sees what has changed.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/pipeline/plan.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// "stage 1 weights.group_size" and "128".
struct run_setting {
  std::string name, value;
  friend bool operator==(const run_setting&, const run_setting&) = default;
};
using run_settings = std::vector<run_setting>;

/// What a run is given beside its source and its recipe.
struct run_inputs {
  std::span<const std::vector<std::int32_t>> samples = {}, suppress_samples = {};  ///< token ids; empty: none are read
  std::span<const std::string> copied_files = {};                                  ///< names in the source directory
  bool reproducible = false;
  std::size_t float_layers = 0;  ///< that --disable_level keeps
};

/// All settings: the program's version, the source, the format, every stage with its options, calibration data. Not threads, devices and reports.
///
/// Weights are recognised by their headers and some pages of each file. The setting "source files" (paths and times) is for the work folder alone:
/// results of copies of a model are the same.
run_settings settings_of(const checkpoint& source, const recipe& r, const quantization_plan& plan, const run_inputs& inputs);

/// "stage 1 weights.group_size was 128, is 64", one text a difference. A setting "source files" that one side lacks is none.
std::vector<std::string> changed_settings(const run_settings& then, const run_settings& now);

/// The file of settings in a work folder or a result: hidden, JSON; engines ignore it.
std::string settings_file_of(const std::string& folder);

/// Writes it whole or not at all.
status store_settings(const run_settings& settings, const std::string& folder);

/// Nothing if there is none, or it is none of this program's.
std::optional<run_settings> load_settings(const std::string& folder);

/// As they are beside a result: without what belongs to the work folder alone.
run_settings settings_of_result(run_settings settings);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/run_settings.ipp>
#endif
