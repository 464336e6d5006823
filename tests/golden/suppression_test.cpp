/// Smoothing scales against what msModelSlim 26.1.0 and LLM-Compressor 0.14.0.1 folded into the norms of the same models, from the same ids.
///
/// Their scale is float gain / stored gain, so it carries the rounding of the gain to its dtype, and that of their arithmetic: statistics, two
/// powers and a quotient in the dtype of the weights. Four roundings: `u` is half a unit in the last place of a significand.
#include "quantized_folder.hpp"

#include <qlib/model/decoder.hpp>
#include <qlib/pipeline/calibrate.hpp>
#include <qlib/recipe/flags.hpp>
#include <qlib/suppressor/iterative_smooth.hpp>

#include <cmath>

using namespace qlib_test;

namespace {

const std::string golden = QLIB_SOURCE_DIR "/tests/golden/";
constexpr double f16_u = 0x1p-11, bf16_u = 0x1p-8;

struct peer_scales : tensor_set {
  peer_scales() { open(golden + "suppression/goldens.safetensors"); }

  std::vector<std::int32_t> integers(const std::string& name) const {
    std::vector<std::int32_t> out(bytes(name).size() / 4);
    std::memcpy(out.data(), bytes(name).data(), bytes(name).size());
    return out;
  }
  std::vector<std::vector<std::int32_t>> samples(const std::string& name) const {
    const std::vector<std::int32_t> ids = integers(name);
    std::vector<std::vector<std::int32_t>> out;
    auto at = ids.begin();
    for (const std::int32_t length : integers(name + ".lengths")) out.emplace_back(at, at + length), at += length;
    return out;
  }
};

/// What the inputs of a norm's first reader are divided by, after the first `layers` layers of a model were calibrated as the peers do: a
/// value for each channel of each norm.
std::map<std::string, std::vector<float>> solved(const std::string& model, std::size_t layers, const std::vector<std::vector<std::int32_t>>& samples,
                                                 const qlib::quant_flags& flags, const std::vector<std::pair<std::string, std::string>>& options) {
  qlib::checkpoint source;
  qlib::model_layout layout;
  qlib::model_description description;
  REQUIRE(qlib::checkpoint::open(golden + model, source).empty());
  REQUIRE(qlib::read_model_layout(source, layout).empty());
  REQUIRE(qlib::read_model_description(source.config_text(), "config.json", description).empty());
  description.layers.resize(layers);  // of some models the first layer alone is stored
  qlib::recipe recipe;
  REQUIRE(qlib::recipe_from_flags(flags, recipe).empty());
  REQUIRE(recipe.suppression.size() == 1);
  for (const auto& option : options) recipe.suppression.front().suppressor.options.push_back(option);
  qlib::plan_options how;
  how.model = &description;
  how.format = qlib::registry::formats::find("compressed_tensors").value();
  qlib::quantization_plan plan;
  qlib::errors found = qlib::make_plan(source, layout, recipe, how, plan);
  REQUIRE_MESSAGE(found.empty(), text_of(found));
  const qlib::checkpoint_parameters parameters{source, layout};
  qlib::decoder decoder;
  found = qlib::decoder::create(description, parameters, {.gemm = {.kind = qlib::gemm_kind::reproducible}}, decoder);
  REQUIRE_MESSAGE(found.empty(), text_of(found));
  qlib::calibrate_options calibration;
  calibration.suppress = {.search_tokens = 2048, .as_peers = true};
  const auto got = qlib::calibrate(decoder, plan, samples, calibration);
  REQUIRE_MESSAGE(got, (got ? std::string{} : got.error().text()));
  std::map<std::string, std::vector<float>> out;
  for (const auto& p : plan.suppressions)
    if (p.graph.kind == qlib::subgraph_kind::norm_linear) out[p.graph.source] = got->folds.column_scale(p.graph.targets.front());
  return out;
}

double worst(const std::vector<float>& ours, const std::vector<float>& theirs) {
  REQUIRE(ours.size() == theirs.size());
  double out = 0;
  for (std::size_t c = 0; c < ours.size(); ++c) out = std::max(out, std::abs(static_cast<double>(ours[c]) / static_cast<double>(theirs[c]) - 1));
  return out;
}

/// All norms of a case; the arguments as of `solved`.
void check(const std::string& name, const std::string& model, std::size_t layers, const std::string& ids, const qlib::quant_flags& flags,
           const std::vector<std::pair<std::string, std::string>>& options, double tolerance) {
  const peer_scales peer;
  const auto ours = solved(model, layers, peer.samples(ids), flags, options);
  CHECK(ours.size() == 2 * layers);
  for (const auto& [norm, scale] : ours) {
    const double w = worst(scale, peer.floats(name + "/" + norm));
    CHECK_MESSAGE(w < tolerance, name << " " << norm << ": " << w);
  }
}

}  // namespace

TEST_CASE("m1 has msModelSlim's scales") {
  check("sv0_anti_m1_q2", "data/sources/qwen2_s", 1, "ids", {.quant_type = "w8a8", .act_method = 1, .anti_method = "m1"}, {}, 4 * f16_u);
}

