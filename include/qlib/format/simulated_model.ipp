#pragma once
#include <qlib/format/simulated_activations.hpp>
#include <qlib/format/simulated_model.hpp>
#include <qlib/format/simulated_parameters.hpp>
#include <qlib/io/checkpoint.hpp>
#include <qlib/model/modules.hpp>
#include <qlib/model/parameter_check.hpp>

#include <memory>

namespace qlib::inline v0 {

struct simulated_model::parts {
  std::string format;
  checkpoint source;
  model_layout layout;
  weight_folder folder;
  simulated_contents contents;
  model_description description;
  std::unique_ptr<parameter_source> parameters;
  std::unique_ptr<forward_hook> hook;
};

QLIB_INLINE simulated_model::simulated_model() = default;
QLIB_INLINE simulated_model::simulated_model(simulated_model&&) noexcept = default;
QLIB_INLINE simulated_model& simulated_model::operator=(simulated_model&&) noexcept = default;
QLIB_INLINE simulated_model::~simulated_model() = default;

QLIB_INLINE const std::string& simulated_model::format() const { return parts_->format; }
QLIB_INLINE const model_description& simulated_model::description() const { return parts_->description; }
QLIB_INLINE const parameter_source& simulated_model::parameters() const { return *parts_->parameters; }
QLIB_INLINE forward_hook& simulated_model::hook() { return *parts_->hook; }

QLIB_INLINE errors simulated_model::open(const std::string& directory, const simulation_options& options, simulated_model& out) {
  auto p = std::make_unique<parts>();
  if (errors found = weight_folder::open(directory, p->folder); !found.empty()) return found;
  p->format = format_of(p->folder);
  const std::string config = directory + "/config.json";
  if (p->format == "float" || p->format == "fp8" || p->format == "mxfp4") {
    if (errors found = checkpoint::open(directory, p->source); !found.empty()) return found;
    if (errors found = read_model_layout(p->source, p->layout); !found.empty()) return found;
    if (errors found = read_model_description(p->source.config_text(), config, p->description); !found.empty()) return found;
    p->parameters = std::make_unique<checkpoint_parameters>(p->source, p->layout);
    p->hook = std::make_unique<forward_hook>();
  } else {
    if (!p->folder.damage().empty()) {
      errors found = p->folder.damage();
      for (error& e : found) e.where = directory + "/" + e.where;
      return found;
    }
    errors found;
    if (p->format == "ascend_v1" || p->format == "mindie") found = read_simulated_ascend_v1(p->folder, options.phase, p->contents);
    else if (p->format == "compressed_tensors") found = read_simulated_compressed_tensors(p->folder, p->contents);
    else
      found.push_back({.where = config,
                       .subject = "quant_method",
                       .problem = "the arithmetic of format " + p->format + " is not simulated",
                       .remedy = "give a float, AscendV1 or compressed-tensors checkpoint"});
    errors more = read_model_description(p->folder.config_text(), config, p->description);
    found.insert(found.end(), more.begin(), more.end());
    if (!found.empty()) return found;
    if (p->description.norm_biases) {  // the float model's own, which the decoder adds
      for (const auto& [norm, tensor] : p->contents.norm_bias) p->contents.floats[norm + ".bias"] = tensor;
      p->contents.norm_bias.clear();
    }
    p->parameters = std::make_unique<simulated_parameters>(p->folder, p->contents, p->description.model_type, options.threads);
    adopt_names(*p->parameters, p->description);
    // A rotated or quantized head is no longer the embedding, whatever config.json says.
    if (p->description.tied && p->parameters->contains(p->description.head + ".weight")) p->description.tied = false;
    auto hook = std::make_unique<simulated_activations>();
    found = simulated_activations::create(p->folder, p->contents, p->description, options.threads, *hook);
    if (!found.empty()) return found;
    p->hook = std::move(hook);
  }
  out.parts_ = std::move(p);
  return {};
}

}  // namespace qlib::inline v0
