#include "messages.hpp"

#include <fmt/core.h>
#include <qlib/recipe/ascii_case.hpp>

#include <array>
#include <charconv>
#include <csignal>
#include <cstdlib>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace qlib::program {

std::optional<verbosity> verbosity_from_name(std::string_view name) {
  constexpr std::array<std::string_view, 4> names{"error", "warning", "info", "debug"};
  const std::string lower = detail::lower_case(name);
  for (std::size_t i = 0; i < names.size(); ++i)
    if (lower == names[i]) return static_cast<verbosity>(i);
  return std::nullopt;
}

void guard_streams() {
  std::signal(SIGPIPE, SIG_IGN);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) != -1) continue;
    // The lowest number that is free is this one. Results that nobody takes stay an error: stdout cannot be written.
    [[maybe_unused]] const int null = ::open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY);
  }
}

void print_stderr(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

std::string one_line(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool c1 = c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;  // U+0080 to U+009F steer terminals too
    if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else if (c < 0x20 || c == 0x7f) out += fmt::format("\\x{:02x}", c);
    else if (c1) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[++i]));
    else out += text[i];
  }
  return out;
}

std::size_t terminal_columns() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  std::size_t columns = 0;
  if (const char* text = std::getenv("COLUMNS"))
    if (const std::string_view t{text}; std::from_chars(t.data(), t.data() + t.size(), columns).ec == std::errc{} && columns > 0) return columns;
  return 80;
}

terminal_line::terminal_line() : shown_{::isatty(STDERR_FILENO) == 1} {}

void terminal_line::draw(std::string_view text) const {
  if (!shown_) return;
  const std::string whole = one_line(text);
  const std::size_t width = terminal_columns() - 1;  // a full line would wrap, and not be redrawn
  std::size_t bytes = 0, columns = 0;
  while (bytes < whole.size()) {
    const bool begins = (static_cast<unsigned char>(whole[bytes]) & 0xc0) != 0x80;  // of a character, not in the middle of one
    if (begins && columns++ == width) break;
    ++bytes;
  }
  print_stderr("\r\x1b[K" + whole.substr(0, bytes));
}

void terminal_line::clear() const {
  if (shown_) print_stderr("\r\x1b[K");
}

std::string time_left_text(double seconds, double elapsed, double share) {
  // The first pieces pay for pages, kernels and threads that later ones find ready.
  const bool known = share >= 1 || elapsed >= 10 || (elapsed >= 1 && share >= 0.01);
  return known ? fmt::format("{:.0f}s", seconds) : "-";
}

}  // namespace qlib::program