TEST_CASE("m2 finds msModelSlim's thresholds on the first sample: the same channels keep 1") {
  const peer_scales peer;
  const auto ours =
      solved("data/sources/qwen2_s", 1, peer.samples("ids"), {.quant_type = "w8a8", .act_method = 1, .anti_method = "m2"}, {{"tokens", "first"}});
  CHECK(ours.size() == 2);
  for (const auto& [norm, scale] : ours) {
    const std::vector<float> theirs = peer.floats("sv0_anti_m2/" + norm);
    CHECK(worst(scale, theirs) < 4 * f16_u);
    for (std::size_t c = 0; c < scale.size(); ++c) CHECK((scale[c] == 1.0f) == (theirs[c] == 1.0f));
  }
}

TEST_CASE("m4 has msModelSlim's scales, which follow from unshifted extremes also where it shifts") {
  check("sv0_anti_m4", "calibration/qwen3_s", 2, "ids", {.quant_type = "w8a8", .act_method = 1, .anti_method = "m4"}, {{"alpha", "0.5"}}, 4 * bf16_u);
}

TEST_CASE("iter_smooth with a shift has msModelSlim's scales and biases in f32") {
  const peer_scales peer;
  for (const std::string norm : {"model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"}) {
    const std::string tensor = "sf_iter_smooth_asym/" + norm;
    const std::vector<float> low = peer.floats(tensor + ".low"), high = peer.floats(tensor + ".high"), w = peer.floats(tensor + ".weight");
    const std::vector<float> absmax(low.size(), 1.0f), bias = peer.floats(tensor + ".bias");
    const qlib::transform t = qlib::iterative_smooth{{.alpha = 0.7, .symmetric = false}}.solve(
        {.weights = {}, .all_absmax = w, .may_shift = true}, {.column_absmax = absmax, .column_min = low, .column_max = high});
    // Their extremes come from another order of sums: 1e-5 of the largest value, 1e-6 measured.
    CHECK(worst(t.scale, peer.floats(tensor)) < 1e-5);
    REQUIRE(t.shift.size() == bias.size());
    for (std::size_t c = 0; c < bias.size(); ++c) CHECK(std::abs(-t.shift[c] / t.scale[c] - bias[c]) < 1e-5f);
  }
}

TEST_CASE("flex_smooth_quant has msModelSlim's scales for the exponents that it found") {
  // Its search computes in bf16, whose noise decides between exponents; which ones it took follows from its scales.
  const peer_scales peer;
  const std::string name = "s_w4a8_dynamic_ssz_flex/";
  const qlib::quant_flags flags{.quant_type = "w8a8_dynamic", .anti_method = "flex_smooth_quant"};
  const auto attention = solved("calibration/qwen3_s", 1, peer.samples("ids"), flags, {{"alpha", "0.5"}, {"beta", "0.25"}});
  CHECK(worst(attention.at("model.layers.0.input_layernorm"), peer.floats(name + "model.layers.0.input_layernorm")) < 4 * bf16_u);
}

TEST_CASE("flex_awq_ssz has powers of the statistic that msModelSlim's scales are powers of") {
  // Its search rounds weights by ssz and inputs a column instead of a token, so it settles at .2 everywhere; ours at another multiple of .05.
  const peer_scales peer;
  const auto ours = solved("calibration/qwen3_s", 1, peer.samples("ids"), {.quant_type = "w8a8_dynamic", .anti_method = "flex_awq_ssz"}, {});
  CHECK(ours.size() == 2);
  for (const auto& [norm, scale] : ours) {
    double best = 1;
    for (int i = 1; i <= 20; ++i) {
      std::vector<float> power = scale;
      for (float& s : power) s = std::pow(s, 0.2f * 20.0f / static_cast<float>(i));
      best = std::min(best, worst(power, peer.floats("s_flex_awq_ssz/" + norm)));
    }
    CHECK_MESSAGE(best < 4 * bf16_u, norm << ": " << best);
  }
}

TEST_CASE("SmoothQuant by ranges has LLM-Compressor's scales") {
  check("sq_gptq_w8a8_llama128", "data/sources/llama128", 1, "sq_gptq_w8a8_llama128/ids", {.quant_type = "w8a8_dynamic", .anti_method = "m1"},
        {{"alpha", "0.8"}, {"statistic", "range"}}, 4 * bf16_u);
}

TEST_CASE("AWQ finds LLM-Compressor's scale where the group's outputs are what it measures") {
  // For q, k and v it measures behind attention, and takes another exponent.
  const peer_scales peer;
  const auto ours = solved("data/sources/llama256", 1, peer.samples("awq_w4a16_asym_llama256/ids"),
                           {.quant_type = "w4a16", .w_sym = false, .group_size = 128, .anti_method = "awq"}, {{"duo_scaling", "true"}});
  const std::string norm = "model.layers.0.post_attention_layernorm";
  CHECK(worst(ours.at(norm), peer.floats("awq_w4a16_asym_llama256/" + norm)) < 4 * bf16_u);
}
