/// What a user has is never replaced by what the program writes, and what he asked for is never left out without a word.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <cstring>

using namespace qlib_test;
using nlohmann::json;

namespace {

const std::string tiny = QLIB_SOURCE_DIR "/examples/tiny_llama";

/// A copy that may be spoiled.
struct own_model {
  temporary_folder folder;
  std::string path = folder.path("parent/model");

  own_model() {
    std::filesystem::create_directories(path);
    for (const char* name : {"config.json", "model.safetensors", "tokenizer.json", "eval_ids.safetensors", "calib.jsonl"})
      std::filesystem::copy_file(tiny + "/" + name, path + "/" + name);
  }
  std::vector<std::string> quant(const std::string& out, const std::vector<std::string>& more) const {
    std::vector<std::string> words{"quant", "--quiet", "--model_path", path, "--save_path", out};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  /// config.json with `key`'s value replaced.
  void configure(const char* key, const json& value) const {
    json config = json::parse(folder.read("parent/model/config.json"));
    config[key] = value;
    folder.write("parent/model/config.json", config.dump());
  }
};

}  // namespace

TEST_CASE("--overwrite never replaces the model, by whatever name it is called") {
  const own_model m;
  std::filesystem::create_symlink(m.path, m.folder.path("link"));
  for (const std::string& out : {m.path, m.path + "/", m.folder.path("parent"), m.path + "/../model"})
    check_refused(m.folder.path(), m.quant(out, {"--quant_type", "w8a16", "--overwrite"}), {{"holds the model that is quantized"}});
  check_refused(m.folder.path(), m.quant(m.folder.path("link"), {"--quant_type", "w8a16", "--overwrite"}),
                {{"is a symbolic link"}, {"holds the model that is quantized"}});
  check_refused(m.folder.path(), {"plan", "--model_path", m.path, "--save_path", m.path, "--quant_type", "w8a16", "--overwrite"},
                {{"holds the model that is quantized"}});
}

TEST_CASE("a result is never put into the folder of the model") {
  const own_model m;
  for (const std::string& out : {m.path + "/out", m.path + "/a/b", m.path + "/../model/out/"}) {
    check_refused(m.folder.path(), m.quant(out, {"--quant_type", "w8a16"}), {{out, "lies in the folder of the model"}});
    check_refused(m.folder.path(), m.quant(out, {"--quant_type", "w8a16", "--overwrite"}), {{out, "lies in the folder of the model"}});
  }
  CHECK(run_program(m.quant(m.path + "-w8a16", {"--quant_type", "w8a16"})).exit_code == 0);  // beside it, with its name in front
}

TEST_CASE("a report that cannot be written is refused before the work, and a float model takes none") {
  const own_model m;
  const std::string out = m.folder.path("out");
  std::filesystem::create_directories(m.folder.path("there/report.html"));
  std::filesystem::create_directory(m.folder.path("folder.json"));
  const auto refused = [&](const std::string& report, const std::vector<std::string>& parts) {
    check_refused(m.folder.path(), m.quant(out, {"--quant_type", "w8a16", "--report", report}), {parts});
  };
  refused(m.folder.path("there"), {"there/report.html", "is a directory"});
  refused(m.folder.path("folder.json"), {"folder.json", "is a directory"});
  refused(m.path + "/config.json/report", {"config.json", "is not a directory"});
  refused(m.path + "/config.json/report.json", {"config.json", "is not a directory"});
  refused("/proc/report", {"/proc", "is not writable"});
  refused("/proc/report.json", {"/proc", "is not writable"});
  check_refused(m.folder.path(), {"report", m.path}, {{m.path, "is a float checkpoint", "--save_path"}});
  CHECK(run_program({"report", m.path, "--save_path", m.folder.path("float-report"), "--quiet"}).exit_code == 0);
}

TEST_CASE("a full disk is told as it is: eval has nothing to resume") {
  const own_model m;
  const program_result r = run_program({"eval", "--quiet", "--model_path", m.path, "--ids", m.path + "/eval_ids.safetensors", "--samples", "1",
                                        "--length", "16", "--logits", m.folder.path("logits.safetensors")},
                                       64 << 10);
  CHECK(r.exit_code == 1);
  REQUIRE(r.error_lines().size() == 1);
  CHECK_MESSAGE(r.err.find(": free space\n") != std::string::npos, r.err);
  CHECK(r.err.find("--resume") == std::string::npos);
  CHECK_FALSE(std::filesystem::exists(m.folder.path("logits.safetensors.part")));
}

TEST_CASE("a save_path that nothing can be renamed to is refused before the work") {
  const own_model m;
  std::filesystem::create_directory(m.folder.path("empty"));
  std::filesystem::create_symlink(m.folder.path("empty"), m.folder.path("link"));
  std::filesystem::create_symlink(m.folder.path("nowhere"), m.folder.path("dangling"));
  for (const char* name : {"link", "link/", "dangling"})
    check_refused(m.folder.path(), m.quant(m.folder.path(name), {"--quant_type", "w8a16"}), {{"is a symbolic link"}});
  check_refused(m.folder.path(), m.quant("", {"--quant_type", "w8a16"}), {{"--save_path", "is empty"}});
}

TEST_CASE("--logits replaces neither samples nor a file of a checkpoint") {
  const own_model m;
  const std::string ids = m.path + "/eval_ids.safetensors";
  for (const std::string& logits : {m.path + "/model.safetensors", ids})
    check_refused(m.folder.path(), {"eval", "--model_path", m.path, "--ids", ids, "--samples", "1", "--length", "8", "--logits", logits},
                  {{logits, "would replace"}});
  const std::string fresh = m.path + "/logits.safetensors";
  check_refused(m.folder.path(), {"eval", "--model_path", m.path, "--ids", ids, "--samples", "1", "--length", "8", "--logits", fresh},
                {{fresh, "in the folder of a checkpoint, whose loaders would read them as weights"}});
}

TEST_CASE("names that no layer has are named, and a flag beside a recipe is refused") {
  const own_model m;
  const std::string out = m.folder.path("out");
  const program_result r = run_program({"quant", "--model_path", m.path, "--save_path", out, "--quant_type", "w8a16", "--disable_names",
                                        "model.layers.0.mlp.down_proj,model.layers.0.mlp.upproj", "--dry_run"});
  CHECK(r.exit_code == 0);
  CHECK(r.err.find("\"model.layers.0.mlp.upproj\" is to be left alone, but no layer has this name") != std::string::npos);
  CHECK(r.err.find("\"model.layers.0.mlp.down_proj\"") == std::string::npos);
  CHECK(r.err.find("\"lm_head\"") == std::string::npos);
  const program_result glob = run_program({"plan", "--quiet", "--json", "--model_path", m.path, "--quant_type", "w8a16", "--disable_names",
                                           "*.mlp.down_proj,*.mlp.{up,down}proj,model.layers.[0-3].nothing"});
  CHECK(glob.exit_code == 0);
  CHECK(json::parse(glob.out)["warnings"] == json{"--disable_names: \"*.mlp.{up,down}proj\" is to be left alone, but no layer has this name",
                                                  "--disable_names: \"model.layers.[0-3].nothing\" is to be left alone, but no layer has this name"});
  const program_result regex = run_program({"plan", "--quiet", "--json", "--model_path", m.path, "--quant_type", "w8a16", "--ignore",
                                            R"(re:.*\.[0,1]{1,2}\.mlp\.(gate|up|down,?)_proj,re:.*[(,]nothing)"});
  CHECK_MESSAGE(regex.exit_code == 0, regex.err);
  CHECK(json::parse(regex.out)["warnings"].size() == 1);  // of the second alone
  const std::string recipe = m.folder.write("recipe.yaml", "QuantizationModifier: {targets: [Linear], scheme: W8A16}\n");
  for (const std::vector<std::string>& flag : std::vector<std::vector<std::string>>{{"--anti_method", "m3"},
                                                                                    {"--act_method", "1"},
                                                                                    {"--is_dynamic"},
                                                                                    {"--pdmix"},
                                                                                    {"--use_kvcache_quant"},
                                                                                    {"--w_sym", "False"},
                                                                                    {"--observer", "minmax"},
                                                                                    {"--rounder", "rtn"},
                                                                                    {"--ignore", "lm_head"}}) {
    std::vector<std::string> words = m.quant(out, {"--config_path", recipe});
    words.insert(words.end(), flag.begin(), flag.end());
    check_refused(m.folder.path(), words, {{"--config_path", "contradicts " + flag.front()}});
  }
}

TEST_CASE("of two stages that match the same layers a warning says which one wins") {
  const own_model m;
  const auto warnings = [&](const std::string& recipe) {
    const program_result r =
        run_program({"plan", "--quiet", "--json", "--model_path", m.path, "--config_path", m.folder.write("recipe.yaml", recipe)});
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    std::string all;
    const json plan = json::parse(r.out);
    for (const json& w : plan["warnings"]) all += w.get<std::string>() + "\n";
    return all;
  };
  const auto processor = [](const std::string& dtype, const std::string& more) {
    return "    - type: linear_quant\n      qconfig:\n        weight: {dtype: " + dtype + ", scope: per_channel, symmetric: True, method: minmax}\n" +
           more;
  };
  const std::string modelslim = "apiversion: modelslim_v1\nspec:\n  process:\n";
  const std::string twice = warnings(modelslim + processor("int8", "") + processor("int4", ""));
  CHECK_MESSAGE(twice.find("recipe.yaml:7: process[1] linear_quant has no effect on model.layers.0.mlp.down_proj and 41 more layers: process[0] "
                           "linear_quant of " +
                           m.folder.path("recipe.yaml") + ":4 matches them too, comes first and wins\n") != std::string::npos,
                twice);
  const std::string apart =
      warnings(modelslim + processor("int8", "      exclude: ['*.mlp.*']\n") + processor("int4", "      include: ['*.mlp.*']\n"));
  CHECK_MESSAGE(apart.find("has no effect") == std::string::npos, apart);
  const std::string modifiers = warnings(
      "a_stage:\n  a_modifiers:\n    QuantizationModifier: {targets: [Linear], scheme: W8A16, ignore: [lm_head]}\n"
      "b_stage:\n  b_modifiers:\n    QuantizationModifier: {targets: [Linear], scheme: W4A16, ignore: ['re:.*mlp.*']}\n");
  CHECK_MESSAGE(
      modifiers.find("recipe.yaml:6: group_0 has no effect on model.layers.0.self_attn.k_proj and 23 more layers: group_0 of") != std::string::npos,
      modifiers);
  const std::string precise = warnings(  // a name written out goes before a class, by compressed-tensors' own rule
      "QuantizationModifier:\n  config_groups:\n    all: {targets: [Linear], weights: {num_bits: 8, strategy: channel}}\n"
      "    one: {targets: ['re:.*down_proj'], weights: {num_bits: 4, strategy: group, group_size: 32}}\n  ignore: [lm_head]\n");
  CHECK_MESSAGE(precise.find("has no effect") == std::string::npos, precise);
}

TEST_CASE("flags that contradict a type, a format, the machine or each other are refused") {
  const own_model m;
  const std::string out = m.folder.path("out");
  const auto refused = [&](const std::vector<std::string>& flags, const std::string& part) {
    CAPTURE(flags.back());
    const auto before = tree_of(m.folder.path());
    const program_result r = run_program(m.quant(out, flags));
    CHECK(r.exit_code == 2);
    CHECK_MESSAGE(r.err.find(part) != std::string::npos, r.err);
    CHECK(difference(before, tree_of(m.folder.path())) == "");
  };
  refused({"--quant_type", "w8a8_mix", "--format", "compressed_tensors", "--calib_file", m.path + "/calib.jsonl"}, "has no W8A8_MIX");
  refused({"--quant_type", "w8a8_dynamic", "--threads", "-1"}, "--threads");
  refused({"--quant_type", "w4a16", "--group_size", "-1"}, "-1 is below zero");
  refused({"--quant_type", "w8a8_dynamic", "--max_memory", "1"}, "give at least");
  refused({"--quant_type", "w8a8_dynamic", "--resume", "--overwrite"}, "excludes");
  refused({"--quant_type", "w8a16", "--open_outlier", "True"}, "is not built");
  refused({"--quant_type", "w8a8_dynamic", "--anti_method", "m4", "--calib_file", m.folder.path("none")}, "none");
}

TEST_CASE("msModelSlim's flags that change nothing are taken") {
  const own_model m;
  const std::string plain = m.folder.path("plain"), flagged = m.folder.path("flagged");
  REQUIRE(run_program(m.quant(plain, {"--quant_type", "w4a16", "--group_size", "64"})).exit_code == 0);
  REQUIRE(run_program(m.quant(flagged, {"--w_bit", "4", "--a_bit", "16", "--is_lowbit", "True", "--open_outlier", "False", "--group_size", "64",
                                        "--w_sym", "True", "--do_smooth", "False", "--fraction", "0.01", "--w_method", "MinMax"}))
              .exit_code == 0);
  CHECK(weights_of(flagged) == weights_of(plain));
}

TEST_CASE("a config.json that no model has is refused at once") {
  const own_model m;
  const std::string out = m.folder.path("out");
  m.configure("num_key_value_heads", 0);
  check_refused(m.folder.path(), m.quant(out, {"--quant_type", "w8a8"}), {{"num_key_value_heads", "above zero"}});
  m.configure("num_key_value_heads", 2);
  m.configure("num_hidden_layers", 1000000000);
  check_refused(m.folder.path(), m.quant(out, {"--quant_type", "w8a8"}), {{"num_hidden_layers", "1000000000"}});
}

TEST_CASE("layers that the forward pass does not have stay float in static types, and are named before the work") {
  const own_model m;
  m.configure("num_hidden_layers", 5);  // of 6, as multi-token prediction stands behind the decoder
  const program_result r = run_program({"quant", "--model_path", m.path, "--save_path", m.folder.path("out"), "--quant_type", "w8a8", "--calib_file",
                                        m.path + "/calib.jsonl", "--calib_samples", "2", "--calib_length", "16"});
  CHECK_MESSAGE(r.exit_code == 0, r.err);
  CHECK(r.err.find("model.layers.5.mlp.down_proj and 6 more: the 5 layers of config.json do not have it") != std::string::npos);
  const json d = json::parse(m.folder.read("out/quant_model_description.json"));
  CHECK(d["model.layers.5.mlp.down_proj.weight"] == "FLOAT");
  CHECK(d["model.layers.4.mlp.down_proj.weight"] == "W8A8");
}

TEST_CASE("texts and ids longer than the model allows are refused; of texts a token or two too long the end is cut, and a warning counts them") {
  const own_model m;
  const program_result r = run_program({"quant", "--model_path", m.path, "--save_path", m.folder.path("out"), "--quant_type", "w8a8", "--calib_file",
                                        m.path + "/calib.jsonl"});  // 8 of its windows of 256 tokens are 257 or 258 with a beginning of text
  CHECK_MESSAGE(r.exit_code == 0, r.err);
  CHECK(r.err.find("8 of 48 records") != std::string::npos);
  CHECK(r.err.find("a few tokens longer than the 256 that the model allows, and were cut") != std::string::npos);
  std::string words;
  for (int i = 0; i < 600; ++i) words += "word ";
  const std::string texts = m.folder.write("long.jsonl", "{\"text\": \"a\"}\n{\"text\": \"" + words + "\"}\n");
  check_refused(m.folder.path(), m.quant(m.folder.path("other"), {"--quant_type", "w8a8", "--calib_file", texts}),
                {{"long.jsonl: line 2: ", " tokens, and the model allows 256: use --calib_length 256, which truncates"}});
  const tensor_bytes long_ids{"ids", "I32", {1, 257}, std::string(257 * 4, '\0')};
  m.folder.write("ids.safetensors", safetensors_bytes({long_ids}));
  check_refused(m.folder.path(), m.quant(m.folder.path("other"), {"--quant_type", "w8a8", "--calib_ids", m.folder.path("ids.safetensors")}),
                {{"257 tokens, and the model allows 256"}});
}

TEST_CASE("a quantized checkpoint without its description is a violation, and a result that cannot be printed a failure") {
  const own_model m;
  const std::string out = m.folder.path("out");
  REQUIRE(run_program(m.quant(out, {"--quant_type", "w8a8_dynamic"})).exit_code == 0);
  std::filesystem::remove(out + "/quant_model_description.json");
  const program_result r = run_program({"verify", out, "--engine", "vllm-ascend"});
  CHECK(r.exit_code == 2);
  CHECK(r.out.find("FILE-description") != std::string::npos);
  const std::string command = std::string{QLIB_PROGRAM} + " plan --quiet --json --model_path " + m.path + " --quant_type w8a16 >/dev/full 2>&1";
  CHECK(WEXITSTATUS(std::system(command.c_str())) == 1);
}

TEST_CASE("--json is one document, also of a dry run, of errors and of tokens") {
  const own_model m;
  const std::string out = m.folder.path("out");
  const program_result dry = run_program(m.quant(out, {"--quant_type", "w8a16", "--dry_run", "--json"}));
  CHECK(dry.exit_code == 0);
  CHECK(json::parse(dry.out)["tensors"]["quantized"] == 42);
  const program_result wrong = run_program(m.quant(out, {"--quant_type", "w9a9", "--json"}));
  CHECK(wrong.exit_code == 2);
  CHECK(json::parse(wrong.out)["errors"].size() == 1);
  const std::string texts = m.folder.write("two.jsonl", "{\"text\": \"one\"}\n{\"text\": \"and two\"}\n");
  const program_result tokens = run_program({"tokenize", "--json", "--model_path", m.path, "--file", texts});
  CHECK(json::parse(tokens.out).size() == 2);
}

TEST_CASE("what a format refuses of every layer is one line, which names what it takes") {
  const own_model m;
  const std::string out = m.folder.path("out");
  check_refused(m.folder.path(), m.quant(out, {"--quant_type", "fp8"}), {{"model.layers.0.mlp.down_proj.weight and 41 more", "use fp8_dynamic"}});
  check_refused(m.folder.path(), m.quant(out, {"--quant_type", "w8a8_mix", "--format", "compressed_tensors"}),
                {{"model.layers.0.mlp.down_proj.weight and 41 more", "use w8a8 or w8a8_dynamic"}});
}

TEST_CASE("eval of a model with a weight that is not finite names the weight") {
  const own_model m;
  std::string bytes = m.folder.read("parent/model/model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const json tensor = json::parse(bytes.substr(8, length))["model.layers.5.mlp.down_proj.weight"];
  REQUIRE(tensor["dtype"] == "BF16");
  const std::size_t columns = tensor["shape"][1], at = 8 + length + tensor["data_offsets"][0].get<std::size_t>() + (7 * columns + 9) * 2;
  std::memcpy(bytes.data() + at, &bf16_minus_infinity, 2);
  m.folder.write("parent/model/model.safetensors", bytes);
  const std::vector<std::string> words{"eval",     "--quiet", "--ids",       m.path + "/eval_ids.safetensors", "--samples", "1",
                                       "--length", "8",       "--model_path"};
  auto damaged = words, reference = words;
  damaged.push_back(m.path);
  reference.insert(reference.end(), {tiny, "--reference", m.path});
  for (const auto& all : {damaged, reference})
    check_refused(m.folder.path(), all, {{m.path, "model.layers.5.mlp.down_proj.weight[7, 9]: -infinity", "a weight must be finite"}});
}
