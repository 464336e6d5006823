#pragma once
#include <qlib/io/python_json.ipp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/planned_config.hpp>

namespace qlib::inline v0::detail {

QLIB_INLINE stored_config planned_config(const quantization_plan& plan) {
  stored_config out;
  out.names = loaded_names{plan.model_type};
  for (const output_slot& s : plan.slots) out.names.see(s.tensor.name);
  for (const document& d : plan.documents) {
    if (d.name != "config.json") continue;
    const nlohmann::json config = parse_python_json(d.text);
    if (config.is_object() && config.contains("quantization_config")) read_compressed_tensors_config(config["quantization_config"].dump(), out);
  }
  return out;
}

}  // namespace qlib::inline v0::detail
