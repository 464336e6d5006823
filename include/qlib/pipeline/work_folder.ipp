#pragma once
#include <qlib/pipeline/work_folder.hpp>

#include <cerrno>
#include <filesystem>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace qlib::inline v0 {

QLIB_INLINE result<held_folder> held_folder::take(const std::string& path) {
  const error taken{error_kind::invalid_input, path, {}, "another run is using this work folder", "wait for it or stop it"};
  std::error_code ec;
  std::filesystem::create_directories(path, ec);
  if (ec)
    return error{.kind = error_kind::run_failed,
                 .where = path,
                 .problem = "cannot create the work folder: " + ec.message(),
                 .remedy = "mend it and rerun with --resume"};
  held_folder held;
  held.folder_ = file_descriptor{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (held.folder_.get() < 0) return system_error(path, "open", errno);
  // is_taken of another process holds it for an instant.
  for (int tries = 0; ::flock(held.folder_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; ++tries) {
    if (tries == 5) return taken;
    ::usleep(20'000);
  }
  // Whoever held it may have renamed it to its result just now.
  struct stat own {
  }, named{};
  if (::fstat(held.folder_.get(), &own) == 0 && (::stat(path.c_str(), &named) != 0 || own.st_ino != named.st_ino)) return taken;
  return held;
}

QLIB_INLINE bool held_folder::is_taken(const std::string& path) {
  const file_descriptor folder{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  return folder.get() >= 0 && ::flock(folder.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

}  // namespace qlib::inline v0
