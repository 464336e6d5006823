#include "process_memory.hpp"

#include <fstream>
#include <string>

#include <sys/resource.h>

namespace qlib::program {

process_memory memory_of_process() {
  process_memory out;
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) out.peak = std::stoull(line.substr(6)) * 1024;
    if (line.starts_with("VmRSS:")) out.now = std::stoull(line.substr(6)) * 1024;
  }
  if (out.peak > 0) return out;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  out.peak = out.now = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
  return out;
}

}  // namespace qlib::program
