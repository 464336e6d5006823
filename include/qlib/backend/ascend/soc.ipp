#pragma once
#include <qlib/backend/ascend/soc.hpp>

#include <cstddef>

namespace qlib::inline v0::ascend {

QLIB_INLINE std::string_view name_of(soc_family family) {
  constexpr std::string_view names[] = {"unknown", "910 (first generation)", "310P", "A2 (910B1 to 910B4)", "A3 (910_93)", "310B", "950"};
  return names[static_cast<std::size_t>(family)];
}

QLIB_INLINE soc_family family_of(std::string_view soc_name, std::int64_t architecture) {
  using enum soc_family;
  std::string_view name = soc_name;
  if (name.starts_with("Ascend")) name.remove_prefix(6);
  const bool third = name.starts_with("910_93");
  switch (architecture) {
    case 1001:
      return train1;
    case 2002:
      return p310;
    case 2201:
      return third ? a3 : a2;
    case 3002:
      return b310;
    case 3510:
      return a5;
    default:
      break;
  }
  for (std::string_view exact : {"910", "910A", "910B", "910ProA", "910ProB", "910PremiumA"})
    if (name == exact) return train1;
  if (name.starts_with("910Pro") || name.starts_with("910Premium")) return train1;
  if (name.starts_with("310P")) return p310;
  if (name.starts_with("310B")) return b310;
  if (name.starts_with("950")) return a5;
  if (third) return a3;
  if (name.starts_with("910B") && name.size() >= 5 && name[4] >= '1' && name[4] <= '4') return a2;
  return unknown;
}

}  // namespace qlib::inline v0::ascend
