/// The safetensors container: a JSON header that names tensors, then their bytes without gaps.
///
///     8 bytes   N, the length of the header, little endian
///     N bytes   {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...}
///     the rest  the data section; offsets count from its start
#pragma once
#include <qlib/core/dtype.hpp>
#include <qlib/core/status.hpp>
#include <qlib/io/mmap_file.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlib::inline v0 {

/// One tensor of a header. `shape` is row-major, outermost first; empty for a scalar; an extent of 0 makes an empty tensor.
struct tensor_info {
  std::string name;  ///< UTF-8
  qlib::dtype dtype = qlib::dtype::u8;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0, end = 0;  ///< bytes [begin, end) of the data section

  /// The product of the shape. It does not overflow for a tensor that was parsed or given its offsets.
  std::uint64_t elements() const;
  /// Bytes that dtype and shape ask for; equals end - begin once offsets are known.
  std::uint64_t bytes() const { return elements() * bits_of(dtype) / 8; }
  friend bool operator==(const tensor_info&, const tensor_info&) = default;
};

/// Bytes of a tensor, or nothing when the product of the shape exceeds 64 bits or ends within a byte (F4, F6).
std::optional<std::uint64_t> byte_size(qlib::dtype t, std::span<const std::uint64_t> shape);

using safetensors_metadata = std::vector<std::pair<std::string, std::string>>;

struct safetensors_header {
  std::vector<tensor_info> tensors;  ///< in offset order; they tile the data section without gaps
  safetensors_metadata metadata;     ///< `__metadata__`, in file order
  std::uint64_t data_begin = 0;      ///< offset of the data section in the file: 8 + N, not aligned to anything
};

/// The largest header that readers accept, in bytes.
inline constexpr std::uint64_t largest_safetensors_header = 100'000'000;

/// Reads a header, strictly. `bytes` is the file, or its first 8 + N bytes at least; `file_size` is the size of the whole file;
/// `where` its name, for the errors.
///
/// Returns every independent error, with the tensor as its subject; `out` changes only when there is none. Then names are unique,
/// and each tensor lies inside the file and has the bytes that its dtype and shape ask for. Offsets are compared only when each
/// entry by itself is sound.
errors parse_safetensors_header(std::span<const std::byte> bytes, std::uint64_t file_size, const std::string& where, safetensors_header& out);

/// A mapped safetensors file. Data may start at any address: load elements with memcpy.
class safetensors_file {
 public:
  safetensors_file() = default;

  /// Returns all errors of the file; `out` changes only when there is none.
  static errors open(const std::string& path, safetensors_file& out);

  const std::string& path() const { return map_.path(); }
  const safetensors_header& header() const { return header_; }
  std::span<const tensor_info> tensors() const { return header_.tensors; }

  /// Null when the file has no such tensor. O(log n).
  const tensor_info* find(std::string_view name) const;

  /// The bytes of a tensor of this file, row-major, not aligned.
  std::span<const std::byte> bytes(const tensor_info& tensor) const;

  /// Gives back the resident pages of bytes [offset, offset + length) of a tensor, or reads them ahead.
  void release(const tensor_info& tensor, std::uint64_t offset, std::uint64_t length) const;
  void will_need(const tensor_info& tensor, std::uint64_t offset, std::uint64_t length) const;

 private:
  mmap_file map_;
  safetensors_header header_;
  std::vector<std::size_t> by_name_;  // indices into the tensors
};

/// The order that other writers use: dtype descending, so that wide elements stay aligned, then name.
void order_for_writing(std::vector<tensor_info>& tensors);

/// Places the tensors one after the other in their order. Returns the size of the data section in bytes, or the error of a tensor
/// whose shape has no size in whole bytes.
result<std::uint64_t> assign_offsets(std::span<tensor_info> tensors);

/// The start of a file up to its data section: the length prefix, then the JSON, padded with spaces to a multiple of 8 bytes.
///
/// `tensors` have their offsets. The text is parsed before it is returned, so whatever a reader would refuse is an error here.
result<std::string> serialize_safetensors_header(std::span<const tensor_info> tensors, const safetensors_metadata& metadata = {});

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/io/safetensors.ipp>
#endif
