/// Checkpoints that break one rule each, and what verify says of them.
#pragma once
#include "mini_checkpoint.hpp"

#include <qlib/format/verify.hpp>

#include <functional>
#include <optional>
#include <set>

namespace qlib_test {

using qlib::dtype;
using qlib::engine;
using rules = std::set<std::string>;

struct outcome {
  std::string format, text;
  rules violations, warnings;
};

inline outcome verify_folder(const temporary_folder& folder, std::optional<engine> target = {}) {
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

inline outcome verify(const mini_checkpoint& c, std::optional<engine> target = {}) {
  const temporary_folder folder;
  c.write(folder);
  return verify_folder(folder, target);
}

inline void check_sound(const mini_checkpoint& c, std::optional<engine> target = {}) {
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

inline void check_each(const mini_checkpoint& sound, const std::vector<broken>& cases) {
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

inline const std::string attn = "model.layers.0.self_attn.", mlp = "model.layers.0.mlp.", expert0 = "model.layers.0.mlp.experts.0.";

/// AscendV1 of our own making; `description` and index follow what `build` does to the tensors.

inline mini_checkpoint ascend(const change& build = {}, dtype run = dtype::bf16, bool experts = false) {
  mini_checkpoint c = quantized(tiny_model(run, experts), "w8a8_dynamic", "ascend_v1");
  if (build) build(c);
  c.refresh_index("quant_model_weights.safetensors.index.json");
  return c;
}

inline mini_checkpoint compressed(const std::string& type = "w8a8_dynamic", std::size_t group = 0, bool symmetric = true, bool experts = false) {
  return quantized(tiny_model(dtype::bf16, experts), type, "compressed_tensors", group, symmetric);
}

inline json& group0(mini_checkpoint& c) { return c.quantization()["config_groups"]["group_0"]; }

/// GPTQ, or AWQ, of every linear: 4 bit, groups of 64, symmetric.

inline mini_checkpoint gptq(bool awq = false, int bits = 4) {
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

}  // namespace qlib_test
