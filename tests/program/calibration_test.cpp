/// Types that need calibration, as a user runs them.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>

using namespace qlib_test;
using nlohmann::json;

namespace {

const std::string model = QLIB_SOURCE_DIR "/examples/tiny_llama", texts = model + "/calib.jsonl";

std::vector<std::string> quant(const std::string& out, const std::vector<std::string>& more) {
  std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", out, "--calib_samples", "3", "--calib_length", "32"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace

TEST_CASE("static W8A8 is the same for any number of threads, and says what it calibrated with") {
  temporary_folder folder;
  const std::string first = folder.path("1");
  const program_result r = run_program(quant(first, {"--quant_type", "w8a8", "--calib_file", texts, "--threads", "1", "--json"}));
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  const json j = json::parse(r.out);
  CHECK(j["calibration"]["samples"] == 3);
  CHECK(j["calibration"]["operands"].size() == 42);
  CHECK(j["layers"].size() == 42);
  for (const char* threads : {"2", "7"}) {
    const std::string out = folder.path(threads);
    REQUIRE(run_program(quant(out, {"--quant_type", "w8a8", "--calib_file", texts, "--threads", threads})).exit_code == 0);
    CHECK(weights_of(out) == weights_of(first));
  }
}

TEST_CASE("--reproducible gives the same bytes on every instruction set of this machine" * doctest::test_suite("long")) {
  temporary_folder folder;
  const std::string first = folder.path("best");
  REQUIRE(run_program(quant(first, {"--quant_type", "w8a8", "--calib_file", texts, "--reproducible"})).exit_code == 0);
  const std::string second = folder.path("scalar");
  REQUIRE(run_program(quant(second, {"--quant_type", "w8a8", "--calib_file", texts, "--reproducible", "--device", "cpu:scalar"})).exit_code == 0);
  CHECK(weights_of(second) == weights_of(first));
}

TEST_CASE("a layer that --disable_level keeps float is the one with the highest range score" * doctest::test_suite("long")) {
  temporary_folder folder;
  const std::string out = folder.path("out");
  const program_result all = run_program(quant(folder.path("all"), {"--quant_type", "w8a8", "--calib_file", texts, "--json"}));
  REQUIRE(all.exit_code == 0);
  std::string highest;
  double score = -1;
  const json j = json::parse(all.out);
  for (const json& o : j["calibration"]["operands"])
    if (o["range_score"] > score) {
      score = o["range_score"];
      highest = o["name"];
    }
  const program_result r = run_program(quant(out, {"--quant_type", "w8a8", "--calib_file", texts, "--disable_level", "L1", "--json"}));
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  const auto same = std::count_if(j["calibration"]["operands"].begin(), j["calibration"]["operands"].end(),
                                  [&](const json& o) { return o["range_score"] == score; });
  CHECK(json::parse(r.out)["layers"].size() == 42 - static_cast<std::size_t>(same));
  CHECK(json::parse(bytes_of(out + "/quant_model_description.json"))[highest + ".weight"] == "FLOAT");
}

TEST_CASE("mixed phases, the KV cache and attention have their tensors") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  REQUIRE(run_program(quant(out, {"--quant_type", "w8a8_mix", "--use_kvcache_quant", "--calib_file", texts})).exit_code == 0);
  const json d = json::parse(bytes_of(out + "/quant_model_description.json"));
  CHECK(d["model_quant_type"] == "W8A8_MIX");
  CHECK(d["kv_cache_type"] == "C8");
  CHECK(d["model.layers.0.self_attn.k_proj.kv_cache_scale"] == "C8");
  CHECK(d["model.layers.5.self_attn.v_proj.kv_cache_offset"] == "C8");
  CHECK(d["model.layers.0.mlp.up_proj.weight_scale"] == "W8A8_MIX");
  const program_result checked = run_program({"verify", out});
  CHECK_MESSAGE(checked.exit_code == 0, checked.out);
}

TEST_CASE("a run that is killed after calibration resumes to the same bytes") {
  temporary_folder folder;
  const std::string whole = folder.path("whole"), killed = folder.path("killed");
  const auto arguments = [&](const std::string& out, std::vector<std::string> more) {
    more.insert(more.end(), {"--quant_type", "w8a8", "--calib_file", texts});
    return quant(out, more);
  };
  REQUIRE(run_program(arguments(whole, {})).exit_code == 0);
  {
    running_program run{arguments(killed, {})};
    while (!run.has_ended() && !std::filesystem::exists(killed + ".qlib-partial/.qlib-journal")) ::usleep(200);
    run.kill();
    (void)run.wait();
  }
  REQUIRE(run_program(arguments(killed, {"--resume"})).exit_code == 0);
  CHECK(weights_of(killed) == weights_of(whole));
}

TEST_CASE("calibration data that are missing or wrong are errors before anything is written") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  check_invalid({"quant", "--model_path", QLIB_SOURCE_DIR "/tests/golden/calibration/qwen3", "--save_path", out, "--quant_type", "w8a8"}, out,
                "--quant_type w8a8: needs calibration data: give --calib_file FILE.jsonl or --calib_ids");
  const auto with = [&](const std::string& file) { return quant(out, {"--quant_type", "w8a8", "--calib_file", file}); };
  check_invalid(with(folder.path("none.jsonl")), out, "none.jsonl");
  check_invalid(with(folder.write("bad.jsonl", "{\"text\": \"a\"}\n{\"text\": \n")), out, "bad.jsonl: line 2");
  check_invalid(with(folder.write("key.jsonl", "{\"txt\": \"a\"}\n")), out, "key.jsonl: line 1");
  check_invalid(with(folder.write("empty.jsonl", "")), out, "empty.jsonl");
  check_invalid(with(folder.write("ids.jsonl", "{\"ids\": [1, 4096]}\n")), out, "4096");
  check_invalid(quant(out, {"--quant_type", "w8a8", "--calib_file", texts, "--max_memory", "1MB"}), out, "give at least");
  check_invalid(quant(out, {"--quant_type", "w8a8", "--calib_file", texts, "--disable_level", "6"}), out, "is no level");
  check_invalid(quant(out, {"--quant_type", "w8a8_dynamic", "--disable_level", "L2"}), out, "this recipe observes none");
}

