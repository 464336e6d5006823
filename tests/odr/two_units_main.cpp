// Both units of this program include every public header, and both use what is defined in .ipp files.
#include "all_headers.hpp"

const void* open_of_the_other_unit();
qlib::errors plan_of_the_other_unit(const qlib::checkpoint& source, qlib::quantization_plan& plan);

int main() {
  if (reinterpret_cast<const void*>(&qlib::checkpoint::open) != open_of_the_other_unit()) return 1;
  qlib::checkpoint source;
  qlib::quantization_plan plan;
  const qlib::errors found = plan_of_the_other_unit(source, plan);
  qlib::recipe recipe;
  qlib::quant_flags flags;
  flags.quant_type = "w8a8_dynamic";
  return recipe_from_flags(flags, recipe).empty() && !found.empty() ? 0 : 2;
}
