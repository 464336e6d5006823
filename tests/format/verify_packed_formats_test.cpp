/// For every rule of GPTQ, AWQ, TopsCompressor and block-fp8 one checkpoint that breaks it, and only it.
#include "broken_checkpoints.hpp"

using namespace qlib_test;

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
