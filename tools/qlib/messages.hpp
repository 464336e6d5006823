/// What the program says on stderr. Nothing of it ends a run: what cannot be printed is lost.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace qlib::program {

/// How much is said; each level includes those before it.
enum class verbosity { error, warning, info, debug };

/// "error", "warning", "info" or "debug", in any case.
std::optional<verbosity> verbosity_from_name(std::string_view name);

/// Makes descriptors 0 to 2 safe: one that is closed would be given to the next file that is opened, and messages would be written into it. A reader
/// of the output that goes away is an error of that write alone, no signal.
void guard_streams();

/// The whole text in one write, if it can be written.
void print_stderr(std::string_view text);

/// `text` without control characters, which would end a line or steer the terminal: "\n" is written as a backslash and n, ESC as "\x1b".
std::string one_line(std::string_view text);

/// Progress. On a terminal one line that is redrawn, as wide as the terminal; elsewhere there is none.
class terminal_line {
 public:
  terminal_line();

  /// stderr is a terminal.
  bool shown() const { return shown_; }

  void draw(std::string_view text) const;
  void clear() const;

 private:
  bool shown_;
};

/// Columns of the terminal behind stderr: what it says, else COLUMNS, else 80.
std::size_t terminal_columns();

/// Seconds that are left as "12s", or "-" as long as too little is done to tell. share: of the work, 0 to 1. elapsed: seconds of work so far.
std::string time_left_text(double seconds, double elapsed, double share);

}  // namespace qlib::program
