/// For every rule one checkpoint that breaks it, and only it; and sound ones that break none.
#include "mini_checkpoint.hpp"

#include <qlib/format/verify.hpp>

#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <tuple>

using namespace qlib_test;
using qlib::dtype;
using qlib::engine;
using rules = std::set<std::string>;

namespace {

struct outcome {
  std::string format, text;
  rules violations, warnings;
};

outcome verify_folder(const temporary_folder& folder, std::optional<engine> target = {}) {
  qlib::verification found;
  const qlib::errors failed = qlib::verify_checkpoint(folder.path(), target, found);
  REQUIRE(failed.empty());
  outcome out{found.format, {}, {}, {}};
  for (const qlib::violation& v : found.violations) {
    out.violations.insert(v.rule);
    out.text += v.file + ": " + v.tensor + ": " + v.rule + ": " + v.message + "\n";
    CHECK(!v.file.empty());
    CHECK(!v.message.empty());
  }
  for (const qlib::violation& v : found.warnings) out.warnings.insert(v.rule);
  return out;
}

outcome verify(const mini_checkpoint& c, std::optional<engine> target = {}) {
  const temporary_folder folder;
  c.write(folder);
  return verify_folder(folder, target);
}

void check_sound(const mini_checkpoint& c, std::optional<engine> target = {}) {
  const outcome found = verify(c, target);
  CHECK_MESSAGE(found.violations.empty(), found.text);
}

using change = std::function<void(mini_checkpoint&)>;

/// One broken checkpoint: what is done to a sound one, and the rule that says so. With `engine`, the rule is a violation for that
/// engine, and a warning without one.
struct broken {
  std::string what, rule;
  change breaking;
  std::optional<engine> target = {};
};

void check_each(const mini_checkpoint& sound, const std::vector<broken>& cases) {
  for (const broken& b : cases) {
    mini_checkpoint c = sound;
    b.breaking(c);
    const outcome found = verify(c, b.target);
    CHECK_MESSAGE(found.violations == rules{b.rule}, b.what << ", which should break " << b.rule << ":\n" << found.text);
    if (!b.target) continue;
    const outcome relaxed = verify(c);
    CHECK_MESSAGE(relaxed.violations.empty(), b.what << " without an engine:\n" << relaxed.text);
  }
}

const std::string attn = "model.layers.0.self_attn.", mlp = "model.layers.0.mlp.", expert0 = "model.layers.0.mlp.experts.0.";

/// AscendV1 of our own making; `description` and index follow what `build` does to the tensors.
mini_checkpoint ascend(const change& build = {}, dtype run = dtype::bf16, bool experts = false) {
  mini_checkpoint c = quantized(tiny_model(run, experts), "w8a8_dynamic", "ascend_v1");
  if (build) build(c);
  c.refresh_index("quant_model_weights.safetensors.index.json");
  return c;
}

/// Replaces the tensors of a linear by those of another type; every one gets the entry.
struct linear_type {
  mini_checkpoint& c;
  std::string module, type;

