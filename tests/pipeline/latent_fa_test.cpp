/// msModelSlim's fa3_quant of latent attention, from the recipe to the checkpoint, its rules and its KL.
#include "../format/mini_checkpoint.hpp"
#include "../model/plain_latent.hpp"
#include "../program/run_program.hpp"

#include <qlib/format/verify.hpp>
#include <qlib/pipeline/evaluate.hpp>

#include <algorithm>
#include <limits>
#include <set>

using namespace qlib_test;

namespace {

const std::string fa3 = "apiversion: modelslim_v1\nspec:\n  process:\n    - {type: fa3_quant}\n  save: [{type: ascendv1_saver, part_file_size: 4}]\n";
const std::string int8_weights = "weight: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}";

std::vector<std::vector<std::int32_t>> samples_of(const golden_family& family) {
  std::vector<std::vector<std::int32_t>> out;
  for (std::size_t s = 0; s + 1 < family.rows.size(); ++s)
    out.emplace_back(family.ids.begin() + static_cast<std::ptrdiff_t>(family.rows[s]),
                     family.ids.begin() + static_cast<std::ptrdiff_t>(family.rows[s + 1]));
  return out;
}

std::string model_of(const std::string& name) { return families_folder() + "/" + name; }

/// The program on a golden family and its own ids.
struct quantizing {
  temporary_folder folder;
  std::string ids;

  explicit quantizing(const std::string& name) : ids{folder.path("ids.safetensors")} {
    const golden_family family{name};
    const std::uint64_t samples = family.rows.size() - 1, tokens = family.ids.size() / samples;
    const std::string bytes{reinterpret_cast<const char*>(family.ids.data()), family.ids.size() * 4};
    folder.write("ids.safetensors", mini_checkpoint::file_text({{"ids", {qlib::dtype::i32, {samples, tokens}, bytes}}}));
  }

  program_result run(const std::string& model, const std::string& out, const std::string& recipe, std::vector<std::string> more = {}) const {
    std::vector<std::string> words{"quant",       "--quiet", "--model_path",  model_of(model),
                                   "--save_path", out,       "--config_path", folder.write("recipe.yaml", recipe),
                                   "--calib_ids", ids,       "--reproducible"};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(words);
  }
};

#if defined(QLIB_PROGRAM)

std::vector<float> scales_in(const mini_checkpoint& c, const std::string& name, const std::vector<std::uint64_t>& shape) {
  const auto at = c.tensors.find(name);
  REQUIRE_MESSAGE(at != c.tensors.end(), name);
  CHECK(at->second.type == qlib::dtype::f32);
  REQUIRE(at->second.shape == shape);
  std::vector<float> out(at->second.bytes.size() / 4);
  std::memcpy(out.data(), at->second.bytes.data(), at->second.bytes.size());
  return out;
}

/// The largest magnitude at the ends of the narrowest interval with 99.99 % of a sample's values (of all, with 1), over samples, by 127.
/// x: one head, its channels in columns [first, first + count).
double plain_scale(const plain_matrix& x, const std::vector<std::size_t>& rows, std::size_t first, std::size_t count, double ratio) {
  double largest = 0;
  for (std::size_t s = 0; s + 1 < rows.size(); ++s) {
    std::vector<double> v;
    for (std::size_t r = rows[s]; r < rows[s + 1]; ++r) v.insert(v.end(), x.row(r) + first, x.row(r) + first + count);
    std::sort(v.begin(), v.end());
    const auto n = static_cast<std::size_t>(ratio * static_cast<double>(v.size()));
    std::size_t best = 0;
    for (std::size_t i = 0; i + n <= v.size(); ++i)
      if (v[i + n - 1] - v[i] < v[best + n - 1] - v[best]) best = i;
    largest = std::max({largest, std::abs(v[best]), std::abs(v[best + n - 1])});
  }
  return largest / 127;
}

qlib::evaluation evaluated(const std::string& model, const std::string& reference, const std::vector<std::vector<std::int32_t>>& samples) {
  qlib::evaluation out;
  qlib::evaluation_options how;
  how.gemm.kind = qlib::gemm_kind::reproducible;
  const qlib::errors found = qlib::evaluate(model, reference, samples, how, out);
  REQUIRE_MESSAGE(found.empty(), text_of(found));
  return out;
}

#endif

}  // namespace

