/// What calibration found, in a file beside the journal: a killed run continues without another pass.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/pipeline/calibrate.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// What a stored calibration belongs to: everything that decides its content but the machine. `reproducible`: products in one order of sums;
/// `floats`: how many layers stay float for their range scores. The plan is the one without those layers taken out.
std::uint64_t calibration_key(const quantization_plan& plan, std::span<const std::vector<std::int32_t>> samples, const calibrate_options& options,
                              bool reproducible, std::size_t floats = 0);

/// Writes all of `found` to `path`.tmp and renames it: little endian, and bit by bit what load_calibration returns.
///
///     8 bytes   "qlib-cal"
///     4 bytes   version of the layout
///     8 bytes   key
///     ...       the fields of calibration in their order: counts and numbers of 8 bytes, floats, strings behind their length. Of a rotation its
///               size, block size and seed
///     8 bytes   checksum64 of everything before
status store_calibration(const calibration& found, std::uint64_t key, const std::string& path);

/// Nothing if there is no such file, it belongs to another key or layout, or is damaged: calibrating again is safe. Errors: a file that cannot be
/// read.
result<std::optional<calibration>> load_calibration(const std::string& path, std::uint64_t key);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/stored_calibration.ipp>
#endif
