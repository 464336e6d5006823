#pragma once
#include <qlib/pipeline/calibrate.hpp>
#include <qlib/pipeline/stored_pass.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <utility>

namespace qlib::inline v0::detail {

/// Writes a pass to its file now and then.
class pass_keeper {
 public:
  explicit pass_keeper(const std::optional<keep_pass>& how) : how_{how} {}

  /// Whether `pass` is now where an interrupted one was. Otherwise nothing of it is to be used.
  result<bool> resume(pass_between_layers& pass) {
    if (!how_ || !how_->resume) return false;
    const calibration untouched = *pass.found;
    auto there = load_pass(pass, how_->key, how_->path);
    if (there && !*there) *pass.found = untouched;
    return there;
  }

  /// An error says that the file could not be written: none will be, and the pass goes on.
  status layer_done(const pass_between_layers& pass) {
    if (!how_ || (how_->seconds > 0 && clock::now() - last_ < std::max(seconds(how_->seconds), 20 * cost_))) return {};
    const auto start = clock::now();
    std::error_code ec;
    std::filesystem::create_directories(std::filesystem::path{how_->path}.parent_path(), ec);  // the write says if it failed
    status s = store_pass(pass, how_->key, how_->path);
    last_ = clock::now();
    cost_ = last_ - start;
    if (s) return {};
    error failure = std::move(s).error();
    std::filesystem::remove(unfinished_name(how_->path), ec);  // of a full disk
    failure.remedy = "calibration goes on, but would start again if it were killed";
    how_.reset();
    return failure;
  }

 private:
  using clock = std::chrono::steady_clock;
  using seconds = std::chrono::duration<double>;

  std::optional<keep_pass> how_;
  clock::time_point last_ = clock::now();
  seconds cost_{0};
};

}  // namespace qlib::inline v0::detail