#if defined(QLIB_PROGRAM)

TEST_CASE("scales of absorbed queries and of the compressed vector are those of the float weights, head by head") {
  std::size_t narrower = 0;  // keys whose window leaves the largest of 24 * 32 values out
  for (const char* name : {"deepseek_v2", "deepseek_v3", "glm_moe_dsa"}) {
    CAPTURE(name);
    const quantizing work{name};
    const std::string out = work.folder.path("out");
    const program_result r = work.run(name, out, fa3);
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    mini_checkpoint c = mini_checkpoint::read(out);
    const golden_family family{name};
    const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
    const std::size_t rank = family.model.description.attention.latent->kv_rank;
    for (std::size_t l = 0; l < 2; ++l) {
      const std::string attn = "model.layers." + std::to_string(l) + ".self_attn";
      const std::vector<float> q = scales_in(c, attn + ".fa_q.scale", {4, 1}), k = scales_in(c, attn + ".fa_k.scale", {1, 1}),
                               v = scales_in(c, attn + ".fa_v.scale", {1, 1});
      const plain_operands want = plain_latent(family.model.description, source, l, family.reference("hidden." + std::to_string(l)));
      // The hidden states are those of transformers, in f32: what both decoders differ by (decoder_test.cpp).
      for (std::size_t h = 0; h < 4; ++h) CHECK(q[h] == doctest::Approx(plain_scale(want.query, family.rows, h * rank, rank, 0.9999)).epsilon(2e-5));
      CHECK(k[0] == doctest::Approx(plain_scale(want.latent, family.rows, 0, rank, 0.9999)).epsilon(2e-5));
      CHECK(v[0] == doctest::Approx(plain_scale(want.latent, family.rows, 0, rank, 1)).epsilon(2e-5));
      CHECK(k[0] <= v[0]);
      narrower += k[0] < v[0];
      for (const char* operand : {".fa_q", ".fa_k", ".fa_v"}) {
        const auto& offset = c.tensors.at(attn + operand + ".offset");
        CHECK(offset.type == qlib::dtype::i8);
        CHECK(offset.bytes == std::string(offset.bytes.size(), '\0'));
        CHECK(offset.shape == c.tensors.at(attn + operand + ".scale").shape);
        CHECK(c.description()[attn + operand + ".scale"] == "FAQuant");
        CHECK(c.description()[attn + operand + ".offset"] == "FAQuant");
      }
      CHECK(c.description()[attn + ".quant_type"] == "INT8");
    }
    CHECK(c.description()["fa_quant_type"] == "FAKQuant");
    CHECK_FALSE(c.description().contains("kv_cache_type"));
    // Nothing else is quantized, the linears of an indexer among them.
    std::set<std::string> types;
    for (const auto& [tensor, type] : c.description().items())
      if (c.tensors.contains(tensor) && tensor.find(".fa_") == tensor.npos) types.insert(type.get<std::string>());
    CHECK(types == std::set<std::string>{"FLOAT"});
    const program_result checked = run_program({"verify", out, "--engine", "vllm-ascend"});
    CHECK_MESSAGE(checked.exit_code == 0, checked.out);
  }
  CHECK(narrower > 0);
}

TEST_CASE("fa3_quant of latent attention writes the same bytes for any number of threads") {
  const quantizing work{"deepseek_v3"};
  std::string first;
  for (const char* threads : {"1", "2", "7"}) {
    const std::string out = work.folder.path(threads);
    const program_result r = work.run("deepseek_v3", out, fa3, {"--threads", threads});
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    if (first.empty()) first = weights_of(out);
    CHECK(weights_of(out) == first);
  }
}

