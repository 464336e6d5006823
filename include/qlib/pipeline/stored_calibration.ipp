#pragma once
#include <qlib/pipeline/calibration_archive.ipp>
#include <qlib/pipeline/stored_calibration.hpp>

namespace qlib::inline v0 {

namespace detail {

inline constexpr archive_magic calibration_magic{'q', 'l', 'i', 'b', '-', 'c', 'a', 'l'};

}  // namespace detail

QLIB_INLINE std::uint64_t calibration_key(const quantization_plan& plan, std::span<const std::vector<std::int32_t>> samples,
                                          const calibrate_options& options, bool reproducible, std::size_t floats) {
  detail::archive_writer sum;
  sum(detail::calibration_layout, plan.fingerprint, static_cast<int>(plan.follow), std::uint64_t{samples.size()});
  for (const std::vector<std::int32_t>& sample : samples) sum(sample);
  sum(std::uint64_t{options.suppress_samples.size()});
  for (const std::vector<std::int32_t>& sample : options.suppress_samples) sum(sample);
  sum(options.few_tokens, options.histograms, options.range_scores);
  sum(options.suppress.search_tokens, options.suppress.weight_bytes, options.suppress.as_peers, reproducible, floats);
  return sum.checksum();
}

QLIB_INLINE status store_calibration(const calibration& found, std::uint64_t key, const std::string& path) {
  return detail::store_archive(path, detail::calibration_magic, key, found);
}

QLIB_INLINE result<std::optional<calibration>> load_calibration(const std::string& path, std::uint64_t key) {
  calibration found;
  const auto there = detail::load_archive(path, detail::calibration_magic, key, found);
  if (!there) return there.error();
  return *there ? std::optional{std::move(found)} : std::nullopt;
}

}  // namespace qlib::inline v0
