/// For every rule of compressed-tensors one checkpoint that breaks it, and only it.
#include "broken_checkpoints.hpp"

using namespace qlib_test;

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