// The figures are those of a Python client that computes absorbed attention with the stored scales inside transformers 5.17 (torch 2.14, f32).
// 2 %: inputs that differ in the last bit round to another code now and then.
TEST_CASE("quantized latent attention is near its float model, as an independent client says, and further with scales that do not fit") {
  struct figure {
    const char* name;
    double kl;
  };
  for (const figure& client : {figure{"deepseek_v2", 0.0017703983293635421},
                               {"deepseek_v2_group", 0.027613671068573948},
                               {"deepseek_v3", 0.006657332107033978},
                               {"glm_moe_dsa", 0.0015048516440130857}}) {
    const std::string name = client.name;
    CAPTURE(name);
    const quantizing work{name};
    const auto samples = samples_of(golden_family{name});
    const std::string out = work.folder.path("out");
    REQUIRE(work.run(name, out, fa3).exit_code == 0);
    const double kl = *evaluated(out, model_of(name), samples).kl;
    CHECK(kl == doctest::Approx(client.kl).epsilon(0.02));
    for (const char* operand : {"q", "k", "v"})
      for (const float factor : {0.1f, 16.0f}) {
        CAPTURE(operand);
        CAPTURE(factor);
        mini_checkpoint c = mini_checkpoint::read(out);
        for (const char* layer : {"0", "1"}) {
          const std::string scale = std::string{"model.layers."} + layer + ".self_attn.fa_" + operand + ".scale";
          for (std::size_t i = 0; i < c.tensors.at(scale).bytes.size() / 4; ++i) {
            float s = 0;
            std::memcpy(&s, c.tensors.at(scale).bytes.data() + 4 * i, 4);
            c.set(scale, i, s * factor);
          }
        }
        temporary_folder wrong;
        c.write(wrong);
        CHECK(*evaluated(wrong.path(), model_of(name), samples).kl > 2 * kl);
      }
  }
}

TEST_CASE("a scale a head is simulated: the head whose scale is wrong is the one that is") {
  const quantizing work{"deepseek_v3"};
  const auto samples = samples_of(golden_family{"deepseek_v3"});
  const std::string out = work.folder.path("out");
  REQUIRE(work.run("deepseek_v3", out, fa3).exit_code == 0);
  const double kl = *evaluated(out, model_of("deepseek_v3"), samples).kl;
  std::set<double> all{kl};
  for (std::size_t h = 0; h < 4; ++h) {
    mini_checkpoint c = mini_checkpoint::read(out);
    c.set("model.layers.1.self_attn.fa_q.scale", h, 1e-6f);  // every code is clamped: the head sees its rotary channels alone
    temporary_folder wrong;
    c.write(wrong);
    const double more = *evaluated(wrong.path(), model_of("deepseek_v3"), samples).kl;
    CHECK(more > kl);
    all.insert(more);
  }
  CHECK(all.size() == 5);
}

TEST_CASE("layers that a recipe excludes stay float, and linears are quantized beside attention") {
  const quantizing work{"deepseek_v3"};
  const std::string out = work.folder.path("out");
  const program_result r = work.run("deepseek_v3", out,
                                    "apiversion: modelslim_v1\nspec:\n  process:\n    - {type: fa3_quant, exclude: ['*layers.0*']}\n"
                                    "    - {type: linear_quant, qconfig: {act: {dtype: int8, scope: per_token, symmetric: true, method: minmax}, " +
                                        int8_weights + "}, exclude: ['*kv_b_proj']}\n");
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  mini_checkpoint c = mini_checkpoint::read(out);
  CHECK_FALSE(c.tensors.contains("model.layers.0.self_attn.fa_k.scale"));
  CHECK_FALSE(c.description().contains("model.layers.0.self_attn.quant_type"));
  CHECK(c.tensors.contains("model.layers.1.self_attn.fa_k.scale"));
  CHECK(c.description()["model.layers.0.self_attn.q_b_proj.weight"] == "W8A8_DYNAMIC");
  const double kl = *evaluated(out, model_of("deepseek_v3"), samples_of(golden_family{"deepseek_v3"})).kl;
  CHECK(kl > 0);
  CHECK(kl < 0.02);
}

