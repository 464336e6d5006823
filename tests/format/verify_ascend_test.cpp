/// For every rule of AscendV1 one checkpoint that breaks it, and only it.
#include "broken_checkpoints.hpp"

#include <filesystem>

using namespace qlib_test;

namespace {

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

}  // namespace

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

TEST_CASE("AscendV1: a rotation beside the weights is one orthogonal matrix of the hidden size") {
  const auto rules_of = [](const std::string& name, dtype type, std::uint64_t rows, float second) {
    mini_checkpoint c = ascend();
    c.config()["hidden_size"] = 64;
    c.description()["optional"] = {{"quarot", {{"rotation_map", {{"global_rotation", "optional/quarot.safetensors"}}}}}};
    mini_checkpoint rotation;
    rotation.add(name, type, {rows, 64}, 0.0f);
    for (std::size_t i = 0; i < rows; ++i) rotation.set(name, i * 65, 1.0f);
    rotation.set(name, 1, second);
    const temporary_folder folder;
    std::filesystem::create_directory(folder.path("optional"));
    c.write(folder);
    folder.write("optional/quarot.safetensors", mini_checkpoint::file_text(rotation.tensors));
    return verify_folder(folder).violations;
  };
  CHECK(rules_of("global_rotation", dtype::f32, 64, 0) == rules{});
  CHECK(rules_of("rotation", dtype::f32, 64, 0) == rules{"AV1-missing"});
  CHECK(rules_of("global_rotation", dtype::i32, 64, 0) == rules{"AV1-dtype"});
  CHECK(rules_of("global_rotation", dtype::f32, 32, 0) == rules{"AV1-shape"});
  CHECK(rules_of("global_rotation", dtype::f32, 64, 0.5f) == rules{"AV1-value"});
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
