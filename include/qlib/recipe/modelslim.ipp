#pragma once
#include <qlib/recipe/modelslim.hpp>
#include <qlib/recipe/modelslim_qconfig.ipp>
#include <qlib/recipe/modelslim_suppression.ipp>
#include <qlib/recipe/suppressor_names.hpp>

#include <algorithm>
#include <array>

namespace qlib::inline v0::detail {

namespace modelslim {

using std::string_view;
inline constexpr std::array<string_view, 1> versions{"modelslim_v1"};
inline constexpr std::array<string_view, 4> unbuilt_versions{"modelslim_v0", "multimodal_vlm_modelslim_v1", "multimodal_sd_modelslim_v1",
                                                             "modelslim_convert"};
inline constexpr std::array<string_view, 3> document_keys{"apiversion", "metadata", "spec"};
inline constexpr std::array<string_view, 5> metadata_keys{"config_id", "score", "label", "verified_model_types", "verified_tags"};
inline constexpr std::array<string_view, 5> spec_keys{"runner", "prior", "process", "save", "dataset"};
inline constexpr std::array<string_view, 4> runners{"auto", "layer_wise", "model_wise", "dp_layer_wise"};
inline constexpr std::array<string_view, 13> unbuilt_processors{"autoround_quant",
                                                                "online_quarot",
                                                                "adapt_rotation",
                                                                "flatquant",
                                                                "svd_res",
                                                                "float_sparse",
                                                                "load",
                                                                "saver",
                                                                "module_func",
                                                                "unary_analysis",
                                                                "binary_analysis",
                                                                "binary_operator_layer_wise",
                                                                "binary_operator_model_wise"};
inline constexpr std::array<string_view, 4> linear_quant_keys{"type", "qconfig", "include", "exclude"};
inline constexpr std::array<string_view, 2> group_keys{"type", "configs"};
inline constexpr std::array<string_view, 2> savers{"ascendv1_saver", "compressed_tensors"};
inline constexpr std::array<string_view, 1> unbuilt_savers{"mindie_format_saver"};
inline constexpr std::array<string_view, 3> saver_keys{"type", "part_file_size", "ext"};

/// Those of quantization and rotation, and every suppressor of the registry.
inline std::vector<string_view> processors() {
  std::vector<string_view> names{"linear_quant", "dynamic_cache", "fa3_quant", "group"};
  const auto suppressors = suppressor_names();
  names.insert(names.end(), suppressors.begin(), suppressors.end());
  names.push_back("quarot");
  return names;
}

inline constexpr std::size_t max_stages = 10000, max_depth = 32;  // a few aliases of aliases could stand for more than fits in memory

}  // namespace modelslim

/// dynamic_cache: keys and values, a scale a channel. fa3_quant: queries, keys and values, a scale a head.
QLIB_INLINE void read_attention(const yaml_reader& in, const yaml_field& map, bool cache, recipe& out) {
  in.only_keys(map, modelslim::linear_quant_keys);
  attention_stage s;
  s.name = map.path.substr(map.path.find('.') + 1) + (cache ? " dynamic_cache" : " fa3_quant");
  s.where = in.where(map.line);
  s.what = cache ? attention_stage::operands::cache : attention_stage::operands::attention;
  s.syntax = pattern_syntax::glob;
  s.targets = {"*"};
  if (const auto f = in.get_set(map, "include"))
    if (auto patterns = in.patterns(*f, s.syntax); !patterns.empty()) s.targets = std::move(patterns);
  if (const auto f = in.get_set(map, "exclude")) s.ignore = in.patterns(*f, s.syntax);
  modelslim::qconfig q{.dtype = "int8", .scope = cache ? "per_channel" : "per_head", .method = "minmax"};
  if (const auto f = in.get_set(map, "qconfig")) {
    const auto read = read_qconfig(in, *f, false);
    if (!read) return;
    q = *read;
    const std::string_view scope = cache ? "per_channel" : "per_head";
    if (q.dtype != "int8" || q.scope != scope || q.method == "histogram")
      return in.fail(*f, "dtype " + q.dtype + ", scope " + q.scope + ", method " + q.method + " are not built yet in this version",
                     "known: dtype int8, scope " + std::string{scope} + ", method minmax");
    if (!cache && !q.symmetric) return in.fail(*f, "fa3_quant is symmetric", "set symmetric: true");
  } else if (cache) {
    return in.fail(map, "the key 'qconfig' is missing", "for example qconfig: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}");
  }
  s.args.symmetric = q.symmetric;
  s.args.strategy = strategy::channel;
  s.args.observer = "minmax";
  // msModelSlim looks at the narrowest window that holds this part of a head's values.
  s.observer = cache ? observer_of(q) : policy_choice{"recall_window", {{"ratio", "0.9999"}}};
  if (cache) s.value_observer = s.observer;
  out.attention.push_back(std::move(s));
}

QLIB_INLINE void read_linear_quant(const yaml_reader& in, const yaml_field& map, recipe& out) {
  in.only_keys(map, modelslim::linear_quant_keys);
  stage s;
  s.name = map.path.substr(map.path.find('.') + 1) + " linear_quant";  // "process[1] linear_quant"
  s.where = in.where(map.line);
  s.syntax = pattern_syntax::glob;
  s.targets = {"*"};
  if (const auto f = in.get_set(map, "include")) s.targets = in.patterns(*f, s.syntax);
  if (s.targets.empty()) in.fail(map, "include is empty: no module matches", "remove it to include all");
  if (const auto f = in.get_set(map, "exclude")) s.ignore = in.patterns(*f, s.syntax);
  // msModelSlim never visits what is outside of the decoder layers.
  if (std::find(s.ignore.begin(), s.ignore.end(), "lm_head") == s.ignore.end()) s.ignore.push_back("lm_head");

  const auto q = in.get_set(map, "qconfig");
  if (!q) return in.fail(map, "the key 'qconfig' is missing", "linear_quant needs qconfig: {act, weight}");
  if (!in.expect(*q, yaml_type::map)) return;
  in.only_keys(*q, modelslim::operands);
  std::optional<modelslim::qconfig> act{modelslim::qconfig{}}, weight;
  if (const auto f = in.get_set(*q, "act")) act = read_qconfig(in, *f, false);
  if (const auto f = in.get_set(*q, "weight")) weight = read_qconfig(in, *f, true);
  else in.fail(*q, "the key 'weight' is missing", "for example weight: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}");
  if (!act || !weight) return;
  if (auto scheme = combine(in, *act, *weight)) {
    s.scheme = *std::move(scheme);
    s.input_observer = observer_of(*act);
    out.stages.push_back(std::move(s));
  }
}

QLIB_INLINE void read_processors(const yaml_reader& in, const yaml_field& list, std::size_t depth, recipe& out) {
  if (!in.expect(list, yaml_type::sequence)) return;
  if (depth > modelslim::max_depth) return in.fail(list, "groups are nested too deeply");
  const std::vector<std::string_view> built = modelslim::processors();
  for (const yaml_field& item : in.items(list)) {
    // Each error or stage is a step towards one of these limits, so that aliases cannot multiply without end.
    if (out.stages.size() + out.attention.size() + out.suppression.size() + in.failures() > modelslim::max_stages) return;
    if (!in.expect(item, yaml_type::map)) continue;
    const auto type_field = in.get(item, "type");
    if (!type_field) {
      in.fail(item, "the key 'type' is missing", "known processors: " + comma_list(built));
      continue;
    }
    const auto type = in.one_of(*type_field, {"processor", built, modelslim::unbuilt_processors, "not built yet in this version"});
    if (!type) continue;
    if (*type == "linear_quant") {
      read_linear_quant(in, item, out);
    } else if (*type == "dynamic_cache" || *type == "fa3_quant") {
      read_attention(in, item, *type == "dynamic_cache", out);
    } else if (is_suppressor(*type)) {
      read_suppression(in, item, *type, out);
    } else if (*type == "quarot") {
      read_quarot(in, item, out);
    } else {
      in.only_keys(item, modelslim::group_keys);
      const auto configs = in.get_set(item, "configs");
      if (!configs || (configs->is(yaml_type::sequence) && configs->node->items.empty()))
        in.fail(item, "a group without configs", "list processors under configs");
      else read_processors(in, *configs, depth + 1, out);
    }
  }
}

QLIB_INLINE void read_save(const yaml_reader& in, const yaml_field& list, recipe& out) {
  if (!in.expect(list, yaml_type::sequence)) return;
  const auto savers = in.items(list);
  if (savers.size() > 1) in.fail(savers[1], "more than one saver is not built yet in this version", "keep one");
  for (const yaml_field& saver : savers) {
    if (!in.expect(saver, yaml_type::map)) continue;
    in.only_keys(saver, modelslim::saver_keys);
    const auto type = in.get_set(saver, "type");
    if (!type) in.fail(saver, "the key 'type' is missing", "known savers: " + comma_list(modelslim::savers));
    else if (const auto name = in.one_of(*type, {"saver", modelslim::savers, modelslim::unbuilt_savers}))
      out.save.format = *name == "ascendv1_saver" ? "ascend_v1" : "compressed_tensors";
    constexpr std::int64_t gigabyte = std::int64_t{1} << 30;
    std::int64_t gigabytes = 4;
    if (const auto f = in.get_set(saver, "part_file_size")) gigabytes = in.integer(*f, 0, 1 << 20).value_or(4);
    out.save.part_bytes = static_cast<std::uint64_t>(gigabytes * gigabyte);
    out.save.single_file = gigabytes == 0;
    if (const auto f = in.get_set(saver, "ext")) in.expect_empty(*f, "the saver has no options");
  }
}

QLIB_INLINE void read_modelslim(const yaml_reader& in, const yaml_field& document, recipe& out) {
  namespace known = modelslim;
  out.source = "modelslim_v1";
  if (!in.one_of(*in.get(document, "apiversion"), {"apiversion", known::versions, known::unbuilt_versions})) return;
  for (const yaml_field& e : in.entries(document))
    if (std::find(known::document_keys.begin(), known::document_keys.end(), e.key) == known::document_keys.end() && !e.node->anchored)
      in.fail(e, "unknown key '" + e.key + "'", "known keys: " + comma_list(known::document_keys) + "; others may only hold anchors");
  if (const auto f = in.get_set(document, "metadata"); f && in.expect(*f, yaml_type::map)) in.only_keys(*f, known::metadata_keys);

  const auto spec = in.get_set(document, "spec");
  if (!spec) return in.fail(document, "the key 'spec' is missing", "for example spec: {process: [{type: linear_quant, ...}]}");
  if (!in.expect(*spec, yaml_type::map)) return;
  in.only_keys(*spec, known::spec_keys);
  if (const auto f = in.get_set(*spec, "runner")) (void)in.one_of(*f, {"runner", known::runners});
  if (const auto f = in.get_set(*spec, "prior"); f && in.expect(*f, yaml_type::sequence) && !f->node->items.empty())
    in.fail(*f, "prior stages need calibration, not built yet in this version", "remove them");
  if (const auto f = in.get_set(*spec, "dataset")) (void)in.text(*f);
  if (const auto f = in.get_set(*spec, "save")) read_save(in, *f, out);

  const std::size_t before = in.failures();
  if (const auto f = in.get_set(*spec, "process")) read_processors(in, *f, 0, out);
  if (out.stages.size() + in.failures() > known::max_stages) in.fail(*spec, "more than " + std::to_string(known::max_stages) + " processors");
  else if (out.stages.empty() && out.attention.empty() && in.failures() == before)
    in.fail(*spec, "process is empty: nothing would be quantized", "known processors: " + comma_list(known::processors()));
}

}  // namespace qlib::inline v0::detail