TEST_CASE("records longer than the model allows are refused, unless --calib_length says how much to keep") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  const std::string limit = std::to_string(json::parse(bytes_of(model + "/config.json"))["max_position_embeddings"].get<int>());
  std::string words;
  for (int i = 0; i < 4000; ++i) words += "word ";
  const std::string file = folder.write("long.jsonl", "{\"text\": \"short\"}\n{\"text\": \"" + words + "\"}\n");
  const std::vector<std::string> whole{"quant", "--quiet", "--model_path", model, "--save_path", out, "--quant_type", "w8a8", "--calib_file", file};
  check_invalid(whole, out, "long.jsonl: line 2: ");
  check_invalid(whole, out, "tokens, and the model allows " + limit + ": use --calib_length " + limit + ", which truncates");
  std::vector<std::string> cut = whole;
  cut.insert(cut.end(), {"--calib_length", "16"});
  const program_result r = run_program(cut);
  CHECK_MESSAGE(r.exit_code == 0, r.err);
}

TEST_CASE("memoryless_minmax of static inputs is the last sample's range with --compat llmcompressor, all samples' without, which a warning says") {
  temporary_folder folder;
  const auto recipe = [&](const std::string& observer) {
    return folder.write(observer + ".yaml",
                        "quant_stage:\n  quant_modifiers:\n    QuantizationModifier:\n      ignore: [lm_head]\n      config_groups:\n        g:\n"
                        "          targets: [Linear]\n          weights: {num_bits: 8, type: int, symmetric: true, strategy: channel}\n"
                        "          input_activations: {num_bits: 8, type: int, symmetric: true, strategy: tensor, dynamic: false, observer: " +
                            observer + "}\n");
  };
  const std::string memoryless = recipe("memoryless_minmax"), running = recipe("static_minmax");
  const std::string line = "{\"text\": \"Once upon a time there was a little girl\"}\n";
  const std::string both = folder.write("both.jsonl", "{\"text\": \"x = 1; y = 2; print(x + y)\"}\n" + line), last = folder.write("last.jsonl", line);
  const auto scales = [&](const std::string& name, const std::string& recipe_file, const std::string& data, const std::string& follow, bool warns) {
    const std::string out = folder.path(name);
    const program_result r = run_program({"quant", "--model_path", model, "--save_path", out, "--config_path", recipe_file, "--format",
                                          "compressed_tensors", "--calib_file", data, "--compat", follow, "--reproducible"});
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    CHECK_MESSAGE((r.err.find("observer memoryless_minmax: static ranges are those of all samples") != std::string::npos) == warns, r.err);
    return bytes_of(out + "/model.safetensors");
  };
  const auto of_both = scales("1", memoryless, both, "llmcompressor", false);
  CHECK(of_both == scales("2", memoryless, last, "llmcompressor", false));
  CHECK(of_both == scales("3", running, last, "llmcompressor", false));
  const auto all = scales("4", memoryless, both, "none", true);
  CHECK(all == scales("5", running, both, "none", false));
  CHECK(all != scales("6", running, last, "none", false));
}

