#pragma once
#include <qlib/recipe/ascii_case.hpp>
#include <qlib/recipe/flags.hpp>
#include <qlib/recipe/match.hpp>
#include <qlib/recipe/presets.hpp>
#include <qlib/recipe/suppressor_names.hpp>
#include <qlib/recipe/yaml_tree.hpp>

#include <algorithm>
#include <array>
#include <charconv>

namespace qlib::inline v0 {

QLIB_INLINE std::span<const std::string_view> built_quant_types() {
  static constexpr std::array<std::string_view, 8> names{"w8a8", "w8a8_dynamic", "w8a8_mix", "w8a8c8", "w8a16", "w4a16", "fp8", "fp8_dynamic"};
  return names;
}

QLIB_INLINE std::span<const std::string_view> unbuilt_quant_types() {
  static constexpr std::array<std::string_view, 21> names{"w8a8s", "w8a8sc",       "w8a8_mxfp8", "w4a8",    "w4a8c8",   "w4a8_dynamic", "w4a8_mxfp",
                                                          "w4a4",  "w4a4_dynamic", "w4a4_mxfp4", "w16a16s", "w16a16sc", "fp8_block",    "mxfp8",
                                                          "mxfp4", "nvfp4",        "nf4",        "w8a8f8",  "w8a8c8f8", "w4a4c8",       "w4a8c8f8"};
  return names;
}

QLIB_INLINE std::span<const std::string_view> weight_observers() {
  static constexpr std::array<std::string_view, 3> names{"minmax", "percentile", "mse"};
  return names;
}

namespace detail {

/// --observer and --percentile: of weights, each seen whole and once. Empty name: they are wrong, and the errors say so.
QLIB_INLINE policy_choice weight_observer_of(const quant_flags& flags, errors& found) {
  const auto fail = [&](std::string where, std::string problem, std::string remedy) {
    found.push_back({error_kind::invalid_input, std::move(where), {}, std::move(problem), std::move(remedy)});
    return policy_choice{};
  };
  const std::string name = flags.observer.empty() ? "minmax" : lower_case(flags.observer);
  const auto known = weight_observers();
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    static constexpr std::array<std::string_view, 4> of_inputs{"histogram", "moving_average", "auto_mixed", "recall_window"};
    const bool exists = std::find(of_inputs.begin(), of_inputs.end(), name) != of_inputs.end();
    return fail("--observer " + flags.observer, exists ? "observes activations, not weights" : "unknown", "known: " + comma_list(known));
  }
  const auto text = [](double value) {  // in decimals: 100 - 99.9 is 0.1
    std::array<char, 32> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::general, 12).ptr;
    return std::string{digits.data(), end};
  };
  if (flags.percentile && name != "percentile")
    return fail("--percentile " + text(*flags.percentile), "belongs to --observer percentile", "give --observer percentile, or remove it");
  if (name != "percentile") return {name, {}};
  const double upper = flags.percentile.value_or(99.9);
  if (!(upper > 50 && upper <= 100))
    return fail("--percentile " + text(upper), "is not in (50, 100]: it is the percent of a range's upper end, the lower end is 100 minus it",
                "for example --percentile 99.9");
  return {name, {{"lower", text(100 - upper)}, {"upper", text(upper)}, {"keep_values", "false"}}};
}

/// Patterns of one flag, each checked.
QLIB_INLINE void check_patterns(const std::vector<std::string>& patterns, pattern_syntax syntax, std::string_view flag, errors& found) {
  for (const std::string& p : patterns)
    if (const auto set = pattern_set::compile(std::span{&p, 1}, syntax, flag); !set) found.push_back(set.error());
}

