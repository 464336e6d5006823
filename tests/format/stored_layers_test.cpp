#include "mini_checkpoint.hpp"

#include <qlib/format/stored_layers.hpp>

#include <array>
#include <cstdio>

using namespace qlib_test;
using qlib::dtype;
using shape = std::vector<std::uint64_t>;

namespace {

qlib::layer_group group_of(const mini_checkpoint& c, const std::string& pattern) {
  const temporary_folder folder;
  c.write(folder);
  qlib::weight_folder files;
  REQUIRE(qlib::weight_folder::open(folder.path(), files).empty());
  for (qlib::layer_group& g : qlib::layer_groups(qlib::stored_layers(files)))
    if (g.pattern == pattern) return g;
  FAIL("no layers " << pattern);
  return {};
}

#if defined(QLIB_PROGRAM)
struct run_of_program {
  std::string out;
  int code = 0;
};

run_of_program run(const std::string& arguments) {
  run_of_program r;
  std::FILE* pipe = ::popen((std::string{QLIB_PROGRAM} + " " + arguments + " 2>/dev/null").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::array<char, 4096> block;
  for (std::size_t n; (n = std::fread(block.data(), 1, block.size(), pipe)) != 0;) r.out.append(block.data(), n);
  r.code = ::pclose(pipe) / 256;
  return r;
}
#endif

const std::string down = "model.layers.*.mlp.down_proj";

}  // namespace

TEST_CASE("a layer has the shape of its weights, however they are packed") {
  for (const std::string format : {"ascend_v1", "compressed_tensors"})
    for (const auto& [type, group, bits] : {std::tuple{"w8a8_dynamic", 0, 8.0}, {"w8a16", 0, 8.0}, {"w4a16", 32, 4.0}, {"fp8_dynamic", 0, 8.0}}) {
      INFO(format, " ", type);
      const qlib::layer_group g = group_of(quantized(tiny_model(), type, format, static_cast<std::size_t>(group)), "model.layers.*.self_attn.k_proj");
      CHECK(g.shape == shape{32, 64});
      CHECK(g.count == 1);
      const double stored = 8.0 * static_cast<double>(g.bytes) / static_cast<double>(g.weights);
      CHECK(stored > bits);
      CHECK(stored < bits + 3);  // scales and offsets in F32 a row of 64, or two a row
    }
}

TEST_CASE("layers are called what their format calls them") {
  CHECK(group_of(quantized(tiny_model(), "w8a8_dynamic", "ascend_v1"), down).quant_type == "W8A8_DYNAMIC");
  CHECK(group_of(quantized(tiny_model(), "w4a16", "ascend_v1", 32), down).quant_type == "W4A16");
  CHECK(group_of(quantized(tiny_model(), "w8a8_dynamic", "compressed_tensors"), down).quant_type == "W8A8_DYNAMIC");
  CHECK(group_of(quantized(tiny_model(), "w4a16", "compressed_tensors", 32, false), down).quant_type == "W4A16 g32 asym");
  CHECK(group_of(quantized(tiny_model(), "fp8_dynamic", "compressed_tensors"), down).quant_type == "FP8_DYNAMIC");
  CHECK(group_of(tiny_model(), down).quant_type == "FLOAT");
  CHECK(group_of(tiny_model(), down).dtype == "BF16");
  mini_checkpoint gptq = tiny_model();
  gptq.tensors.erase("model.layers.0.mlp.down_proj.weight");
  gptq.add("model.layers.0.mlp.down_proj.qweight", dtype::i32, {8, 48}, 0);
  gptq.quantization() = {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 64}};
  CHECK(group_of(gptq, down).quant_type == "GPTQ W4A16 g64");
  CHECK(group_of(gptq, down).shape == shape{48, 64});
}

TEST_CASE("experts and layers of one kind are one group") {
  const qlib::layer_group g =
      group_of(quantized(tiny_model(dtype::bf16, true), "w8a8_dynamic", "compressed_tensors"), "model.layers.*.mlp.experts.*.up_proj");
  CHECK(g.count == 2);
  CHECK(g.weights == 2 * 64 * 64);
}

#if defined(QLIB_PROGRAM)
TEST_CASE("the program verifies with exit codes 0 and 2, and its JSON names file, tensor, rule and message") {
  const temporary_folder folder;
  mini_checkpoint c = quantized(tiny_model(), "w8a8_dynamic", "compressed_tensors");
  c.write(folder);
  run_of_program r = run("verify " + folder.path() + " --json --engine vllm");
  CHECK(r.code == 0);
  CHECK(json::parse(r.out) == json{{"format", "compressed_tensors"}, {"violations", json::array()}, {"warnings", json::array()}});
  c.tensors.erase("model.layers.0.mlp.down_proj.weight_scale");
  c.write(folder);
  r = run("verify " + folder.path() + " --json");
  CHECK(r.code == 2);
  const json found = json::parse(r.out)["violations"];
  REQUIRE(found.size() == 1);
  CHECK(found[0]["file"] == "config.json");
  CHECK(found[0]["tensor"] == "model.layers.0.mlp.down_proj.weight_scale");
  CHECK(found[0]["rule"] == "CT-missing");
  CHECK(run("verify " + folder.path()).out == "config.json: model.layers.0.mlp.down_proj.weight_scale: CT-missing: is not stored\n");
  CHECK(run("verify " + folder.path() + " --engine tgi").code == 2);
  CHECK(run("verify " + folder.path("absent")).code == 2);
}

TEST_CASE("the program describes float and quantized checkpoints in 80 columns") {
  for (const mini_checkpoint& c : {tiny_model(dtype::bf16, true), quantized(tiny_model(dtype::bf16, true), "w4a16", "compressed_tensors", 32)}) {
    const temporary_folder folder;
    c.write(folder);
    const run_of_program text = run("inspect " + folder.path());
    CHECK(text.code == 0);
    CHECK(text.out.find("model.layers.*.mlp.experts.*.down_proj") != std::string::npos);
    std::size_t begin = text.out.find('\n') + 1;  // the first line is the directory
    for (std::size_t end; (end = text.out.find('\n', begin)) != std::string::npos; begin = end + 1) CHECK(end - begin <= 80);
    const json j = json::parse(run("inspect --json " + folder.path()).out);
    CHECK(j["model_type"] == "qwen3_moe");
    CHECK(j["bytes"] == c.bytes());
    CHECK(j["tensors"] == c.tensors.size());
  }
}
#endif