TEST_CASE("kv_b_proj that attention absorbs has quantized weights, but no input that could be quantized") {
  const quantizing work{"deepseek_v3"};
  const auto kl_of = [&](const std::string& act, bool attention) {
    const std::string out = work.folder.path(std::string{act.empty() ? "w8a16" : "w8a8"} + (attention ? "-fa3" : ""));
    const program_result r = work.run("deepseek_v3", out,
                                      "apiversion: modelslim_v1\nspec:\n  process:\n" + std::string{attention ? "    - {type: fa3_quant}\n" : ""} +
                                          "    - {type: linear_quant, include: ['*kv_b_proj'], qconfig: {" + act + int8_weights + "}}\n");
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    return *evaluated(out, model_of("deepseek_v3"), samples_of(golden_family{"deepseek_v3"})).kl;
  };
  const std::string tokens = "act: {dtype: int8, scope: per_token, symmetric: true, method: minmax}, ";
  CHECK(kl_of(tokens, true) == kl_of("", true));
  CHECK(kl_of(tokens, false) != kl_of("", false));
}

TEST_CASE("caches of latent attention are refused with a reason and a way out") {
  const quantizing work{"deepseek_v3"};
  const std::string out = work.folder.path("out");
  const auto refused = [&](const std::string& recipe, const std::vector<std::string>& more, const std::vector<std::string>& parts) {
    const program_result r = work.run("deepseek_v3", out, recipe, more);
    CHECK(r.exit_code == 2);
    for (const std::string& part : parts) CHECK_MESSAGE(r.err.find(part) != std::string::npos, r.err);
    CHECK_FALSE(std::filesystem::exists(out));
  };
  const std::string cache = "    - {type: dynamic_cache, qconfig: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}}\n";
  refused("apiversion: modelslim_v1\nspec:\n  process:\n" + cache, {},
          {"recipe.yaml:4: model.layers.0.self_attn: ", "C8 cache", "multi-head latent attention does not have", "fa3_quant"});
  refused("apiversion: modelslim_v1\nspec:\n  process:\n    - {type: fa3_quant}\n", {"--format", "compressed_tensors"},
          {"recipe.yaml:4: model.layers.0.self_attn: compressed-tensors stores no attention operands", "--format ascend_v1"});
  refused(
      "quant_stage:\n  quant_modifiers:\n    QuantizationModifier:\n      targets: [Linear]\n      scheme: FP8\n      ignore: [lm_head]\n"
      "      kv_cache_scheme: {num_bits: 8, type: float, strategy: tensor, dynamic: false, symmetric: true}\n",
      {"--format", "compressed_tensors"}, {"model.layers.0.self_attn: multi-head latent attention caches its compressed vector", "leave it out"});
}

TEST_CASE("verify knows the shapes of latent attention's scales, and what belongs together") {
  const quantizing work{"deepseek_v3"};
  const std::string out = work.folder.path("out"), attn = "model.layers.0.self_attn.";
  REQUIRE(work.run("deepseek_v3", out, fa3).exit_code == 0);
  const mini_checkpoint sound = mini_checkpoint::read(out);
  struct broken {
    std::string rule, tensor;
    void (*breaking)(mini_checkpoint&, const std::string&);
    std::optional<qlib::engine> target = {};
  };
  const auto four = [](mini_checkpoint& c, const std::string& name) { c.add(name, qlib::dtype::f32, {4, 1}, 0.5f); };
  const auto one = [](mini_checkpoint& c, const std::string& name) { c.add(name, qlib::dtype::f32, {1, 1}, 0.5f); };
  const auto gone = [](mini_checkpoint& c, const std::string& name) {
    c.tensors.erase(name);
    c.description().erase(name);
  };
  for (const broken& b : {broken{"AV1-shape", attn + "fa_k.scale", four},
                          {"AV1-shape", attn + "fa_v.scale", four},
                          {"AV1-shape", attn + "fa_q.scale", one},
                          {"AV1-shape", attn + "fa_q.offset", [](auto&c, const auto&n) { c.add(n, qlib::dtype::i8, {4}, std::int8_t{0}); }},
                          {"AV1-missing", attn + "fa_v.offset", gone},
                          {"AV1-value", attn + "fa_k.scale", [](auto&c, const auto&n) { c.set(n, 0, 0.0f); }},
                          {"AV1-value", attn + "fa_q.offset", [](auto&c, const auto&n) { c.set(n, 2, std::int8_t{1}); }},
                          {"R12", "fa_quant_type", [](auto&c, const auto&n) { c.description().erase(n); }, qlib::engine::vllm_ascend}}) {
    CAPTURE(b.rule);
    CAPTURE(b.tensor);
    mini_checkpoint c = sound;
    b.breaking(c, b.tensor);
    c.refresh_index("quant_model_weights.safetensors.index.json");
    temporary_folder folder;
    c.write(folder);
    qlib::verification found;
    REQUIRE(qlib::verify_checkpoint(folder.path(), b.target, found).empty());
    REQUIRE(found.violations.size() == 1);
    CHECK(found.violations[0].rule == b.rule);
    CHECK(found.violations[0].tensor == b.tensor);
  }
  mini_checkpoint c = sound;
  for (const char* part : {"scale", "offset"}) gone(c, attn + "fa_v." + part);
  c.refresh_index("quant_model_weights.safetensors.index.json");
  temporary_folder folder;
  c.write(folder);
  qlib::verification found;
  REQUIRE(qlib::verify_checkpoint(folder.path(), {}, found).empty());
  REQUIRE(found.violations.size() == 1);
  CHECK(found.violations[0].rule == "AV1-missing");
  CHECK(found.violations[0].tensor == attn + "fa_v.scale");
}

