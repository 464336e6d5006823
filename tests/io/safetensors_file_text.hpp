#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace qlib_test {

/// A safetensors file of this header, with `data_bytes` bytes of data counting 0, 1, 2, ...
inline std::string safetensors_text(std::string_view header, std::size_t data_bytes) {
  std::string text(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(text.data(), &length, 8);
  text += header;
  for (std::size_t i = 0; i < data_bytes; ++i) text += static_cast<char>(i);
  return text;
}

}  // namespace qlib_test
