/// What config.json says about rotary embeddings.
#pragma once
#include <qlib/model/config_reader.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/family.ipp>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

namespace qlib::inline v0::detail {

/// yarn's temperature: 0.1 m ln s + 1.
inline double yarn_magnitude(double s, double m = 1) { return s <= 1 ? 1.0 : 0.1 * m * std::log(s) + 1.0; }

inline const nlohmann::json* object_at(const nlohmann::json& values, const char* key) {
  const auto it = values.find(key);
  return it != values.end() && it->is_object() ? &*it : nullptr;
}

/// Zeros that stand for an absent key: there are checkpoints with them.
inline bool zero_means_none(std::string_view rope_type, std::string_view key, double value) {
  return value == 0 && ((rope_type == "dynamic" && key == "alpha") || (rope_type == "yarn" && key.starts_with("beta_")));
}

/// One entry of rope_scaling or rope_parameters.
inline rope_description describe_rope(config_reader& config, std::size_t dim, double theta, const nlohmann::json* scaling) {
  rope_description rope{.dim = dim, .theta = theta};
  rope.longest = config.first_number({"max_position_embeddings", "n_positions"}).value_or(0);
  rope.original_length = rope.longest;
  if (!scaling) return rope;
  config_reader rs = config.inside("rope_scaling", *scaling);
  const std::string type = rs.text("rope_type").value_or(rs.text("type").value_or("default"));
  rope.factor = rs.number("factor").value_or(1);
  rope.original_length =
      config.number("original_max_position_embeddings").value_or(rs.number("original_max_position_embeddings").value_or(rope.longest));
  const auto needs = [&](const char* key) {
    if (!rs.number(key)) rs.complain(key, "missing, and rope type \"" + type + "\" needs it", "add it to rope_scaling");
  };
  // Frequencies are divided by these.
  for (const char* key : {"factor", "alpha", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "beta_fast", "beta_slow"})
    if (const auto it = scaling->find(key); it != scaling->end() && it->is_number() && !(it->get<double>() > 0) &&
                                            !(type == "default" || type == "mrope") && !zero_means_none(type, key, it->get<double>()))
      rs.complain(key, "is " + it->dump() + ", not above zero", "correct config.json");
  if (type == "default" || type == "mrope") {
    rope.factor = 1;
  } else if (type == "linear") {
    rope.kind = rope_kind::linear;
    needs("factor");
  } else if (type == "dynamic") {
    rope.kind = rope_kind::dynamic;
    if (const double alpha = rs.number("alpha").value_or(0); alpha != 0) {
      rope.kind = rope_kind::ntk_alpha;
      rope.alpha = alpha;
    } else {
      needs("factor");
      if (rope.longest <= 0) config.complain("max_position_embeddings", "missing, and rope type \"dynamic\" needs it", "add it");
    }
  } else if (type == "llama3") {
    rope.kind = rope_kind::llama3;
    for (const char* key : {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) needs(key);
    rope.low_freq_factor = rs.number("low_freq_factor").value_or(1);
    rope.high_freq_factor = rs.number("high_freq_factor").value_or(4);
    if (!(rope.high_freq_factor > rope.low_freq_factor)) rs.complain("high_freq_factor", "is not above low_freq_factor", "correct config.json");
    rope.original_length = rs.number("original_max_position_embeddings").value_or(rope.longest);
  } else if (type == "yarn") {
    rope.kind = rope_kind::yarn;
    if (rope.original_length <= 0) rs.complain("original_max_position_embeddings", "missing, and rope type \"yarn\" needs it", "add it");
    if (!rs.number("factor") && rope.original_length > 0) rope.factor = rope.longest / rope.original_length;
    const auto above_zero = [&](const char* key, double otherwise) {
      const double v = rs.number(key).value_or(0);
      return v == 0 ? otherwise : v;
    };
    rope.beta_fast = above_zero("beta_fast", 32);
    rope.beta_slow = above_zero("beta_slow", 1);
    rope.truncate = rs.flag("truncate").value_or(true);
    const double mscale = above_zero("mscale", 0), all = above_zero("mscale_all_dim", 0);
    rope.attention_factor =
        rs.number("attention_factor")
            .value_or(mscale != 0 && all != 0 ? yarn_magnitude(rope.factor, mscale) / yarn_magnitude(rope.factor, all) : yarn_magnitude(rope.factor));
  } else if (type == "longrope" || type == "su") {
    rope.kind = rope_kind::longrope;
    rope.short_factor = rs.numbers("short_factor");
    rope.long_factor = rs.numbers("long_factor");
    for (const char* key : {"short_factor", "long_factor"}) {
      const std::vector<double> list = rs.numbers(key);
      if (list.size() != dim / 2)
        rs.complain(key, "has " + std::to_string(list.size()) + " numbers, but " + std::to_string(dim / 2) + " pairs are rotated",
                    "correct the list");
      if (std::any_of(list.begin(), list.end(), [](double v) { return !(v > 0); }))
        rs.complain(key, "has a number that is not above zero", "correct the list");
    }
    const double stretch = rs.number("factor").value_or(rope.original_length > 0 ? rope.longest / rope.original_length : 1);
    rope.attention_factor =
        rs.number("attention_factor").value_or(stretch <= 1 ? 1.0 : std::sqrt(1 + std::log(stretch) / std::log(rope.original_length)));
    // Phi-3.5-MoE has a factor for each list.
    rope.long_attention_factor = rs.number("long_mscale").value_or(rope.attention_factor);
    rope.attention_factor = rs.number("short_mscale").value_or(rope.attention_factor);
  } else {
    rs.complain("rope_type", "\"" + type + "\" is unknown", "known: default, linear, dynamic, llama3, yarn, longrope, mrope");
  }
  return rope;
}

inline void describe_ropes(config_reader& config, const family& f, std::size_t dim, attention_description& out) {
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (config.has(key) && !object_at(config.values(), key))
      config.complain(key, "is " + config.values()[key].dump() + ", not an object", R"(write for example {"rope_type": "linear", "factor": 2.0})");
  const nlohmann::json* parameters = object_at(config.values(), "rope_parameters");
  const nlohmann::json* scaling = object_at(config.values(), "rope_scaling");
  const nlohmann::json* full = parameters ? object_at(*parameters, "full_attention") : nullptr;
  const nlohmann::json* sliding = parameters ? object_at(*parameters, "sliding_attention") : nullptr;
  const double theta = f.model_type == "chatglm" ? 10000 * config.number("rope_ratio").value_or(1)
                                                 : config.first_number({"rope_theta", "rotary_emb_base"}).value_or(10000);
  const auto theta_of = [](const nlohmann::json* p, double otherwise) {
    const auto it = p ? p->find("rope_theta") : nlohmann::json::const_iterator{};
    return p && it != p->end() && it->is_number() ? it->get<double>() : otherwise;
  };
  const nlohmann::json* main = full ? full : parameters && !sliding ? parameters : scaling;
  out.ropes.push_back(describe_rope(config, dim, theta_of(main, theta), main));
  // Gemma 3, OLMo 3: layers with a window have frequencies of their own, which no scaling touches.
  if (const auto local = config.number("rope_local_base_freq"); local || sliding || f.plain_window_rope)
    out.ropes.push_back(describe_rope(config, dim, theta_of(sliding, local.value_or(f.plain_window_rope ? theta : 10000)), sliding));
  for (const rope_description& rope : out.ropes)
    if (f.positions != rope_rule::no_layer && !(rope.theta > 0)) config.complain("rope_theta", "is not above zero", "correct config.json");
}

}  // namespace qlib::inline v0::detail
