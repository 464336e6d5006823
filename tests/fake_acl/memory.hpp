#pragma once
// Device memory that the host cannot touch, and pinned host memory.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

namespace fake_acl {

constexpr int host = -1;  ///< `device` of pinned memory

/// One allocation. Device memory is a memfd mapped twice: `handed` is PROT_NONE, `backing` is what tasks use. Aligned to 64 bytes and no
/// more; filled with 0xCD.
struct allocation {
  std::byte* handed = nullptr;
  std::byte* backing = nullptr;
  size_t size = 0;
  size_t charged = 0;  ///< bytes that count against the device
  int device = host;

  allocation() = default;
  allocation(const allocation&) = delete;
  allocation& operator=(const allocation&) = delete;
  ~allocation();

  void* mapped_handed = nullptr;
  void* mapped_backing = nullptr;
  size_t mapped = 0;
};

/// Null if the host has no memory left.
std::shared_ptr<allocation> new_device_memory(int device, size_t bytes, size_t charged);
std::shared_ptr<allocation> new_pinned_memory(size_t bytes);

/// Whether the address was device memory that is freed.
bool was_device_memory(const void* address);

/// Live allocations by handed-out address.
class address_map {
 public:
  void add(std::shared_ptr<allocation> memory);
  /// Removes the allocation that starts here; null if none does.
  std::shared_ptr<allocation> remove(const void* start);
  /// The allocation that contains the address; null if none does.
  std::shared_ptr<allocation> find(const void* address) const;
  const std::map<uintptr_t, std::shared_ptr<allocation>>& all() const { return map_; }
  void clear() { map_.clear(); }

 private:
  std::map<uintptr_t, std::shared_ptr<allocation>> map_;
};

}  // namespace fake_acl
