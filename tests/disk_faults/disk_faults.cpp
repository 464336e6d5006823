/// Preloaded into the program by tests: writes down in which order it syncs and renames, and lets one sync fail.
///
///     QLIB_DISK_LOG    file to which "sync PATH", "remove PATH" and "rename FROM TO" are appended
///     QLIB_SYNC_FAILS  part of a path: syncing such a file fails as on a disk that is full
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

namespace {

template <class F>
F* next(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

std::string path_of(int fd) {
  std::string path(4096, '\0');
  const ssize_t n = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path.data(), path.size());
  path.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return path;
}

void note(const std::string& line) {
  const char* log = std::getenv("QLIB_DISK_LOG");
  if (log == nullptr) return;
  const int fd = ::open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) return;
  const std::string text = line + "\n";
  [[maybe_unused]] const ssize_t n = ::write(fd, text.data(), text.size());
  ::close(fd);
}

int synced(int fd, const char* function) {
  const std::string path = path_of(fd);
  const char* failing = std::getenv("QLIB_SYNC_FAILS");
  if (failing != nullptr && path.find(failing) != std::string::npos) {
    errno = ENOSPC;
    return -1;
  }
  note("sync " + path);
  return next<int(int)>(function)(fd);
}

}  // namespace

extern "C" {

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }

int rename(const char* from, const char* to) noexcept {
  note(std::string{"rename "} + from + " " + to);
  return next<int(const char*, const char*)>("rename")(from, to);
}

int remove(const char* path) noexcept {
  note(std::string{"remove "} + path);
  return next<int(const char*)>("remove")(path);
}

}  // extern "C"
