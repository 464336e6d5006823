#include "all_headers.hpp"

const void* open_of_the_other_unit();
qlib::errors plan_of_the_other_unit(const qlib::checkpoint& source, qlib::quantization_plan& plan);

const void* open_of_the_other_unit() { return reinterpret_cast<const void*>(&qlib::checkpoint::open); }

qlib::errors plan_of_the_other_unit(const qlib::checkpoint& source, qlib::quantization_plan& plan) {
  qlib::recipe recipe;
  qlib::quant_flags flags;
  flags.quant_type = "w8a8_dynamic";
  if (qlib::errors e = recipe_from_flags(flags, recipe); !e.empty()) return e;
  return make_plan(source, {}, recipe, {}, plan);  // an empty checkpoint: nothing to quantize
}
