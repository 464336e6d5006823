/// Runs the program as a user does: arguments in, exit code and text out. Knows nothing of the code.
#pragma once
#include "../io/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace qlib_test {

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

struct program_result {
  int exit_code = -1;  ///< -1: ended by a signal
  int signal = 0;
  std::string out, err;

  std::vector<std::string> error_lines() const { return lines_of(err); }
};

/// A started program. Its output goes to files, so it never waits for a reader.
class running_program {
 public:
  /// file_size_limit: no file of the program grows above so many bytes; writes beyond it fail as on a full disk. 0: no limit.
  explicit running_program(const std::vector<std::string>& arguments, std::uint64_t file_size_limit = 0) {
    std::vector<std::string> words{QLIB_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const std::string out = texts_.write("out", ""), err = texts_.write("err", "");
    pid_ = ::fork();
    if (pid_ == 0) {
      const int out_file = ::open(out.c_str(), O_WRONLY), err_file = ::open(err.c_str(), O_WRONLY), in_file = ::open("/dev/null", O_RDONLY);
      ::dup2(in_file, STDIN_FILENO);
      ::dup2(out_file, STDOUT_FILENO);
      ::dup2(err_file, STDERR_FILENO);
      if (file_size_limit != 0) {
        std::signal(SIGXFSZ, SIG_IGN);  // stays ignored through exec: write() fails with EFBIG instead
        const rlimit limit{file_size_limit, file_size_limit};
        ::setrlimit(RLIMIT_FSIZE, &limit);
      }
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    REQUIRE(pid_ > 0);
  }
  running_program(const running_program&) = delete;
  running_program& operator=(const running_program&) = delete;
  ~running_program() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  void kill(int signal = SIGKILL) const { ::kill(pid_, signal); }

  bool has_ended() {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid_;
  }

  program_result wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    program_result result;
    if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
    result.out = texts_.read("out");
    result.err = texts_.read("err");
    return result;
  }

 private:
  temporary_folder texts_;
  pid_t pid_ = -1;
};

inline program_result run_program(const std::vector<std::string>& arguments, std::uint64_t file_size_limit = 0) {
  return running_program{arguments, file_size_limit}.wait();
}

/// Paths below `folder` and the content of its files; folders have none.
inline std::map<std::string, std::string> tree_of(const std::string& folder) {
  namespace fs = std::filesystem;
  std::map<std::string, std::string> tree;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator{folder}) {
    std::string& content = tree[fs::relative(entry.path(), folder).string()];
    if (!entry.is_regular_file()) continue;
    content.resize(entry.file_size());  // at once: iterators of streams take seconds under sanitizers
    std::ifstream{entry.path(), std::ios::binary}.read(content.data(), static_cast<std::streamsize>(content.size()));
  }
  return tree;
}

/// The names of two equal trees, or of what differs: a mismatch of megabytes should not be printed.
inline std::string difference(const std::map<std::string, std::string>& a, const std::map<std::string, std::string>& b) {
  std::string text;
  for (const auto& [name, content] : a) {
    const auto at = b.find(name);
    if (at == b.end()) text += "only the first has " + name + "\n";
    else if (at->second != content) text += name + " differs\n";
  }
  for (const auto& [name, content] : b)
    if (a.find(name) == a.end()) text += "only the second has " + name + "\n";
  return text;
}

inline std::string bytes_of(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  REQUIRE_MESSAGE(in.good(), path);
  std::string content(std::filesystem::file_size(path), '\0');
  in.read(content.data(), static_cast<std::streamsize>(content.size()));
  return content;
}

/// Of an ascend_v1 checkpoint in one part.
inline std::string weights_of(const std::string& out) { return bytes_of(out + "/quant_model_weights-00001-of-00001.safetensors"); }

/// Runs the program, which has to refuse for a reason that says `part`, and to write nothing.
inline void check_invalid(const std::vector<std::string>& arguments, const std::string& out, std::string_view part) {
  const program_result r = run_program(arguments);
  CHECK(r.exit_code == 2);
  CHECK_MESSAGE(r.err.find(part) != std::string::npos, r.err);
  CHECK_FALSE(std::filesystem::exists(out));
}

/// Runs the program, which has to refuse: exit code 2, nothing on stdout, on stderr only lines `qlib: error: ...`, one for each
/// element of `errors` in any order and each with all the element's parts, and nothing new or changed below `folder`.
inline void check_refused(const std::string& folder, const std::vector<std::string>& arguments, const std::vector<std::vector<std::string>>& errors) {
  const auto before = tree_of(folder);
  const program_result result = run_program(arguments);
  INFO("stderr: " << result.err);
  CHECK(result.exit_code == 2);
  CHECK(result.out == "");
  std::vector<std::string> lines = result.error_lines();
  CHECK(lines.size() == errors.size());
  CHECK((result.err.empty() || result.err.back() == '\n'));
  for (const std::string& line : lines) {
    CAPTURE(line);
    CHECK(line.rfind("qlib: error: ", 0) == 0);
    CHECK(std::none_of(line.begin(), line.end(), [](unsigned char ch) { return ch < 0x20; }));
  }
  for (const std::vector<std::string>& parts : errors) {
    std::string wanted;
    for (const std::string& part : parts) wanted += "\"" + part + "\" ";
    const auto at = std::find_if(lines.begin(), lines.end(), [&](const std::string& line) {
      return std::all_of(parts.begin(), parts.end(), [&](const std::string& part) { return line.find(part) != std::string::npos; });
    });
    CHECK_MESSAGE(at != lines.end(), "no line with " << wanted);
    if (at != lines.end()) lines.erase(at);
  }
  CHECK(difference(before, tree_of(folder)) == "");
}

}  // namespace qlib_test