  linear_type(mini_checkpoint& checkpoint, std::string name, std::string quant_type)
      : c{checkpoint}, module{std::move(name)}, type{std::move(quant_type)} {
    std::erase_if(c.tensors, [&](const auto& t) { return t.first.starts_with(module + "."); });
    for (auto it = c.description().begin(); it != c.description().end();)
      it = it.key().starts_with(module + ".") ? c.description().erase(it) : std::next(it);
  }
  template <class T>
  void add(const std::string& suffix, dtype t, std::vector<std::uint64_t> shape, T value, const std::string& entry = {}) {
    c.add(module + suffix, t, std::move(shape), value);
    c.description()[module + suffix] = entry.empty() ? type : entry;
  }
};

void make_static(mini_checkpoint& c, const std::string& module, std::uint64_t n, bool f16_run = false, const std::string& type = "W8A8") {
  linear_type l{c, module, type};
  l.add(".weight", dtype::i8, {n, 64}, std::int8_t{1});
  l.add(".quant_bias", dtype::i32, {n}, 0);
  l.add(".input_scale", dtype::f32, {1}, 0.5f);
  l.add(".input_offset", dtype::f32, {1}, -3.0f);
  if (f16_run) l.add(".deq_scale", dtype::i64, {n}, std::int64_t{1006699012});
  else l.add(".deq_scale", dtype::f32, {n}, 0.01f);
  if (type != "W8A8_MIX") return;
  l.add(".weight_scale", dtype::f32, {n, 1}, 0.1f);
  l.add(".weight_offset", dtype::f32, {n, 1}, 0.0f);
}

void make_int4_int8(mini_checkpoint& c, const std::string& module, std::uint64_t n, std::uint64_t columns) {
  linear_type l{c, module, "W4A8_DYNAMIC"};
  l.add(".weight", dtype::i8, {n / 2, 64}, std::int8_t{1});
  l.add(".weight_scale", dtype::f32, {n, 1}, 0.1f);
  l.add(".weight_offset", dtype::f32, {n, 1}, 0.0f);
  l.add(".scale_bias", dtype::f32, {n, columns}, 0.5f);
}

void make_plain(mini_checkpoint& c, const std::string& module, std::uint64_t n, const std::string& type, dtype codes = dtype::i8) {
  linear_type l{c, module, type};
  l.add(".weight", codes, {n, 64}, std::uint8_t{1});
  l.add(".weight_scale", dtype::f32, {n, 1}, 0.1f);
  l.add(".weight_offset", dtype::f32, {n, 1}, 0.0f);
}

void make_mx(mini_checkpoint& c, const std::string& module, std::uint64_t n, const std::string& type) {
  const bool fp8 = type == "W8A8_MXFP8";
  linear_type l{c, module, type};
  l.add(".weight", fp8 ? dtype::f8_e4m3 : dtype::u8, {n, fp8 ? 64u : 32u}, std::uint8_t{1});
  l.add(".weight_scale", dtype::u8, {n, 2}, std::uint8_t{120});
  c.description()["group_size"] = 32;
}

mini_checkpoint ascend_with_cache() {
  return ascend([](mini_checkpoint& c) {
    for (const char* suffix : {"k_proj.kv_cache_", "v_proj.kv_cache_"}) {
      c.add(attn + suffix + "scale", dtype::f32, {32}, 0.1f);
      c.add(attn + suffix + "offset", dtype::f32, {32}, 0.0f);
      c.description()[attn + suffix + "scale"] = c.description()[attn + suffix + "offset"] = "C8";
    }
    c.description()["kv_cache_type"] = c.description()["kv_quant_type"] = "C8";
  });
}

mini_checkpoint compressed(const std::string& type = "w8a8_dynamic", std::size_t group = 0, bool symmetric = true, bool experts = false) {
  return quantized(tiny_model(dtype::bf16, experts), type, "compressed_tensors", group, symmetric);
}

json& group0(mini_checkpoint& c) { return c.quantization()["config_groups"]["group_0"]; }

/// GPTQ, or AWQ, of every linear: 4 bit, groups of 64, symmetric.
mini_checkpoint gptq(bool awq = false, int bits = 4) {
  mini_checkpoint c = tiny_model(dtype::f16);
  const std::uint64_t pack = 32 / static_cast<std::uint64_t>(bits);
  for (const auto& [name, rows] : {std::pair{attn + "q_proj", 64},
                                   {attn + "k_proj", 32},
                                   {attn + "v_proj", 32},
                                   {attn + "o_proj", 64},
                                   {mlp + "gate_proj", 64},
                                   {mlp + "up_proj", 64},
                                   {mlp + "down_proj", 64}}) {
    const auto n = static_cast<std::uint64_t>(rows);
    c.tensors.erase(name + ".weight");
    if (awq) c.add(name + ".qweight", dtype::i32, {64, n / 8}, 0x12345678);
    else c.add(name + ".qweight", dtype::i32, {64 / pack, n}, 0x12345678);
    c.add(name + ".qzeros", dtype::i32, {1, n / pack}, bits == 8 ? 0x7f7f7f7f : 0x77777777);
    c.add(name + ".scales", dtype::f16, {1, n}, qlib::to_f16(0.01f).bits);
    if (!awq) c.add(name + ".g_idx", dtype::i32, {64}, 0);
  }
  if (awq)
    c.quantization() = {{"quant_method", "awq"}, {"bits", bits},      {"group_size", 64},
                        {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", json::array({"lm_head"})}};
  else c.quantization() = {{"quant_method", "gptq"}, {"bits", bits}, {"group_size", 64}, {"desc_act", false}, {"sym", true}};
  return c;
}

}  // namespace

TEST_CASE("checkpoints of this library break no rule") {
  for (const bool experts : {false, true})
    for (const std::string format : {"ascend_v1", "compressed_tensors"})
      for (const auto& [type, group, symmetric] : {std::tuple{"w8a8_dynamic", 0, true},
                                                   {"w8a16", 0, true},
                                                   {"w8a16", 32, true},
                                                   {"w4a16", 32, true},
                                                   {"w4a16", 32, false},
                                                   {"w4a16", 64, true},
                                                   {"fp8_dynamic", 0, true}}) {
        INFO(format, " ", type, " g", group, experts ? " with experts" : "");
        const mini_checkpoint c = quantized(tiny_model(dtype::bf16, experts), type, format, static_cast<std::size_t>(group), symmetric);
        const outcome found = verify(c);
        CHECK(found.format == format);
        CHECK_MESSAGE(found.violations.empty(), found.text);
      }
}

TEST_CASE("what this library makes for an engine, that engine loads") {
  for (const bool experts : {false, true}) {
    check_sound(ascend({}, dtype::bf16, experts), engine::vllm_ascend);
    check_sound(quantized(tiny_model(dtype::bf16, experts), "fp8_dynamic", "ascend_v1"), engine::vllm_ascend);
    check_sound(ascend({}, dtype::bf16, experts), engine::mindie);
    for (engine e : {engine::vllm, engine::vllm_ascend, engine::vllm_gcu}) check_sound(compressed("w8a8_dynamic", 0, true, experts), e);
    check_sound(compressed("w4a16", 32, true, experts), engine::vllm);
  }
}

TEST_CASE("a float checkpoint breaks no rule, whatever lies beside it") {
  mini_checkpoint c = tiny_model();
  check_sound(c);
  CHECK(verify(c).format == "float");
  c.raw["golden.safetensors"] = mini_checkpoint::file_text({{"ids", {dtype::i32, {1}, std::string(4, '\0')}}});
  const outcome found = verify(c);
  CHECK(found.violations.empty());
  CHECK(found.warnings == rules{"FILE-stray"});
}

TEST_CASE("files: each rule names what breaks it") {
  const mini_checkpoint sound = compressed();
  check_each(sound, {
                        {"a truncated file", "FILE-damaged",
                         [](auto& c) {
                           std::string text = mini_checkpoint::file_text({{"a.weight", {dtype::f32, {4}, std::string(16, '\0')}}});
                           text.resize(text.size() - 3);
                           c.raw["model-extra.safetensors"] = text;
                         }},
                        {"config.json with a key twice", "FILE-json",
                         [](auto& c) {
                           std::string text = c.config().dump();
                           text.insert(1, "\"model_type\": \"llama\", ");
                           c.documents["config.json"] = nullptr;
                           c.raw["config.json"] = text;
                         }},
                        {"a second safetensors file without an index", "FILE-stray",
                         [](auto& c) {
                           c.raw["calibration.safetensors"] = mini_checkpoint::file_text({{"ids", {dtype::i32, {1}, std::string(4, '\0')}}});
                         }},
                        {"an index that misses a tensor", "FILE-index",
                         [](auto& c) {
                           c.refresh_index("model.safetensors.index.json");
                           c.documents["model.safetensors.index.json"]["weight_map"].erase("lm_head.weight");
                           c.documents["model.safetensors.index.json"]["metadata"]["total_size"] = c.bytes() - 32 * 64 * 2;
                         }},
                        {"an index that names an absent tensor", "FILE-index",
                         [](auto& c) {
                           c.refresh_index("model.safetensors.index.json");
                           c.documents["model.safetensors.index.json"]["weight_map"]["nobody.weight"] = "model.safetensors";
                         }},
                        {"an index that names an absent file", "FILE-index",
                         [](auto& c) {
                           c.refresh_index("model.safetensors.index.json");
                           c.documents["model.safetensors.index.json"]["weight_map"]["nobody.weight"] = "model-00002.safetensors";
                         }},
                        {"a wrong total_size", "FILE-size",
                         [](auto& c) {
                           c.refresh_index("model.safetensors.index.json");
                           c.documents["model.safetensors.index.json"]["metadata"]["total_size"] = 7;
                         }},
                        {"one part of two", "FILE-parts",
                         [](auto& c) {
                           c.weights_file = "model-00001-of-00002.safetensors";
                           c.refresh_index("model.safetensors.index.json");
                         }},
                        {"the temporary name of an unfinished run", "FILE-parts",
                         [](auto& c) {
                           c.weights_file = "model-00001-of-00000.safetensors";
                           c.refresh_index("model.safetensors.index.json");
                         }},
                        {"a layer that is not there", "FILE-layers", [](auto& c) { c.config()["num_hidden_layers"] = 2; }},
                    });
  mini_checkpoint two = sound;
  two.weights_file = "model-00001-of-00002.safetensors";
  two.raw["model-00002-of-00002.safetensors"] = mini_checkpoint::file_text({{"lm_head.weight", two.tensors["lm_head.weight"]}});
  CHECK(verify(two).violations == rules{"FILE-duplicate", "FILE-index"});

  mini_checkpoint bare = sound;
  bare.tensors.clear();
  CHECK(verify(bare).violations.contains("FILE-missing"));
  mini_checkpoint nameless = tiny_model();
  nameless.documents["config.json"] = nullptr;
  CHECK(verify(nameless).violations == rules{"FILE-config"});
}

TEST_CASE("what is no checkpoint is an error, not a violation") {
  qlib::verification found;
  const temporary_folder empty;
  CHECK(qlib::verify_checkpoint(empty.path(), {}, found).size() == 1);
  CHECK(qlib::verify_checkpoint(empty.path("absent"), {}, found).size() == 1);
}

TEST_CASE("a format is refused by an engine that has no loader for it") {
  CHECK(verify(ascend(), engine::vllm).violations == rules{"ENGINE-format"});
  CHECK(verify(ascend(), engine::vllm_gcu).violations == rules{"ENGINE-format"});
  CHECK(verify(compressed(), engine::mindie).violations.contains("ENGINE-format"));
  CHECK(verify(gptq(), engine::vllm_ascend).violations == rules{"ENGINE-format"});
}

TEST_CASE("AscendV1: each rule of the description names what breaks it") {
  check_each(
      ascend(),
      {
          {"a description called by its type", "R1",
           [](auto& c) {
             c.documents["quant_model_description_w8a8.json"] = c.description();
             c.description() = nullptr;
           },
           engine::vllm_ascend},
          {"quantization_config left behind", "R2",
           [](auto& c) {
             c.config()["quantization_config"] = {{"group_size", 32}};
           }},
          {"quantization_config left in the text model", "R2", [](auto& c) { c.config()["text_config"]["quantization_config"] = json::object(); }},
          {"a norm without an entry", "R3", [](auto& c) { c.description().erase("model.norm.weight"); }},
          {"an entry without a tensor", "AV1-entry", [](auto& c) { c.description()["model.layers.0.mlp.down_proj.input_scale"] = "W8A8"; }},
          {"a scale with another type than its weight", "AV1-entry", [](auto& c) { c.description()[mlp + "down_proj.weight_scale"] = "W8A16"; }},
          {"an unknown type", "AV1-type", [](auto& c) { c.description()["model.norm.weight"] = "W3A3"; }},
          {"no model_quant_type", "AV1-key", [](auto& c) { c.description().erase("model_quant_type"); }},
          {"another version", "AV1-key", [](auto& c) { c.description()["version"] = "2.0.0"; }},
          {"a character outside of the whitelist", "R15", [](auto& c) { c.description()["comment"] = "a;b"; }},
          {"a key of 600 characters", "R15", [](auto& c) { c.description()[std::string(600, 'k')] = "FLOAT"; }},
          {"a float weight described as quantized", "AV1-dtype",
           [](auto& c) {
             for (const char* suffix : {".weight", ".weight_scale", ".weight_offset"}) c.description().erase(mlp + "down_proj" + suffix);
             linear_type l{c, mlp + "down_proj", "FLOAT"};
             l.add(".weight", dtype::i8, {64, 64}, std::int8_t{1});
             c.refresh_index("quant_model_weights.safetensors.index.json");
           }},
          {"a stray safetensors file", "R14",
           [](auto& c) {
             c.raw["calibration.safetensors"] = mini_checkpoint::file_text({{"ids", {dtype::i32, {1}, std::string(4, '\0')}}});
           }},
          {"an optional file that does not exist", "AV1-optional",
           [](auto& c) {
             c.description()["optional"] = {{"quarot", {{"rotation_map", {{"global_rotation", "optional/quarot.safetensors"}}}}}};
           }},
          {"a bias of no norm", "R11",
           [](auto& c) {
             c.add("model.other_norm.bias", dtype::bf16, {64}, std::uint16_t{0});
             c.description()["model.other_norm.bias"] = "FLOAT";
             c.refresh_index("quant_model_weights.safetensors.index.json");
           }},
          {"a norm bias of another size", "R11",
           [](auto& c) {
             c.add("model.norm.bias", dtype::bf16, {32}, std::uint16_t{0});
             c.description()["model.norm.bias"] = "FLOAT";
             c.refresh_index("quant_model_weights.safetensors.index.json");
           }},
          {"the source's index", "R14",
           [](auto& c) {
             c.documents["model.safetensors.index.json"] = c.index();
             for (auto& holder : c.documents["model.safetensors.index.json"]["weight_map"]) holder = "model.safetensors";
           }},
          {"fa_quant_type of the legacy saver", "R12", [](auto& c) { c.description()["fa_quant_type"] = "FAQuant"; }, engine::vllm_ascend},
          {"shards of one fused layer with two types", "R4",
           [](auto& c) {
             make_plain(c, mlp + "up_proj", 64, "W8A16");
             c.refresh_index("quant_model_weights.safetensors.index.json");
           }},
          {"a float weight whose name begins with a quantized one's", "AV1-prefix",
           [](auto& c) {
             c.add(mlp + "down_proj2.weight", dtype::bf16, {64, 64}, std::uint16_t{0});
             c.description()[mlp + "down_proj2.weight"] = "FLOAT";
             c.refresh_index("quant_model_weights.safetensors.index.json");
           },
           engine::vllm_ascend},
      });
  const mini_checkpoint tied = ascend([](mini_checkpoint& c) {
    c.config()["tie_word_embeddings"] = true;
    c.tensors.erase("lm_head.weight");
    c.description().erase("lm_head.weight");
  });
  CHECK(verify(tied).warnings == rules{"R3"});
}

TEST_CASE("AscendV1: each rule of a dynamic linear names what breaks it") {
  const std::string down = mlp + "down_proj";
  check_each(ascend(),
             {
                 {"a missing scale", "AV1-missing",
                  [&](auto& c) {
                    c.tensors.erase(down + ".weight_offset");
                    c.description().erase(down + ".weight_offset");
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  }},
                 {"a scale [N]", "AV1-shape", [&](auto& c) { c.tensors[down + ".weight_scale"].shape = {64}; }},
                 {"a scale of integers", "AV1-dtype", [&](auto& c) { c.tensors[down + ".weight_scale"].type = dtype::i32; }},
                 {"a scale of 0", "AV1-value", [&](auto& c) { c.set(down + ".weight_scale", 5, 0.0f); }},
                 {"a scale that is NaN", "AV1-value", [&](auto& c) { c.set(down + ".weight_scale", 63, std::numeric_limits<float>::quiet_NaN()); }},
                 {"an offset other than 0", "AV1-value", [&](auto& c) { c.set(down + ".weight_offset", 1, 2.0f); }},
                 {"a tensor of another format", "AV1-unknown",
                  [&](auto& c) {
                    c.add(down + ".weight_zero_point", dtype::i8, {64, 1}, std::int8_t{0});
                    c.description()[down + ".weight_zero_point"] = "W8A8_DYNAMIC";
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  }},
                 {"a bias of another size", "AV1-shape",
                  [&](auto& c) {
                    c.add(down + ".bias", dtype::f32, {32}, 0.0f);
                    c.description()[down + ".bias"] = "FLOAT";
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  }},
                 {"groups that group_size does not tell", "R9",
                  [&](auto& c) {
                    for (const char* suffix : {".weight_scale", ".weight_offset"})
                      c.add(down + suffix, dtype::f32, {64, 2}, suffix[8] == 's' ? 0.1f : 0.0f);
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  }},
                 {"scales per group", "AV1-support",
                  [&](auto& c) {
                    for (const char* suffix : {".weight_scale", ".weight_offset"})
                      c.add(down + suffix, dtype::f32, {64, 2}, suffix[8] == 's' ? 0.1f : 0.0f);
                    c.description()["group_size"] = 32;
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  },
                  engine::vllm_ascend},
                 {"an asymmetric W8A16", "R7",
                  [&](auto& c) {
                    make_plain(c, down, 64, "W8A16");
                    c.set(down + ".weight_offset", 3, -4.0f);
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  },
                  engine::vllm_ascend},
                 {"msModelSlim's name for fp8", "R13",
                  [&](auto& c) {
                    make_plain(c, down, 64, "WFP8AFP8_DYNAMIC", dtype::f8_e4m3);
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  },
                  engine::vllm_ascend},
                 {"a type that has no kernel", "AV1-support",
                  [&](auto& c) {
                    make_plain(c, down, 64, "W4A16");
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  },
                  engine::vllm_ascend},
             });
}

TEST_CASE("AscendV1: static W8A8 follows the run dtype, and what is fused has one input scale") {
  const auto all_static = [](bool f16_run, const std::string& type) {
    return [=](mini_checkpoint& c) {
      for (const auto& [name, rows] : {std::pair{"q_proj", 64}, {"k_proj", 32}, {"v_proj", 32}})
        make_static(c, attn + name, static_cast<std::uint64_t>(rows), f16_run, type);
    };
  };
  check_sound(ascend(all_static(true, "W8A8"), dtype::f16), engine::vllm_ascend);
  check_sound(ascend(all_static(false, "W8A8_MIX")), engine::vllm_ascend);
  const std::string q = attn + "q_proj";
  check_each(ascend(all_static(false, "W8A8")),
             {
                 {"deq_scale as integers in a bf16 model", "R5",
                  [&](auto& c) {
                    c.add(q + ".deq_scale", dtype::i64, {64}, std::int64_t{1006699012});
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  }},
                 {"deq_scale of 0", "AV1-value", [&](auto& c) { c.set(q + ".deq_scale", 0, 0.0f); }},
                 {"another input scale than its partners", "R6", [&](auto& c) { c.set(q + ".input_scale", 0, 0.25f); }},
                 {"another input offset than its partners", "R6", [&](auto& c) { c.set(q + ".input_offset", 0, 4.0f); }},
                 {"an input offset between two integers", "AV1-value",
                  [](auto& c) {
                    for (const char* n : {"q_proj", "k_proj", "v_proj"}) c.set(attn + n + ".input_offset", 0, 0.5f);
                  }},
                 {"one deq_scale for all channels", "AV1-shape",
                  [&](auto& c) {
                    c.add(q + ".deq_scale", dtype::f32, {1}, 0.1f);
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  }},
             });
  mini_checkpoint f16 = ascend(all_static(true, "W8A8"), dtype::f16);
  f16.add(q + ".deq_scale", dtype::f32, {64}, 0.1f);
  f16.refresh_index("quant_model_weights.safetensors.index.json");
  CHECK(verify(f16).violations == rules{"R5"});
  CHECK(verify(f16, engine::mindie).violations.empty());
  f16 = ascend(all_static(true, "W8A8"), dtype::f16);
  f16.set(q + ".deq_scale", 2, std::int64_t{1} << 40);
  CHECK(verify(f16).violations == rules{"AV1-value"});
}

TEST_CASE("AscendV1: W4A8 is for experts, with group_size 0") {
  const auto experts = [](mini_checkpoint& c) {
    for (const char* e : {"0.", "1."})
      for (const char* name : {"gate_proj", "up_proj", "down_proj"})
        make_int4_int8(c, "model.layers.0.mlp.experts." + std::string{e} + name, 64, name[0] == 'd' ? 16 : 1);
  };
  const mini_checkpoint sound = ascend(experts, dtype::bf16, true);
  check_sound(sound, engine::vllm_ascend);
  check_each(sound, {
                        {"no group_size", "R9", [](auto& c) { c.description().erase("group_size"); }, engine::vllm_ascend},
                        {"group_size 256", "R9", [](auto& c) { c.description()["group_size"] = 256; }, engine::vllm_ascend},
                        {"W4A8 in attention", "R10",
                         [](auto& c) {
                           make_int4_int8(c, attn + "o_proj", 64, 16);
                           c.refresh_index("quant_model_weights.safetensors.index.json");
                         },
                         engine::vllm_ascend},
                        {"one expert of another type", "R4",
                         [](auto& c) {
                           make_plain(c, "model.layers.0.mlp.experts.1.up_proj", 64, "W8A8_DYNAMIC");
                           c.refresh_index("quant_model_weights.safetensors.index.json");
                         },
                         engine::vllm_ascend},
                        {"scale_bias of a column layer in a row layer", "AV1-shape",
                         [](auto& c) {
                           c.add(expert0 + "down_proj.scale_bias", dtype::f32, {64, 1}, 0.1f);
                           c.refresh_index("quant_model_weights.safetensors.index.json");
                         }},
                        {"unpacked codes", "AV1-shape",
                         [](auto& c) {
                           c.add(expert0 + "up_proj.weight", dtype::i8, {64, 64}, std::int8_t{1});
                           c.refresh_index("quant_model_weights.safetensors.index.json");
                         }},
                    });
}

TEST_CASE("AscendV1: microscaling types need group_size 32 and their own shapes") {
  for (const std::string type : {"W8A8_MXFP8", "W4A8_MXFP", "W4A4_MXFP4"}) {
    CAPTURE(type);
    const mini_checkpoint sound = ascend([&](mini_checkpoint& c) { make_mx(c, mlp + "down_proj", 64, type); });
    check_sound(sound, engine::vllm_ascend);
    check_each(sound, {
                          {"group_size 0", "R9", [](auto& c) { c.description()["group_size"] = 0; }},
                          {"a scale byte of 255", "AV1-value", [](auto& c) { c.set(mlp + "down_proj.weight_scale", 7, std::uint8_t{255}); }},
                          {"one scale too many a row", "AV1-shape",
                           [](auto& c) {
                             c.add(mlp + "down_proj.weight_scale", dtype::u8, {64, 3}, std::uint8_t{1});
                             c.refresh_index("quant_model_weights.safetensors.index.json");
                           }},
                          {"W4A8 beside it", "R9",
                           [](auto& c) {
                             make_int4_int8(c, expert0 + "down_proj", 64, 16);
                             c.refresh_index("quant_model_weights.safetensors.index.json");
                           },
                           engine::vllm_ascend},
                      });
  }
}

TEST_CASE("AscendV1: FlatQuant's transforms have the sizes that the kernel expects") {
  const mini_checkpoint sound = ascend([](mini_checkpoint& c) {
    make_plain(c, mlp + "down_proj", 64, "W4A4_FLATQUANT_DYNAMIC");
    linear_type l = {c, mlp + "none", "W4A4_FLATQUANT_DYNAMIC"};
    l.module = mlp + "down_proj";
    l.add(".left_trans", dtype::f32, {8, 8}, 0.1f);
    l.add(".right_trans", dtype::f32, {8, 8}, 0.1f);
    l.add(".clip_ratio", dtype::f32, {1}, 0.9f);
  });
  check_sound(sound, engine::vllm_ascend);
  const auto square = [](const char* suffix, std::uint64_t n) {
    return [=](mini_checkpoint& c) {
      c.add(mlp + "down_proj" + suffix, dtype::f32, {n, n}, 0.1f);
      c.refresh_index("quant_model_weights.safetensors.index.json");
    };
  };
  check_each(sound, {
                        {"transforms that do not make up K", "AV1-shape", square(".left_trans", 4)},
                        {"another split of K", "AV1-support",
                         [&](auto& c) {
                           square(".left_trans", 4)(c);
                           square(".right_trans", 16)(c);
                         },
                         engine::vllm_ascend},
                    });
}

TEST_CASE("AscendV1: the key-value cache has both scales, offsets of 0, and its keys") {
  const mini_checkpoint sound = ascend_with_cache();
  check_sound(sound, engine::vllm_ascend);
  check_each(sound,
             {
                 {"no kv_quant_type", "AV1-kv", [](auto& c) { c.description().erase("kv_quant_type"); }},
                 {"a type without scales", "AV1-kv",
                  [](auto& c) {
                    for (const char* s : {"k_proj.kv_cache_scale", "k_proj.kv_cache_offset", "v_proj.kv_cache_scale", "v_proj.kv_cache_offset"}) {
                      c.tensors.erase(attn + s);
                      c.description().erase(attn + s);
                    }
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  }},
                 {"only one offset", "AV1-missing",
                  [](auto& c) {
                    c.tensors.erase(attn + "k_proj.kv_cache_offset");
                    c.description().erase(attn + "k_proj.kv_cache_offset");
                    c.refresh_index("quant_model_weights.safetensors.index.json");
                  }},
                 {"an offset other than 0", "R8", [](auto& c) { c.set(attn + "v_proj.kv_cache_offset", 3, 1.0f); }, engine::vllm_ascend},
                 {"a negative scale", "AV1-value", [](auto& c) { c.set(attn + "v_proj.kv_cache_scale", 3, -1.0f); }},
             });
}

TEST_CASE("compressed-tensors: each rule of the configuration names what breaks it") {
  check_each(
      compressed(),
      {
          {"an unknown key in a scheme", "CT-schema", [](auto& c) { group0(c)["note"] = "mine"; }},
          {"an unknown key in arguments", "CT-schema", [](auto& c) { group0(c)["weights"]["note"] = "mine"; }},
          {"bits as a string", "CT-schema", [](auto& c) { group0(c)["weights"]["num_bits"] = "8"; }},
          {"an unknown strategy", "CT-schema", [](auto& c) { group0(c)["input_activations"]["strategy"] = "row"; }},
          {"a group size of channels", "CT-schema", [](auto& c) { group0(c)["weights"]["group_size"] = 64; }},
          {"tokens that are not dynamic", "CT-schema",
           [](auto& c) {
             group0(c)["input_activations"]["dynamic"] = false;
             for (const auto& name :
                  {attn + "q_proj", attn + "k_proj", attn + "v_proj", attn + "o_proj", mlp + "gate_proj", mlp + "up_proj", mlp + "down_proj"})
               c.add(name + ".input_scale", dtype::bf16, {1}, qlib::to_bf16(1.0f).bits);
           }},
          {"an order of activations", "CT-schema", [](auto& c) { group0(c)["input_activations"]["actorder"] = "weight"; }},
          {"a block structure of channels", "CT-schema",
           [](auto& c) {
             group0(c)["weights"]["block_structure"] = {128, 128};
           }},
          {"no groups", "CT-config",
           [](auto& c) {
             mini_checkpoint plain = tiny_model();
             plain.quantization() = c.quantization();
             plain.quantization()["config_groups"] = json::object();
             c = plain;
           }},
          {"an unknown format of a group", "CT-format",
           [](auto& c) {
             group0(c)["format"] = "mixed-precision";
             c.quantization()["format"] = "mixed-precision";
           }},
          {"two formats and neither mixed-precision", "CT-format", [](auto& c) { c.quantization()["format"] = "pack-quantized"; }},
          {"a float layer that is not in ignore", "CT-ignore", [](auto& c) { c.quantization()["ignore"] = json::array(); }},
          {"a quantized layer in ignore", "CT-target", [](auto& c) { c.quantization()["ignore"].push_back(mlp + "down_proj"); }},
          {"a quantized layer that no target matches", "CT-target",
           [](auto& c) {
             group0(c)["targets"] = {"re:.*self_attn.*", "re:.*(gate|up)_proj"};
           }},
          {"scales of a cache that is not quantized", "CT-kv", [](auto& c) { c.add(attn + "k_scale", dtype::bf16, {1}, qlib::to_bf16(1.0f).bits); }},
          {"a quantized cache without scales", "CT-kv",
           [](auto& c) {
             c.quantization()["kv_cache_scheme"] = {
                 {"num_bits", 8}, {"type", "float"}, {"strategy", "tensor"}, {"dynamic", false}, {"symmetric", true}};
           }},
          {"one shard left float", "CT-fused",
           [](auto& c) {
             const std::string k = attn + "k_proj";
             c.tensors.erase(k + ".weight_scale");
             c.add(k + ".weight", dtype::bf16, {32, 64}, std::uint16_t{0});
             c.quantization()["ignore"].push_back(k);
           }},
      });
  mini_checkpoint pattern = compressed();
  group0(pattern)["targets"].push_back("re:(");
  CHECK(verify(pattern).violations.contains("CT-target"));
  mini_checkpoint idle = compressed();
  idle.quantization()["ignore"].push_back("model.layers.7.mlp");
  CHECK(verify(idle).warnings == rules{"CT-ignore"});
}

TEST_CASE("compressed-tensors: each rule of a module names what breaks it") {
  const std::string down = mlp + "down_proj";
  check_each(compressed(), {
                               {"a missing scale", "CT-missing", [&](auto& c) { c.tensors.erase(down + ".weight_scale"); }},
                               {"a scale [N]", "CT-shape", [&](auto& c) { c.tensors[down + ".weight_scale"].shape = {64}; }},
                               {"unsigned codes", "CT-dtype", [&](auto& c) { c.tensors[down + ".weight"].type = dtype::u8; }},
                               {"a scale that is infinite", "CT-value", [&](auto& c) { c.set(down + ".weight_scale", 1, std::uint16_t{0x7f80}); }},
                               {"zero points of symmetric weights", "CT-zero",
                                [&](auto& c) {
                                  c.add(down + ".weight_zero_point", dtype::i8, {64, 1}, std::int8_t{0});
                                }},
                               {"an order that was not asked for", "CT-g_idx", [&](auto& c) { c.add(down + ".weight_g_idx", dtype::i32, {64}, 0); }},
                               {"an input scale of dynamic activations", "CT-unknown",
                                [&](auto& c) { c.add(down + ".input_scale", dtype::bf16, {1}, std::uint16_t{0x3f80}); }},
                               {"the other container of integers", "CT-missing",
                                [](auto& c) { group0(c)["format"] = c.quantization()["format"] = "pack-quantized"; }},
                               {"a container that cannot hold the codes", "CT-format",
                                [](auto& c) { group0(c)["format"] = c.quantization()["format"] = "float-quantized"; }},
                           });
  check_each(compressed("w4a16", 32, false),
             {
                 {"a shape that says other rows", "CT-weight_shape", [&](auto& c) { c.set(down + ".weight_shape", 0, std::int64_t{63}); }},
                 {"a shape that says other columns", "CT-words", [&](auto& c) { c.set(down + ".weight_shape", 1, std::int64_t{65}); }},
                 {"zero points that are not packed", "CT-shape",
                  [&](auto& c) {
                    c.add(down + ".weight_zero_point", dtype::i32, {64, 2}, 0);
                  }},
                 {"no zero points", "CT-missing", [&](auto& c) { c.tensors.erase(down + ".weight_zero_point"); }},
                 {"groups that do not divide the columns", "CT-shape", [](auto& c) { group0(c)["weights"]["group_size"] = 48; }},
                 {"actorder group", "CT-g_idx", [](auto& c) { group0(c)["weights"]["actorder"] = "group"; }},
             });
}

TEST_CASE("compressed-tensors: static inputs and fp4 have their tensors") {
  const auto modules = {attn + "q_proj", attn + "k_proj", attn + "v_proj", attn + "o_proj", mlp + "gate_proj", mlp + "up_proj", mlp + "down_proj"};
  mini_checkpoint c = compressed();
  group0(c)["input_activations"] = {{"num_bits", 8},    {"type", "int"},      {"strategy", "tensor"},
                                    {"dynamic", false}, {"symmetric", false}, {"zp_dtype", "torch.int8"}};
  CHECK(verify(c).violations == rules{"CT-missing"});
  for (const std::string& m : modules) {
    c.add(m + ".input_scale", dtype::bf16, {1}, std::uint16_t{0x3f80});
    c.add(m + ".input_zero_point", dtype::i8, {1}, std::int8_t{-7});
  }
  check_sound(c, engine::vllm);
  CHECK(verify(c, engine::vllm_ascend).violations == rules{"CT-engine"});

  mini_checkpoint fp4 = compressed();
  group0(fp4) = {{"targets", {"Linear"}},
                 {"format", "nvfp4-pack-quantized"},
                 {"weights",
                  {{"num_bits", 4},
                   {"type", "float"},
                   {"strategy", "tensor_group"},
                   {"group_size", 16},
                   {"symmetric", true},
                   {"scale_dtype", "torch.float8_e4m3fn"}}}};
  fp4.quantization()["format"] = "nvfp4-pack-quantized";
  for (const std::string& m : modules) {
    const std::uint64_t n = fp4.tensors[m + ".weight"].shape[0];
    fp4.tensors.erase(m + ".weight");
    fp4.add(m + ".weight_packed", dtype::u8, {n, 32}, std::uint8_t{0x21});
    fp4.add(m + ".weight_scale", dtype::f8_e4m3, {n, 4}, std::uint8_t{0x38});
    fp4.add(m + ".weight_global_scale", dtype::f32, {1}, 100.0f);
  }
  check_sound(fp4, engine::vllm);
  check_each(fp4, {{"no global scale", "CT-missing", [](auto& m) { m.tensors.erase(mlp + "down_proj.weight_global_scale"); }},
                   {"local scales of another dtype", "CT-dtype", [](auto& m) { m.tensors[mlp + "down_proj.weight_scale"].type = dtype::u8; }},
                   {"a local scale that is NaN", "CT-value", [](auto& m) { m.set(mlp + "down_proj.weight_scale", 0, std::uint8_t{0x7f}); }}});
  fp4.set(mlp + "up_proj.weight_global_scale", 0, 50.0f);
  CHECK(verify(fp4).warnings == rules{"CT-fused"});
}

TEST_CASE("compressed-tensors: each engine takes the schemes that it has kernels for") {
  CHECK(verify(compressed("w4a16", 32), engine::vllm_ascend).violations == rules{"CT-engine"});
  CHECK(verify(compressed("w4a16", 32), engine::vllm_gcu).violations == rules{"CT-engine"});
  CHECK(verify(compressed("fp8_dynamic"), engine::vllm_gcu).violations == rules{"CT-engine"});
  check_sound(compressed("fp8_dynamic"), engine::vllm_ascend);

  // int4 experts: 32 is assumed unless the configuration says otherwise.
  mini_checkpoint c = compressed("w4a16", 64, true, true);
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
    const std::string m = attn + name;
    const std::uint64_t n = c.tensors[m + ".weight_packed"].shape[0];
    std::erase_if(c.tensors, [&](const auto& t) { return t.first.starts_with(m + "."); });
    c.add(m + ".weight", dtype::bf16, {n, 64}, std::uint16_t{0});
    c.quantization()["ignore"].push_back(m);
  }
  CHECK(verify(c, engine::vllm_ascend).violations == rules{"CT-engine"});
  c.quantization()["group_size"] = 64;
  check_sound(c, engine::vllm_ascend);
}

TEST_CASE("GPTQ: each rule names what breaks it") {
  check_sound(gptq(), engine::vllm);
  check_sound(gptq(), engine::vllm_gcu);
  check_sound(gptq(false, 8), engine::vllm_gcu);
  const std::string down = mlp + "down_proj";
  check_each(
      gptq(),
      {
          {"no desc_act", "GPTQ-config", [](auto& c) { c.quantization().erase("desc_act"); }},
          {"a pattern that does not compile", "GPTQ-config",
           [](auto& c) {
             c.quantization()["dynamic"] = {{"-:(", json::object()}};
           }},
          {"a quantized layer that dynamic excludes", "GPTQ-config",
           [](auto& c) {
             c.quantization()["dynamic"] = {{"-:.*down_proj", json::object()}};
           }},
          {"no zeros", "GPTQ-missing", [&](auto& c) { c.tensors.erase(down + ".qzeros"); }},
          {"no codes", "GPTQ-missing", [&](auto& c) { c.tensors.erase(down + ".qweight"); }},
          {"scales of integers", "GPTQ-dtype", [&](auto& c) { c.tensors[down + ".scales"].type = dtype::i16; }},
          {"scales of another group size", "GPTQ-shape",
           [&](auto& c) {
             c.add(down + ".scales", dtype::f16, {2, 64}, std::uint16_t{0x2000});
           }},
          {"a scale of 0", "GPTQ-value", [&](auto& c) { c.set(down + ".scales", 9, std::uint16_t{0}); }},
          {"zeros that are not symmetric", "GPTQ-zeros", [&](auto& c) { c.set(down + ".qzeros", 2, 0x77787777); }},
          {"zeros of the second layout", "GPTQ-zeros", [](auto& c) { c.quantization()["checkpoint_format"] = "gptq_v2"; }},
          {"an order that was not asked for", "GPTQ-g_idx",
           [&](auto& c) {
             c.quantization()["group_size"] = 32;
             for (const auto& m : {attn + "q_proj", attn + "k_proj", attn + "v_proj", attn + "o_proj", mlp + "gate_proj", mlp + "up_proj", down}) {
               const std::uint64_t n = c.tensors[m + ".qweight"].shape[1];
               c.add(m + ".qzeros", dtype::i32, {2, n / 8}, 0x77777777);
               c.add(m + ".scales", dtype::f16, {2, n}, std::uint16_t{0x2000});
               for (std::size_t k = 32; k < 64; ++k) c.set(m + ".g_idx", k, m == down && k % 2 ? 0 : 1);
             }
           }},
          {"a group that does not exist", "GPTQ-g_idx", [&](auto& c) { c.set(down + ".g_idx", 1, 5); }},
          {"desc_act without an order", "GPTQ-g_idx",
           [&](auto& c) {
             c.quantization()["desc_act"] = true;
             c.tensors.erase(down + ".g_idx");
           }},
          {"float weights beside the codes", "GPTQ-unknown",
           [&](auto& c) {
             c.add(down + ".weight", dtype::f16, {64, 64}, std::uint16_t{0});
           }},
          {"a tensor of another format", "GPTQ-unknown", [&](auto& c) { c.add(down + ".weight_shape", dtype::i64, {2}, std::int64_t{64}); }},
          {"one shard left float", "GPTQ-fused",
           [](auto& c) {
             const std::string k = attn + "k_proj";
             std::erase_if(c.tensors, [&](const auto& t) { return t.first.starts_with(k + "."); });
             c.add(k + ".weight", dtype::f16, {32, 64}, std::uint16_t{0});
             c.quantization()["dynamic"] = {{"-:.*k_proj", json::object()}};
           }},
          {"groups of 32", "GCU-config",
           [](auto& c) {
             for (auto& [name, t] : c.tensors)
               if (name.ends_with(".qzeros") || name.ends_with(".scales")) {
                 t.shape[0] = 2;
                 t.bytes += t.bytes;
               } else if (name.ends_with(".g_idx")) {
                 for (std::size_t k = 32; k < 64; ++k) c.set(name, k, 1);
               }
             c.quantization()["group_size"] = 32;
           },
           engine::vllm_gcu},
      });
  mini_checkpoint order = gptq();
  order.quantization()["desc_act"] = true;
  order.quantization()["static_groups"] = false;
  CHECK(verify(order, engine::vllm_gcu).violations == rules{"GCU-config"});
  mini_checkpoint elsewhere = gptq();
  elsewhere.documents["quantize_config.json"] = elsewhere.quantization();
  elsewhere.documents["quantize_config.json"].erase("quant_method");
  elsewhere.config().erase("quantization_config");
  CHECK(verify(elsewhere).format == "gptq");
  check_sound(elsewhere);
}

TEST_CASE("AWQ: each rule names what breaks it") {
  check_sound(gptq(true), engine::vllm);
  check_sound(gptq(true), engine::vllm_gcu);
  const std::string down = mlp + "down_proj";
  check_each(gptq(true), {
                             {"no zero_point", "AWQ-config", [](auto& c) { c.quantization().erase("zero_point"); }},
                             {"codes packed along the inputs", "AWQ-shape",
                              [&](auto& c) {
                                c.tensors[down + ".qweight"].shape = {8, 64};
                              }},
                             {"a float layer that modules_to_not_convert does not name", "AWQ-ignore",
                              [&](auto& c) {
                                std::erase_if(c.tensors, [&](const auto& t) { return t.first.starts_with(down + "."); });
                                c.add(down + ".weight", dtype::f16, {64, 64}, std::uint16_t{0});
                              }},
                             {"a quantized layer that modules_to_not_convert names", "AWQ-ignore",
                              [](auto& c) { c.quantization()["modules_to_not_convert"] = {"down_proj"}; }},
                             {"GPTQ's order", "AWQ-unknown", [&](auto& c) { c.add(down + ".g_idx", dtype::i32, {64}, 0); }},
                         });
}

TEST_CASE("TopsCompressor's int8 format has a scale an output and one an input, or one for all") {
  mini_checkpoint c = tiny_model(dtype::f16);
  c.quantization() = {{"quant_method", "w8a8"}, {"group_size", -1}};
  c.add(mlp + "down_proj.weight", dtype::i8, {64, 64}, std::int8_t{1});
  c.add(mlp + "down_proj.out_scales", dtype::f32, {64}, 0.1f);
  c.add(mlp + "down_proj.in_scales", dtype::f16, {64}, std::uint16_t{0x3c00});
  check_sound(c, engine::vllm_gcu);
  check_each(c,
             {{"no out_scales", "GCU-missing", [](auto& m) { m.tensors.erase(mlp + "down_proj.out_scales"); }},
              {"in_scales of the outputs", "GCU-shape", [](auto& m) { m.add(mlp + "down_proj.in_scales", dtype::f16, {32}, std::uint16_t{0x3c00}); }},
              {"no group_size", "GCU-config", [](auto& m) { m.quantization().erase("group_size"); }}});
}

TEST_CASE("block-fp8 has a scale a block") {
  mini_checkpoint c = tiny_model();
  c.quantization() = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  c.add(mlp + "down_proj.weight", dtype::f8_e4m3, {64, 64}, std::uint8_t{0x38});
  c.add(mlp + "down_proj.weight_scale_inv", dtype::f32, {1, 1}, 0.1f);
  check_sound(c);
  check_each(c, {{"no scale", "FP8-missing", [](auto& m) { m.tensors.erase(mlp + "down_proj.weight_scale_inv"); }},
                 {"a scale a row", "FP8-shape", [](auto& m) {
                    m.add(mlp + "down_proj.weight_scale_inv", dtype::f32, {64, 1}, 0.1f);
                  }}});
}

TEST_CASE("the names of engines are theirs") {
  CHECK(qlib::engine_from_name("vllm-ascend") == engine::vllm_ascend);
  CHECK(qlib::engine_from_name("vllm_gcu") == engine::vllm_gcu);
  CHECK(qlib::name_of(engine::mindie) == "mindie");
  CHECK_FALSE(qlib::engine_from_name("vllm-npu"));
}
