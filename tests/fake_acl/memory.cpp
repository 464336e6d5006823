#include "memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <utility>

namespace fake_acl {
namespace {

constexpr size_t start = 64;  // from the page: 64-byte alignment is all that is promised
constexpr int undefined_contents = 0xCD;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Addresses of freed device memory stay reserved for a while, so that a stale pointer does not point into a new allocation.
struct retired {
  std::mutex mutex;
  std::deque<std::pair<void*, size_t>> ranges;
};
retired& graveyard() {
  static retired* const it = new retired;
  return *it;
}

void retire(void* range, size_t bytes) {
  ::mmap(range, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  retired& g = graveyard();
  const std::scoped_lock lock{g.mutex};
  g.ranges.emplace_back(range, bytes);
  if (g.ranges.size() <= 1024) return;
  ::munmap(g.ranges.front().first, g.ranges.front().second);
  g.ranges.pop_front();
}

}  // namespace

allocation::~allocation() {
  if (device == host) {
    std::free(handed);
    return;
  }
  if (mapped_backing != nullptr) ::munmap(mapped_backing, mapped);
  if (mapped_handed != nullptr) retire(mapped_handed, mapped);
}

std::shared_ptr<allocation> new_device_memory(int device, size_t bytes, size_t charged) {
  auto a = std::make_shared<allocation>();
  a->device = device;
  a->size = bytes;
  a->charged = charged;
  a->mapped = round_up(bytes + start, 4096);
  const int file = ::memfd_create("fake_acl", MFD_CLOEXEC);
  if (file < 0) return nullptr;
  void* handed = MAP_FAILED;
  void* backing = MAP_FAILED;
  if (::ftruncate(file, static_cast<off_t>(a->mapped)) == 0) {
    handed = ::mmap(nullptr, a->mapped, PROT_NONE, MAP_SHARED, file, 0);
    backing = ::mmap(nullptr, a->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  ::close(file);
  if (handed != MAP_FAILED) a->mapped_handed = handed;
  if (backing != MAP_FAILED) a->mapped_backing = backing;
  if (handed == MAP_FAILED || backing == MAP_FAILED) return nullptr;
  a->handed = static_cast<std::byte*>(handed) + start;
  a->backing = static_cast<std::byte*>(backing) + start;
  std::memset(a->backing, undefined_contents, bytes);
  return a;
}

std::shared_ptr<allocation> new_pinned_memory(size_t bytes) {
  auto a = std::make_shared<allocation>();
  void* memory = nullptr;
  if (::posix_memalign(&memory, 64, bytes) != 0) return nullptr;
  a->handed = a->backing = static_cast<std::byte*>(memory);
  a->size = bytes;
  std::memset(memory, undefined_contents, bytes);
  return a;
}

bool was_device_memory(const void* address) {
  retired& g = graveyard();
  const std::scoped_lock lock{g.mutex};
  for (const auto& [range, bytes] : g.ranges) {
    if (address >= range && address < static_cast<const std::byte*>(range) + bytes) return true;
  }
  return false;
}

void address_map::add(std::shared_ptr<allocation> memory) {
  const auto key = reinterpret_cast<uintptr_t>(memory->handed);
  map_.emplace(key, std::move(memory));
}

std::shared_ptr<allocation> address_map::remove(const void* address) {
  const auto found = map_.find(reinterpret_cast<uintptr_t>(address));
  if (found == map_.end()) return nullptr;
  auto memory = std::move(found->second);
  map_.erase(found);
  return memory;
}

std::shared_ptr<allocation> address_map::find(const void* address) const {
  const auto at = reinterpret_cast<uintptr_t>(address);
  auto next = map_.upper_bound(at);
  if (next == map_.begin()) return nullptr;
  const auto& candidate = std::prev(next)->second;
  return at - reinterpret_cast<uintptr_t>(candidate->handed) < candidate->size ? candidate : nullptr;
}

}  // namespace fake_acl
