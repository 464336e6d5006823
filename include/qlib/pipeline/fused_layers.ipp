#pragma once
#include <qlib/pipeline/fused_layers.hpp>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

namespace qlib::inline v0 {

namespace detail {

/// Names below a layer's prefix that vLLM and vLLM-Ascend load into one matrix.
inline std::vector<std::vector<std::string>> fused_names(const model_description& model) {
  const attention_description& a = model.attention;
  const feed_forward_description& f = model.feed_forward;
  const experts_description& e = model.experts;
  std::vector<std::vector<std::string>> out{{a.query, a.key, a.value},
                                            {"self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa"},
                                            {"linear_attn.in_proj_qkv", "linear_attn.in_proj_z"},
                                            {"linear_attn.in_proj_b", "linear_attn.in_proj_a"},
                                            {f.gate, f.up}};
  if (!e.shared.empty()) out.push_back({e.shared + e.shared_block.gate, e.shared + e.shared_block.up});
  return out;
}

/// "model.layers.0.self_attn.{q_proj,k_proj}" of names that differ behind their last dot.
inline std::string joined_name(const std::vector<std::string>& names) {
  if (names.size() == 1) return names.front();
  const std::string stem = names.front().substr(0, names.front().rfind('.') + 1);
  std::string tails;
  for (const std::string& n : names) tails += (tails.empty() ? "" : ",") + n.substr(std::min(n.size(), stem.size()));
  return stem + "{" + tails + "}";
}

}  // namespace detail

QLIB_INLINE std::vector<fused_layers> fused_layers_of(const quantization_plan& plan, const model_description& model,
                                                      std::vector<std::string>& outside) {
  const std::vector<std::vector<std::string>> fused = detail::fused_names(model);
  const std::string& expert = model.experts.expert;
  const std::string experts = expert.substr(0, std::min(expert.size(), expert.find("{}")));
  std::vector<fused_layers> out;
  std::map<std::pair<std::size_t, std::string>, std::size_t> at;
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    const work_item& item = plan.items[i];
    if (!item.encoding) continue;
    std::size_t layer = 0;
    while (layer < model.layers.size() && !item.name.starts_with(model.layers[layer].prefix)) ++layer;
    std::string key = item.name;
    bool routed = false;
    if (layer < model.layers.size()) {
      const std::string below = item.name.substr(model.layers[layer].prefix.size());
      routed = !experts.empty() && below.starts_with(experts);
      if (routed) key = experts;
      for (std::size_t f = 0; f < fused.size() && !routed; ++f)
        if (std::find(fused[f].begin(), fused[f].end(), below) != fused[f].end()) key = std::to_string(f);
    } else if (item.name != model.head || model.tied) {
      outside.push_back(item.name);
      continue;
    }
    const auto [place, fresh] = at.try_emplace({layer, key}, out.size());
    if (fresh) {
      out.emplace_back();
      out.back().layer = layer;
      if (routed) out.back().patterns = {model.layers[layer].prefix + experts + "*"};
    }
    fused_layers& g = out[place->second];
    if (!routed) g.patterns.push_back(item.name);
    g.items.push_back(i);
    const std::string& type = item.encoding->quant_type;
    if (("/" + g.quant_type + "/").find("/" + type + "/") == std::string::npos) g.quant_type += (g.quant_type.empty() ? "" : "/") + type;
    g.float_bytes += std::uint64_t{item.rows} * item.cols * bits_of(item.type) / 8;
    for (const std::size_t s : item.slots) g.quantized_bytes += plan.slots[s].bytes;
  }
  for (fused_layers& g : out) g.name = detail::joined_name(g.patterns);
  std::stable_sort(out.begin(), out.end(), [](const fused_layers& a, const fused_layers& b) { return a.layer < b.layer; });
  return out;
}

}  // namespace qlib::inline v0
