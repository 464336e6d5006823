/// msModelSlim's QConfig. Part of modelslim.ipp.
#pragma once
#include <qlib/recipe/recipe.hpp>
#include <qlib/recipe/yaml_tree.hpp>

#include <array>
#include <optional>
#include <string>

namespace qlib::inline v0::detail {

namespace modelslim {

inline constexpr std::array<std::string_view, 2> operands{"act", "weight"};
inline constexpr std::array<std::string_view, 5> qconfig_keys{"dtype", "scope", "symmetric", "method", "ext"};
inline constexpr std::array<std::string_view, 4> dtypes{"float", "int8", "int4", "fp8_e4m3"};
inline constexpr std::array<std::string_view, 2> unbuilt_dtypes{"mxfp8", "mxfp4"};
inline constexpr std::array<std::string_view, 8> scopes{"per_tensor", "per_channel", "per_group", "per_block",
                                                        "per_token",  "pd_mix",      "per_head",  "dual_scale"};
inline constexpr std::array<std::string_view, 3> methods{"minmax", "histogram", "none"};
inline constexpr std::array<std::string_view, 7> unbuilt_methods{"ssz", "gptq", "autoround", "mse_round", "fouroversix", "ceil_x", "dualscale"};
inline constexpr std::array<std::string_view, 2> aggregations{"max", "mean"};
/// Both of them.
inline constexpr auto every_method = [] {
  std::array<std::string_view, methods.size() + unbuilt_methods.size()> all{};
  std::size_t n = 0;
  for (const std::string_view m : methods) all[n++] = m;
  for (const std::string_view m : unbuilt_methods) all[n++] = m;
  return all;
}();

/// A QConfig: what is written, checked key by key but not yet as a combination.
struct qconfig {
  std::string dtype = "float", scope = "per_tensor", method = "none";
  bool symmetric = true;
  std::size_t group_size = 0;
  std::string aggregation = "max";    ///< of samples' ranges
  std::optional<yaml_field> field{};  ///< none: left out
};

}  // namespace modelslim

/// Of a `weight` or an activation. `searched`: it says what a search is for, where every method of the tool may stand.
QLIB_INLINE std::optional<modelslim::qconfig> read_qconfig(const yaml_reader& in, const yaml_field& map, bool weight, bool searched = false) {
  namespace known = modelslim;
  const std::size_t before = in.failures();
  if (!in.expect(map, yaml_type::map)) return std::nullopt;
  in.only_keys(map, known::qconfig_keys);
  known::qconfig out;
  out.field = map;
  const auto required = [&](std::string_view key) {
    auto f = in.get(map, key);
    if (!f) in.fail(map, "the key '" + std::string{key} + "' is missing", "a qconfig needs dtype, scope, symmetric, method");
    return f;
  };
  if (const auto f = required("dtype")) out.dtype = in.one_of(*f, {"dtype", known::dtypes, known::unbuilt_dtypes}).value_or("");
  if (const auto f = required("scope")) out.scope = in.one_of(*f, {"scope", known::scopes}).value_or("");
  if (const auto f = required("symmetric")) out.symmetric = in.boolean(*f).value_or(true);
  if (const auto f = required("method"))
    out.method = in.one_of(*f, searched ? yaml_choice{"method", known::every_method} : yaml_choice{"method", known::methods, known::unbuilt_methods})
                     .value_or("");
  if (in.failures() == before && (out.dtype == "float") != (out.method == "none"))
    in.fail(map, "dtype " + out.dtype + " with method " + out.method, "dtype float goes with method none, every other with minmax");

  const bool per_group = weight && out.scope == "per_group";
  const auto ext = in.get_set(map, "ext");
  const bool observed = !weight && out.dtype != "float" && out.scope != "per_token";
  if (ext && observed && in.expect(*ext, yaml_type::map)) {
    constexpr std::array<std::string_view, 1> ext_keys{"aggregation_type"};
    in.only_keys(*ext, ext_keys);
    if (const auto f = in.get(*ext, "aggregation_type")) out.aggregation = in.one_of(*f, {"aggregation_type", known::aggregations}).value_or("");
  } else if (ext && !per_group) {
    in.expect_empty(*ext, "ext has options only for weights with scope per_group (group_size) and observed activations (aggregation_type)");
  }
  if (weight && out.method == "histogram") in.fail(map, "method histogram is for activations", "use minmax");
  if (per_group) {
    constexpr std::array<std::string_view, 1> ext_keys{"group_size"};
    std::optional<yaml_field> size;
    if (ext && in.expect(*ext, yaml_type::map)) {
      in.only_keys(*ext, ext_keys);
      size = in.get(*ext, "group_size");
    }
    if (size) out.group_size = static_cast<std::size_t>(in.integer(*size, 1, std::int64_t{1} << 30).value_or(0));
    else in.fail(map, "scope per_group needs a group size", "for example ext: {group_size: 128}");
  }
  if (in.failures() != before) return std::nullopt;
  return out;
}

/// What a weight becomes; nothing and an error where no weight can.
QLIB_INLINE std::optional<quantization_args> weight_args(const yaml_reader& in, const modelslim::qconfig& weight) {
  const auto refuse = [&](std::string problem, std::string remedy) {
    in.fail(*weight.field, std::move(problem), std::move(remedy));
    return std::nullopt;
  };
  if (weight.dtype == "float") return refuse("float weights: nothing is quantized", "exclude the modules instead");
  if (weight.scope != "per_channel" && weight.scope != "per_group")
    return refuse("weights with scope " + weight.scope + " are not built yet in this version", "known: per_channel, per_group");
  quantization_args w;
  w.type = weight.dtype == "fp8_e4m3" ? number::floating : number::integer;
  w.num_bits = weight.dtype == "int4" ? 4 : 8;
  w.symmetric = weight.symmetric;
  w.strategy = weight.scope == "per_group" ? strategy::group : strategy::channel;
  w.group_size = weight.group_size;
  w.observer = weight.method;
  if (w.type == number::floating && (!w.symmetric || w.strategy != strategy::channel))
    return refuse("fp8_e4m3 weights are per_channel and symmetric", "set scope: per_channel, symmetric: true");
  return w;
}

/// What an input that is quantized becomes; nothing and an error where no input can.
QLIB_INLINE std::optional<quantization_args> input_args(const yaml_reader& in, const modelslim::qconfig& act) {
  const bool is_static = act.scope == "per_tensor" || act.scope == "pd_mix";
  if (!is_static && act.scope != "per_token") {
    in.fail(*act.field, "activations with scope " + act.scope + " are not built yet in this version", "known: per_token, per_tensor, pd_mix");
    return std::nullopt;
  }
  if (!is_static && !act.symmetric) {
    in.fail(*act.field, "asymmetric per_token activations are not built yet in this version", "set symmetric: true");
    return std::nullopt;
  }
  quantization_args a;
  a.type = act.dtype == "fp8_e4m3" ? number::floating : number::integer;
  a.num_bits = act.dtype == "int4" ? 4 : 8;
  a.symmetric = act.symmetric;
  a.strategy = is_static ? strategy::tensor : strategy::token;
  a.dynamic = !is_static;
  if (is_static) a.observer = act.method;
  return a;
}

/// The scheme of an activation and a weight QConfig, if this version builds that combination.
QLIB_INLINE std::optional<scheme> combine(const yaml_reader& in, const modelslim::qconfig& act, const modelslim::qconfig& weight) {
  const auto refuse = [&](const modelslim::qconfig& q, std::string problem, std::string remedy) {
    in.fail(*q.field, std::move(problem), std::move(remedy));
    return std::nullopt;
  };
  scheme out;
  out.weights = weight_args(in, weight);
  if (!out.weights) return std::nullopt;
  const quantization_args& w = *out.weights;
  if (act.dtype == "float") {
    if (w.type == number::floating)
      return refuse(weight, "fp8_e4m3 weights with float activations do not exist in msModelSlim", "give act: fp8_e4m3 per_token");
    return out;
  }
  out.input_activations = input_args(in, act);
  if (!out.input_activations) return std::nullopt;
  if (!out.input_activations->dynamic) {
    if (act.dtype != "int8" || weight.dtype != "int8")
      return refuse(act, weight.dtype + " weights with static " + act.dtype + " activations do not exist in msModelSlim", "use int8 for both");
    if (w.strategy != strategy::channel || !w.symmetric)
      return refuse(weight, "static activations need symmetric per_channel weights", "set scope: per_channel, symmetric: true");
    out.dynamic_prefill = act.scope == "pd_mix";
    return out;
  }
  if (act.dtype == "int4" || (act.dtype == "int8" && weight.dtype == "int4"))
    return refuse(weight, "W4" + std::string{act.dtype == "int4" ? "A4" : "A8"} + " is not built yet in this version",
                  "known with int8 activations: int8 weights; with float activations: int8, int4");
  if ((act.dtype == "fp8_e4m3") != (w.type == number::floating))
    return refuse(weight, weight.dtype + " weights with " + act.dtype + " activations do not exist in msModelSlim", "use the same dtype for both");
  if (w.strategy == strategy::channel && !w.symmetric)
    return refuse(weight, "asymmetric per_channel weights with quantized activations do not exist in msModelSlim", "set symmetric: true");
  return out;
}

QLIB_INLINE policy_choice observer_of(const modelslim::qconfig& q) {
  if (q.method == "histogram") return {"histogram", {{"upsample", "16"}}};
  if (q.aggregation == "mean") return {"minmax", {{"running", "false"}}};
  return {"minmax", {}};
}

}  // namespace qlib::inline v0::detail