/// Refuses a policy that is not `only`; the others exist but wait for their stage.
QLIB_INLINE void check_policy(std::string_view flag, const std::string& value, std::span<const std::string_view> built,
                              std::span<const std::string_view> unbuilt, errors& found) {
  const std::string lower = lower_case(value);
  if (lower.empty() || std::find(built.begin(), built.end(), lower) != built.end()) return;
  const bool exists = std::find(unbuilt.begin(), unbuilt.end(), lower) != unbuilt.end();
  found.push_back({error_kind::invalid_input,
                   std::string{flag} + " " + value,
                   {},
                   exists ? "not built yet in this version" : "unknown",
                   "known: " + comma_list(built) + (exists ? "" : "; not yet: " + comma_list(unbuilt))});
}

/// msModelSlim's letters.
struct anti_method {
  std::string_view letter, suppressor;
  bool norms_alone;
};
inline constexpr std::array<anti_method, 6> anti_methods{{{"m1", smooth_quant::name, true},
                                                          {"m2", threshold_smooth::name, true},
                                                          {"m3", awq::name, false},
                                                          {"m4", iterative_smooth::name, false},
                                                          {"m5", cbq_mask::name, true},
                                                          {"m6", flex_smooth::name, false}}};
inline constexpr std::array<std::string_view, 2> rotation_methods{"quarot", "hadamard"};

/// Letters, then names.
inline std::vector<std::string_view> known_anti_methods() {
  std::vector<std::string_view> names;
  for (const anti_method& m : anti_methods) names.push_back(m.letter);
  const std::vector<std::string_view> suppressors = suppressor_names();
  names.insert(names.end(), suppressors.begin(), suppressors.end());
  names.insert(names.end(), rotation_methods.begin(), rotation_methods.end());
  return names;
}

}  // namespace detail

QLIB_INLINE std::optional<suppression_stage> find_anti_method(std::string_view name) {
  const std::string lower = detail::lower_case(name);
  const auto letter = std::find_if(detail::anti_methods.begin(), detail::anti_methods.end(), [&](const auto& m) { return m.letter == lower; });
  const bool by_letter = letter != detail::anti_methods.end();
  const std::vector<std::string_view> names = detail::suppressor_names();
  const auto named = std::find_if(names.begin(), names.end(), [&](std::string_view known) { return detail::lower_case(known) == lower; });
  if (!by_letter && named == names.end()) return std::nullopt;
  suppression_stage s;
  s.name = s.where = "--anti_method " + std::string{name};
  s.suppressor = {std::string{by_letter ? letter->suppressor : *named}, {}};
  if (!by_letter && lower == smooth_quant::name) s.suppressor.options = {{"alpha", "auto"}};
  if (!by_letter && lower == awq::name) s.suppressor.options = {{"clip", "true"}};
  if (by_letter && lower == "m6") s.suppressor.options = {{"group_method", "max"}, {"own_specs", "true"}};
  if (by_letter) s.ov = s.up_down = !letter->norms_alone;
  detail::choose_keys(s);
  return s;
}

