#pragma once
#include <qlib/pipeline/calibration_archive.ipp>
#include <qlib/pipeline/stored_pass.hpp>

namespace qlib::inline v0 {

namespace detail {

inline constexpr archive_magic pass_magic{'q', 'l', 'i', 'b', '-', 'p', 'a', 's'};

}  // namespace detail

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
