#pragma once
#include <qlib/core/status.hpp>

#include <string_view>
#include <vector>

namespace qlib::inline v0::ascend {

/// "npu" or "npu:...", in capitals too: what `parse_devices` reads.
bool names_npus(std::string_view text);

/// The devices of "npu" (the first one) or "npu:0,1,3", as the process numbers them. invalid_input for anything else; whether they exist is
/// library::check_devices's to say.
result<std::vector<int>> parse_devices(std::string_view text);

}  // namespace qlib::inline v0::ascend

#if !defined(QLIB_COMPILED)
#include <qlib/backend/ascend/device_list.ipp>
#endif
