#pragma once
#include <qlib/config.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace qlib::inline v0 {

/// Who has to act on an error: the program maps these to its exit codes.
enum class error_kind {
  invalid_input,  ///< a file, a recipe or an argument is wrong: nothing was written (exit code 2)
  run_failed,     ///< the machine failed: disk full, I/O error, out of memory; the run can be resumed (exit code 1)
};

/// One thing that is wrong, where, why, and what to do about it.
///
/// `text()` is the one line that users see: `<where>: <subject>: <problem>: <remedy>`, empty parts left out.
struct error {
  error_kind kind = error_kind::invalid_input;
  std::string where = {};    ///< file, recipe or policy
  std::string subject = {};  ///< tensor, key or line
  std::string problem = {};  ///< what is wrong, with the numbers that prove it
  std::string remedy = {};   ///< what to do; may be empty

  std::string text() const {
    std::string line;
    for (std::string_view part : {std::string_view{where}, std::string_view{subject}, std::string_view{problem}, std::string_view{remedy}}) {
      if (part.empty()) continue;
      if (!line.empty()) line += ": ";
      line += part;
    }
    return line;
  }
};

/// All the errors that one check found. An empty list means that the check passed.
using errors = std::vector<error>;

/// A value, or the error that prevented it (std::expected arrives with C++23).
///
/// `operator bool` tells which; `*r` and `r->` need a value, `r.error()` an error.
template <class T>
class [[nodiscard]] result {
 public:
  result(T value) : state_{std::in_place_index<0>, std::move(value)} {}
  result(qlib::error e) : state_{std::in_place_index<1>, std::move(e)} {}

  explicit operator bool() const noexcept { return state_.index() == 0; }
  T& operator*() & { return *std::get_if<0>(&state_); }
  const T& operator*() const& { return *std::get_if<0>(&state_); }
  T&& operator*() && { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() { return std::get_if<0>(&state_); }
  const T* operator->() const { return std::get_if<0>(&state_); }
  const qlib::error& error() const& { return *std::get_if<1>(&state_); }
  qlib::error&& error() && { return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, qlib::error> state_;
};

/// Success, or an error.
template <>
class [[nodiscard]] result<void> {
 public:
  result() = default;
  result(qlib::error e) : error_{std::move(e)} {}

  explicit operator bool() const noexcept { return !error_; }
  const qlib::error& error() const& { return *error_; }
  qlib::error&& error() && { return *std::move(error_); }

 private:
  std::optional<qlib::error> error_;
};

using status = result<void>;

}  // namespace qlib::inline v0
