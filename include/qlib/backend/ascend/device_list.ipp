#pragma once
#include <qlib/backend/ascend/device_list.hpp>

namespace qlib::inline v0::ascend {

QLIB_INLINE bool names_npus(std::string_view text) {
  constexpr std::string_view name = "npu";
  for (std::size_t i = 0; i < name.size(); ++i)
    if (i >= text.size() || (text[i] | 0x20) != name[i]) return false;
  return text.size() == name.size() || text[name.size()] == ':';
}

QLIB_INLINE result<std::vector<int>> parse_devices(std::string_view text) {
  const auto wrong = [&](std::string problem) {
    return error{
        .where = "--device", .subject = std::string{text}, .problem = std::move(problem), .remedy = "use npu, or npu: and numbers such as npu:0,1"};
  };
  if (!names_npus(text)) return wrong("is not an NPU");
  if (text.size() == 3) return std::vector<int>{0};
  std::vector<int> ids;
  for (std::size_t begin = 4; begin <= text.size();) {
    const std::size_t comma = text.find(',', begin), end = comma == std::string_view::npos ? text.size() : comma;
    const std::string_view digits = text.substr(begin, end - begin);
    if (digits.empty() || digits.size() > 4 || digits.find_first_not_of("0123456789") != std::string_view::npos)
      return wrong("'" + std::string{digits} + "' is not a device number");
    int id = 0;
    for (const char d : digits) id = id * 10 + (d - '0');
    for (const int other : ids)
      if (other == id) return wrong("names device " + std::to_string(id) + " twice");
    ids.push_back(id);
    begin = end + 1;
  }
  return ids;
}

}  // namespace qlib::inline v0::ascend