TEST_CASE("activations that overflow name layer, sample, token and channel") {
  temporary_folder folder;
  const std::string huge = folder.path("huge"), out = folder.path("out");
  std::filesystem::create_directory(huge);
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"}) std::filesystem::copy(model + "/" + name, huge + "/" + name);
  std::string bytes = bytes_of(model + "/model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  const json tensors = json::parse(bytes.substr(8, header));
  for (const char* name : {"model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight"}) {
    const std::uint64_t begin = tensors[name]["data_offsets"][0], end = tensors[name]["data_offsets"][1];
    for (std::uint64_t i = begin; i < end; i += 2) {  // bf16 1e30: products of two of them are beyond f32
      const std::uint16_t large = 0x714a;
      std::memcpy(bytes.data() + 8 + header + i, &large, 2);
    }
  }
  std::ofstream{huge + "/model.safetensors", std::ios::binary} << bytes;
  const program_result r = run_program({"quant", "--model_path", huge, "--save_path", out, "--quant_type", "w8a8", "--calib_file", texts,
                                        "--calib_samples", "1", "--calib_length", "8", "--quiet"});
  CHECK(r.exit_code == 2);
  CHECK_MESSAGE(r.err.find("model.layers.0.mlp.down_proj: its input becomes") != std::string::npos, r.err);
  CHECK(r.err.find("infinite at sample 0, token 1, channel 0") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("static types leave routed experts dynamic, because vLLM-Ascend loads no other int8 experts, unless targets are named") {
  temporary_folder folder;
  const std::string moe = QLIB_SOURCE_DIR "/tests/golden/families/qwen3_moe";
  const auto types = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> words{"quant", "--model_path", moe, "--save_path", folder.path(name), "--calib_ids", moe + "/golden.safetensors"};
    words.insert(words.end(), more.begin(), more.end());
    const program_result r = run_program(words);
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    CHECK((r.err.find("routed experts become W8A8_DYNAMIC") != std::string::npos) == !std::count(more.begin(), more.end(), "--targets"));
    const json d = json::parse(folder.read(name + "/quant_model_description.json"));
    return std::pair{d["model.layers.0.mlp.experts.0.up_proj.weight"].get<std::string>(),
                     d["model.layers.0.self_attn.q_proj.weight"].get<std::string>()};
  };
  CHECK(types("plain", {"--quant_type", "w8a8"}) == std::pair<std::string, std::string>{"W8A8_DYNAMIC", "W8A8"});
  CHECK(types("mix", {"--quant_type", "w8a8_mix"}) == std::pair<std::string, std::string>{"W8A8_DYNAMIC", "W8A8_MIX"});
  CHECK(types("named", {"--quant_type", "w8a8", "--targets", "Linear"}) == std::pair<std::string, std::string>{"W8A8", "W8A8"});
  const program_result verified = run_program({"verify", folder.path("plain"), "--engine", "vllm-ascend"});
  CHECK_MESSAGE(verified.exit_code == 0, verified.out);
}