TEST_CASE("what smoothing does to the compressed vector is in the scales of attention") {
  const quantizing work{"deepseek_v3"};
  const std::string out = work.folder.path("out");
  // W8A8 of kv_b_proj, so that its norm is smoothed; ov rescales its value rows, which no operand of attention sees.
  const program_result r = work.run("deepseek_v3", out,
                                    "apiversion: modelslim_v1\nspec:\n  process:\n"
                                    "    - {type: flex_smooth_quant}\n"
                                    "    - {type: fa3_quant}\n"
                                    "    - {type: linear_quant, qconfig: {act: {dtype: int8, scope: per_token, symmetric: true, method: minmax}, " +
                                        int8_weights + "}}\n");
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  mini_checkpoint c = mini_checkpoint::read(out);
  const golden_family family{"deepseek_v3"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  const plain_operands plain = plain_latent(family.model.description, source, 0, family.reference("hidden.0"));
  const std::string attn = "model.layers.0.self_attn";
  const std::vector<double> gain = plain_tensor(source, attn + ".kv_a_layernorm.weight").values;
  const auto& stored = c.tensors.at(attn + ".kv_a_layernorm.weight");
  REQUIRE(stored.type == qlib::dtype::bf16);
  std::vector<double> scale;  // what the norm's gains, and so the compressed vector, were divided by
  for (std::size_t i = 0; i < gain.size(); ++i) {
    qlib::bf16 after;
    std::memcpy(&after, stored.bytes.data() + 2 * i, 2);
    scale.push_back(gain[i] / static_cast<double>(qlib::to_float(after)));
  }
  REQUIRE(*std::max_element(scale.begin(), scale.end()) > 1.5 * *std::min_element(scale.begin(), scale.end()));
  plain_operands folded = plain;
  for (std::size_t i = 0; i < folded.latent.values.size(); ++i) folded.latent.values[i] /= scale[i % 32];
  for (std::size_t i = 0; i < folded.query.values.size(); ++i) folded.query.values[i] *= scale[i % 32];
  const std::vector<float> q = scales_in(c, attn + ".fa_q.scale", {4, 1}), k = scales_in(c, attn + ".fa_k.scale", {1, 1}),
                           v = scales_in(c, attn + ".fa_v.scale", {1, 1});
  for (std::size_t h = 0; h < 4; ++h) {
    CHECK(q[h] == doctest::Approx(plain_scale(folded.query, family.rows, h * 32, 32, 0.9999)).epsilon(2e-5));
    CHECK(std::abs(q[h] / plain_scale(plain.query, family.rows, h * 32, 32, 0.9999) - 1) > 1e-3);
  }
  CHECK(k[0] == doctest::Approx(plain_scale(folded.latent, family.rows, 0, 32, 0.9999)).epsilon(2e-5));
  CHECK(v[0] == doctest::Approx(plain_scale(folded.latent, family.rows, 0, 32, 1)).epsilon(2e-5));
  CHECK(std::abs(v[0] / plain_scale(plain.latent, family.rows, 0, 32, 1) - 1) > 1e-3);
}

#endif