QLIB_INLINE errors recipe_from_flags(const quant_flags& flags, recipe& out) {
  errors found;
  const auto fail = [&](std::string where, std::string problem, std::string remedy) {
    found.push_back({error_kind::invalid_input, std::move(where), {}, std::move(problem), std::move(remedy)});
  };

  std::string type = detail::lower_case(flags.quant_type), where = "--quant_type " + flags.quant_type;
  const bool is_dynamic = flags.is_dynamic.value_or(false), pdmix = flags.pdmix.value_or(false), cache = flags.use_kvcache_quant.value_or(false);
  if (type.empty()) {
    if (flags.w_bit == 0 && flags.a_bit == 0 && !is_dynamic) {
      fail("--quant_type", "not given", "known: " + detail::comma_list(built_quant_types()));
      return found;
    }
    const int w = flags.w_bit == 0 ? 8 : flags.w_bit, a = flags.a_bit == 0 ? 8 : flags.a_bit;
    type = "w" + std::to_string(w) + "a" + std::to_string(a);
    where = "--w_bit " + std::to_string(w) + " --a_bit " + std::to_string(a) + (is_dynamic ? " --is_dynamic" : "");
  }
  if (type == "w8a8" && is_dynamic) type = "w8a8_dynamic";
  if (type == "w8a8" && pdmix) type = "w8a8_mix";

  const auto built = built_quant_types(), unbuilt = unbuilt_quant_types();
  const std::string known = "known: " + detail::comma_list(built);
  if (std::find(built.begin(), built.end(), type) == built.end()) {
    if (std::find(unbuilt.begin(), unbuilt.end(), type) != unbuilt.end()) fail(where, "not built yet in this version", known);
    else fail(where, "unknown quant type", known + "; not yet: " + detail::comma_list(unbuilt));
    return found;
  }

  const int w_bit = type == "w4a16" ? 4 : 8;
  const bool weight_only = type == "w8a16" || type == "w4a16";
  const auto bits = [&](std::string_view flag, int given, int needed) {
    if (given != 0 && given != needed)
      fail(where, std::string{flag} + " " + std::to_string(given) + " contradicts it: " + type + " has " + std::to_string(needed) + " bits",
           "remove " + std::string{flag} + ", or choose another --quant_type");
  };
  const bool static_input = type == "w8a8" || type == "w8a8_mix" || type == "w8a8c8" || type == "fp8";
  if (flags.act_method < 0 || flags.act_method > 3) fail("--act_method " + std::to_string(flags.act_method), "unknown", "use 1, 2 or 3");
  else if (flags.act_method != 0 && !static_input)
    fail(where, "--act_method contradicts it: " + type + " has no static activations", "remove --act_method");
  const auto is_not = [&](std::string_view flag, const std::optional<bool>& given, bool means, std::string what) {
    if (means && given == false)
      fail(where, std::string{flag} + " False contradicts it: " + std::move(what),
           "remove " + std::string{flag} + ", or choose another --quant_type");
  };
  is_not("--is_dynamic", flags.is_dynamic, type == "w8a8_dynamic" || type == "fp8_dynamic", "the activations of " + type + " are dynamic");
  is_not("--pdmix", flags.pdmix, type == "w8a8_mix", "its activations are dynamic while prefilling");
  is_not("--use_kvcache_quant", flags.use_kvcache_quant, type == "w8a8c8", "it quantizes the cache");
  if (pdmix && type != "w8a8_mix") fail(where, "--pdmix contradicts it: pdmix is W8A8 with static and dynamic activations", "use w8a8 or w8a8_mix");
  if (is_dynamic && static_input) fail(where, "--is_dynamic contradicts it: the activations of " + type + " are static", "remove --is_dynamic");
  bits("--w_bit", flags.w_bit, w_bit);
  bits("--a_bit", flags.a_bit, weight_only ? 16 : 8);
  if (weight_only && is_dynamic) fail(where, "--is_dynamic contradicts it: the activations of " + type + " are not quantized", "remove --is_dynamic");
  if (!weight_only && flags.group_size != 0)
    fail(where, "--group_size " + std::to_string(flags.group_size) + " contradicts it: " + type + " has one scale a channel", "remove --group_size");
  if (!weight_only && flags.w_sym == false) fail(where, "--w_sym false contradicts it: the weights of " + type + " are symmetric", "remove --w_sym");

  static constexpr std::array<std::string_view, 1> rounders{"rtn"};
  static constexpr std::array<std::string_view, 5> unbuilt_rounders{"gptq", "ssz", "hqq", "auto_round", "mse"};
  policy_choice observer = detail::weight_observer_of(flags, found);
  detail::check_policy("--rounder", flags.rounder, rounders, unbuilt_rounders, found);

  std::optional<suppression_stage> suppression;
  std::optional<rotation_stage> rotation;
  const std::string anti = detail::lower_case(flags.anti_method);
  if (std::find(detail::rotation_methods.begin(), detail::rotation_methods.end(), anti) != detail::rotation_methods.end()) {
    rotation.emplace();
    rotation->name = rotation->where = "--anti_method " + flags.anti_method;
  } else if (!anti.empty() && anti != "none") {
    suppression = find_anti_method(flags.anti_method);
    if (!suppression) fail("--anti_method " + flags.anti_method, "unknown", "known: " + detail::comma_list(detail::known_anti_methods()));
  }

  detail::check_patterns(flags.targets, pattern_syntax::compressed_tensors, "--targets", found);
  detail::check_patterns(flags.ignore, pattern_syntax::compressed_tensors, "--ignore", found);
  detail::check_patterns(flags.disable_names, pattern_syntax::glob, "--disable_names", found);
  if (!found.empty()) return found;

  stage s;
  s.name = s.where = where;
  s.observer = std::move(observer);
  s.targets = flags.targets.empty() ? std::vector<std::string>{"Linear"} : flags.targets;
  s.ignore = flags.ignore;
  for (const std::string& name : flags.disable_names) {
    const bool is_glob = name.find_first_of("*?[{\\") != name.npos;
    const auto regex = is_glob ? detail::glob_to_regex(name, "--disable_names") : result<std::string>{name};
    s.ignore.push_back(is_glob ? "re:" + *regex : name);
    if (is_glob) s.spelled.emplace_back(s.ignore.back(), name);
  }
  const auto contains = [](const std::vector<std::string>& list, std::string_view name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  if (!contains(s.targets, "lm_head") && !contains(s.ignore, "lm_head")) s.ignore.push_back("lm_head");

  s.scheme = find_preset(weight_only ? "W8A16" : type == "fp8_dynamic" ? "FP8_DYNAMIC" : type == "fp8" ? "FP8" : "W8A8")->scheme;
  if (static_input && type != "fp8") {  // msModelSlim's: asymmetric, one scale a tensor
    s.scheme.input_activations = quantization_args{};
    s.scheme.input_activations->strategy = strategy::tensor;
    s.scheme.input_activations->symmetric = false;
    s.scheme.dynamic_prefill = type == "w8a8_mix";
  }
  if (static_input) {
    if (flags.act_method == 1) s.input_observer = {"minmax", {{"running", "false"}}};
    else if (flags.act_method == 2) s.input_observer = {"histogram", {{"upsample", "128"}}};  // msModelSlim v0's; its v1 recipes have 16
    else s.input_observer = type == "fp8" ? policy_choice{"minmax", {}} : policy_choice{"auto_mixed", {}};
  }
  quantization_args& weights = *s.scheme.weights;
  weights.num_bits = w_bit;
  weights.symmetric = flags.w_sym.value_or(true);
  if (weight_only) {
    weights.group_size = flags.group_size != 0 ? flags.group_size : type == "w4a16" ? 128 : 0;
    weights.strategy = weights.group_size != 0 ? strategy::group : strategy::channel;
  }
  recipe made;
  made.source = "flags";
  made.stages.push_back(std::move(s));
  made.rotation = std::move(rotation);
  if (suppression) made.suppression.push_back(*std::move(suppression));
  if (cache || type == "w8a8c8") {
    attention_stage quantized;
    quantized.name = quantized.where = cache ? "--use_kvcache_quant" : where;
    quantized.targets = {"Attention"};
    quantized.args.strategy = strategy::channel;
    made.attention.push_back(std::move(quantized));
  }
  out = std::move(made);
  return found;
}

QLIB_INLINE bool make_experts_dynamic(recipe& r) {
  if (r.source != "flags" || r.stages.size() != 1) return false;
  const stage& all = r.stages.front();
  if (!all.scheme.input_activations || all.scheme.input_activations->dynamic || all.scheme.input_activations->type != number::integer) return false;
  stage experts = all;
  experts.targets = {R"(re:.*\.experts\.\d+\.)"};
  experts.scheme = find_preset("W8A8")->scheme;
  r.stages.insert(r.stages.begin(), std::move(experts));
  return true;
}

}  // namespace qlib::inline v0
