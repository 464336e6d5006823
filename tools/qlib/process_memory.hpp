/// What this process takes of memory.
#pragma once
#include <cstdint>

namespace qlib::program {

/// Resident bytes.
struct process_memory {
  std::uint64_t now = 0, peak = 0;
};

/// Of this process alone: getrusage also remembers the one that started it, and serves only where /proc does not.
process_memory memory_of_process();

}  // namespace qlib::program
