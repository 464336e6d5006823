#pragma once
#include <qlib/io/mmap_file.hpp>
#include <qlib/pipeline/calibration_archive.ipp>
#include <qlib/pipeline/stored_calibration.hpp>

#include <cerrno>
#include <cstdio>

#include <sys/stat.h>

namespace qlib::inline v0 {

namespace detail {

using archive_magic = std::array<char, 8>;
inline constexpr archive_magic calibration_magic{'q', 'l', 'i', 'b', '-', 'c', 'a', 'l'}, pass_magic{'q', 'l', 'i', 'b', '-', 'p', 'a', 's'};

template <class... T>
void whole_archive(archive_writer& archive, const archive_magic& magic, std::uint64_t key, const T&... content) {
  archive(magic, calibration_layout, key, content...);
  archive(archive.checksum());
}

/// Written beside `path` and renamed.
template <class... T>
status store_archive(const std::string& path, const archive_magic& magic, std::uint64_t key, const T&... content) {
  archive_writer counted;
  whole_archive(counted, magic, key, content...);
  const std::string unfinished = path + ".tmp";
  auto file = output_file::create(unfinished, counted.size());
  if (!file) return std::move(file).error();
  archive_writer written{*file};
  whole_archive(written, magic, key, content...);
  if (status s = written.finish(); !s) return s;
  if (status s = file->sync(); !s) return s;
  if (status s = file->close(); !s) return s;
  if (std::rename(unfinished.c_str(), path.c_str()) != 0) return system_error(path, "rename to", errno);
  return {};
}

/// False if there is no such file, it belongs to another key or layout, or is damaged.
template <class... T>
result<bool> load_archive(const std::string& path, const archive_magic& magic, std::uint64_t key, T&... content) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 && (errno == ENOENT || errno == ENOTDIR)) return false;
  auto file = mmap_file::open(path);
  if (!file) return std::move(file).error();
  std::uint64_t sum = 0, key_of_file = 0;
  archive_magic magic_of_file{};
  std::uint32_t layout = 0;
  const std::span<const std::byte> all = file->bytes();
  if (all.size() < sizeof magic + sizeof layout + sizeof key + sizeof sum) return false;
  const auto checked = all.first(all.size() - sizeof sum);
  std::memcpy(&sum, all.data() + checked.size(), sizeof sum);
  archive_reader archive{checked};
  archive(magic_of_file, layout, key_of_file);
  if (magic_of_file != magic || layout != calibration_layout || key_of_file != key || sum != checksum_of(checked)) return false;
  archive(content...);
  return !archive.broken() && archive.left() == 0;
}

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

QLIB_INLINE status store_pass(const pass_between_layers& pass, std::uint64_t key, const std::string& path) {
  return detail::store_archive(path, detail::pass_magic, key, std::uint64_t{pass.layers}, *pass.found, std::span<const float>{pass.hidden},
                               std::span<const float>{pass.hidden_of_suppression});
}

QLIB_INLINE result<bool> load_pass(pass_between_layers& pass, std::uint64_t key, const std::string& path) {
  std::uint64_t layers = 0;
  const auto there = detail::load_archive(path, detail::pass_magic, key, layers, *pass.found, pass.hidden, pass.hidden_of_suppression);
  if (there && *there) pass.layers = layers;
  return there;
}

}  // namespace qlib::inline v0
