/// Flags, exit codes and what goes where: the contract that scripts rely on.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <set>

using namespace qlib_test;
using nlohmann::json;

namespace {

struct small_run {
  temporary_folder folder;
  std::string model = write_model(folder, "model", llama_tensors()), out = folder.path("out");

  /// Runs `qlib quant` with these flags and gives what it wrote, which is then removed.
  std::map<std::string, std::string> written(const std::vector<std::string>& flags) const {
    const program_result result = run(flags);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    auto tree = tree_of(out);
    std::filesystem::remove_all(out);
    return tree;
  }
  program_result run(const std::vector<std::string>& flags) const {
    std::vector<std::string> words{"quant", "--model_path", model, "--save_path", out};
    words.insert(words.end(), flags.begin(), flags.end());
    return run_program(words);
  }
};

/// Name -> dtype, shape and bytes of all tensors below `folder`, from the headers.
std::map<std::string, json> headers_of(const std::string& folder) {
  std::map<std::string, json> all;
  for (const auto& [name, content] : tree_of(folder)) {
    if (name.size() < 12 || name.substr(name.size() - 12) != ".safetensors") continue;
    std::uint64_t length = 0;
    std::memcpy(&length, content.data(), 8);
    const json header = json::parse(content.substr(8, length));
    for (const auto& [tensor, entry] : header.items()) {
      if (tensor == "__metadata__") continue;
      const auto begin = entry["data_offsets"][0].get<std::uint64_t>(), end = entry["data_offsets"][1].get<std::uint64_t>();
      all[tensor] = {{"dtype", entry["dtype"]}, {"shape", entry["shape"]}, {"bytes", end - begin}};
    }
  }
  return all;
}

}  // namespace

TEST_CASE("--version and --help go to stdout and succeed") {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--version"}, {"--help"}, {"quant", "--help"}, {"plan", "--help"}, {"inspect", "--help"}, {"devices", "--help"}}) {
    CAPTURE(words.front());
    const program_result result = run_program(words);
    CHECK(result.exit_code == 0);
    CHECK(result.err == "");
    CHECK(result.out.size() > 5);
  }
  CHECK(run_program({"--version"}).out.rfind("qlib ", 0) == 0);
  const std::string help = run_program({"quant", "--help"}).out;
  for (const char* flag : {"--model_path", "--save_path",        "--save_directory", "--quant_type", "--config_path", "--format",
                           "--device",     "--device_type",      "--compat",         "--w_bit",      "--a_bit",       "--w_sym",
                           "--group_size", "--is_dynamic",       "--disable_names",  "--targets",    "--ignore",      "--threads",
                           "--resume",     "--overwrite",        "--dry_run",        "--report",     "--json",        "--quiet",
                           "--log_level",  "--trust_remote_code"})
    CHECK_MESSAGE(help.find(flag) != std::string::npos, flag << " is not in the help");
}

TEST_CASE("dashes and underscores in a flag's name are the same, and so are aliases and upper-case types") {
  const small_run run;
  const auto expected = run.written({"--quant_type", "w8a8_dynamic"});
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--model-path", run.model, "--save-path", run.out, "--quant-type", "w8a8_dynamic"},
        {"--model_path=" + run.model, "--save-path=" + run.out, "--quant_type=w8a8_dynamic"},
        {"--model_path", run.model, "--save_directory", run.out, "--quant_type", "W8A8_DYNAMIC"},
        {"--model_path", run.model, "--save-directory", run.out, "--quant_type", "w8a8_dynamic", "--device-type", "cpu"}}) {
    std::vector<std::string> all{"quant"};
    all.insert(all.end(), words.begin(), words.end());
    const program_result result = run_program(all);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    CHECK(difference(expected, tree_of(run.out)) == "");
    std::filesystem::remove_all(run.out);
  }
}

TEST_CASE("a dash in a value stays a dash") {
  small_run run;
  run.out = run.folder.path("out-with-dash");
  CHECK(run.written({"--quant_type", "w8a16"}).count("config.json") == 1);
}

TEST_CASE("a boolean is True, False, true, false, 1 or 0, or stands alone") {
  const small_run run;
  const std::vector<std::string> group{"--quant_type", "w4a16", "--group_size", "32", "--format", "compressed_tensors"};
  const auto with = [&](const std::vector<std::string>& more) {
    auto words = group;
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  const auto symmetric = run.written(group), asymmetric = run.written(with({"--w_sym", "False"}));
  CHECK(difference(symmetric, asymmetric) != "");
  for (const std::string value : {"True", "true", "1"}) CHECK(difference(symmetric, run.written(with({"--w_sym", value}))) == "");
  for (const std::string value : {"False", "false", "0"}) CHECK(difference(asymmetric, run.written(with({"--w_sym", value}))) == "");
  CHECK(difference(symmetric, run.written(with({"--w_sym"}))) == "");
  CHECK(difference(asymmetric, run.written(with({"--w-sym=False"}))) == "");
}

TEST_CASE("a flag that usually stands alone takes a boolean too") {
  const small_run run;
  const auto dynamic = run.written({"--quant_type", "w8a8_dynamic"});
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--is_dynamic"}, {"--is_dynamic", "True"}, {"--is_dynamic", "1"}, {"--is_dynamic=true"}}) {
    std::vector<std::string> flags{"--w_bit", "8", "--a_bit", "8"};
    flags.insert(flags.end(), words.begin(), words.end());
    const std::string value = flags.back();
    CAPTURE(value);
    const program_result result = run.run(flags);
    INFO(result.err);
    CHECK(result.exit_code == 0);
    if (result.exit_code == 0) CHECK(difference(dynamic, tree_of(run.out)) == "");
    std::filesystem::remove_all(run.out);
  }
  for (const std::string value : {"False", "0"})
    for (const std::string flag : {"--trust_remote_code", "--overwrite", "--resume", "--dry_run"}) {
      CAPTURE(flag);
      const program_result result = run.run({"--quant_type", "w8a8_dynamic", flag, value});
      INFO(result.err);
      CHECK(result.exit_code == 0);
      CHECK(std::filesystem::exists(run.out));
      std::filesystem::remove_all(run.out);
    }
}

TEST_CASE("--trust_remote_code only decides whether Python files are copied; other files always are") {
  const small_run run;
  run.folder.write("model/modeling_mine.py", "raise SystemExit(1)");
  run.folder.write("model/pytorch_model.bin", "pickle");
  const auto without = run.written({"--quant_type", "w8a16"}), with = run.written({"--quant_type", "w8a16", "--trust_remote_code"});
  CHECK(without.count("modeling_mine.py") == 0);
  CHECK(with.count("modeling_mine.py") == 1);
  CHECK(without.count("tokenizer.json") == 1);
  CHECK(with.count("pytorch_model.bin") == 0);
}

TEST_CASE("--json prints one document with the promised keys, and nothing else goes to stdout") {
  const small_run run;
  const program_result result = run.run({"--quant_type", "w8a8_dynamic", "--json"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  json report = json::parse(result.out, nullptr, false);
  REQUIRE(report.is_object());
  CHECK(report["model_type"] == "llama");
  CHECK(report["quant_type"] == "w8a8_dynamic");
  CHECK(report["format"] == "ascend_v1");
  CHECK(report["seconds"].get<double>() > 0);
  CHECK(report["peak_rss_bytes"].get<std::uint64_t>() > (1 << 20));
  std::uint64_t input = 0, output = 0;
  for (const tensor_bytes& t : llama_tensors()) input += t.bytes.size();
  for (const auto& [name, tensor] : headers_of(run.out)) output += tensor["bytes"].get<std::uint64_t>();
  CHECK(report["input_bytes"] == input);
  CHECK(report["output_bytes"] == output);
  CHECK(report["tensors"]["quantized"] == 14);  // 7 a layer
  CHECK(report["tensors"]["float"] == 7);       // embedding, head, five norms
  REQUIRE(report["layers"].size() == 14);
  std::set<std::string> names;
  for (const json& layer : report["layers"]) {
    names.insert(layer["name"].get<std::string>());
    CHECK(layer["quant_type"] == "W8A8_DYNAMIC");
    CHECK(layer["mse"].get<double>() > 0);
    CHECK(layer["cosine"].get<double>() > 0.999);
    CHECK(layer["cosine"].get<double>() <= 1.0);
    CHECK(layer["max_abs_err"].get<double>() > 0);
    CHECK(layer["max_abs_err"].get<double>() <= 2.0 / 127 / 2 * 1.0001);  // values are below 2: half a step of absmax / 127
  }
  CHECK(names.count("model.layers.1.mlp.down_proj") == 1);
  std::set<std::string> files, written;
  for (const json& file : report["files"]) files.insert(file.get<std::string>());
  for (const auto& [name, content] : tree_of(run.out)) written.insert(name);
  CHECK(files == written);
}

TEST_CASE("without a terminal, progress is plain lines on stderr and the result one line on stdout") {
  const small_run run;
  const program_result result = run.run({"--quant_type", "w8a16"});
  CHECK(result.exit_code == 0);
  CHECK(result.err.find_first_of("\r\x1b") == std::string::npos);
  for (const std::string& line : result.error_lines()) CHECK(line.rfind("qlib: ", 0) == 0);
  for (const char* layer : {"model.layers.0", "model.layers.1"}) CHECK(result.err.find(layer) != std::string::npos);
  CHECK(std::count(result.out.begin(), result.out.end(), '\n') == 1);
  std::filesystem::remove_all(run.out);
  const program_result quiet = run.run({"--quant_type", "w8a16", "--quiet"});
  CHECK(quiet.exit_code == 0);
  CHECK(quiet.err == "");
}

TEST_CASE("--dry_run checks everything and writes nothing") {
  const small_run run;
  const auto before = tree_of(run.folder.path());
  CHECK(run.run({"--quant_type", "w8a16", "--dry_run"}).exit_code == 0);
  CHECK(run.run({"--quant_type", "w4a16", "--group_size", "64", "--dry_run"}).exit_code == 2);  // 96 input features
  CHECK(difference(before, tree_of(run.folder.path())) == "");
}

TEST_CASE("plan lists name, dtype, shape and bytes of exactly what quant then writes") {
  const small_run run;
  const std::vector<std::vector<std::string>> kinds{
      {"--quant_type", "w8a8_dynamic"},
      {"--quant_type", "w8a16", "--format", "compressed_tensors"},
      {"--quant_type", "w4a16", "--group_size", "32"},
      {"--quant_type", "w4a16", "--group_size", "32", "--w_sym", "False", "--format", "compressed_tensors"},
      {"--quant_type", "fp8_dynamic"}};
  for (const auto& kind : kinds) {
    CAPTURE(kind[1]);
    std::vector<std::string> words{"plan", "--json", "--model_path", run.model};
    words.insert(words.end(), kind.begin(), kind.end());
    const program_result planned = run_program(words);
    INFO(planned.err);
    REQUIRE(planned.exit_code == 0);
    json plan = json::parse(planned.out, nullptr, false);
    REQUIRE(plan.is_object());
    REQUIRE(run.run(kind).exit_code == 0);
    const auto written = headers_of(run.out);
    CHECK(plan["tensors"].size() == written.size());
    std::uint64_t bytes = 0;
    for (json t : plan["tensors"]) {
      const auto at = written.find(t["name"].get<std::string>());
      REQUIRE(at != written.end());
      CHECK(t["dtype"] == at->second["dtype"]);
      CHECK(t["shape"] == at->second["shape"]);
      CHECK(t["bytes"] == at->second["bytes"]);
      CHECK(t["source"].is_string());
      CHECK(t["quant_type"].is_string());
      bytes += at->second["bytes"].get<std::uint64_t>();
    }
    CHECK(plan["output_bytes"] == bytes);
    CHECK(plan["errors"] == json::array());
    std::filesystem::remove_all(run.out);
  }
}

TEST_CASE("plan forecasts the peak memory") {
  const small_run run;
  const program_result result = run_program({"plan", "--json", "--model_path", run.model, "--quant_type", "w8a8_dynamic"});
  json plan = json::parse(result.out, nullptr, false);
  REQUIRE(plan.is_object());
  REQUIRE(plan["peak_memory_bytes"].is_number_unsigned());
  CHECK(plan["peak_memory_bytes"].get<std::uint64_t>() > 0);
}

TEST_CASE("plan decides by headers: weights of NaN do not disturb it") {
  temporary_folder folder;
  std::vector<tensor_bytes> tensors = llama_tensors();
  for (tensor_bytes& t : tensors)
    for (std::size_t i = 0; i < t.bytes.size(); i += 2) std::memcpy(t.bytes.data() + i, &bf16_nan, 2);
  const std::string model = write_model(folder, "model", tensors);
  const auto before = tree_of(folder.path());
  CHECK(run_program({"plan", "--model_path", model, "--save_path", folder.path("out"), "--quant_type", "w8a16"}).exit_code == 0);
  CHECK(difference(before, tree_of(folder.path())) == "");
  CHECK(run_program({"quant", "--model_path", model, "--save_path", folder.path("out"), "--quant_type", "w8a16"}).exit_code == 2);
}

TEST_CASE("plan finds what quant would refuse, and its document lists it") {
  const small_run run;
  const program_result result = run_program({"plan", "--json", "--model_path", run.model, "--quant_type", "w4a16", "--group_size", "64"});
  CHECK(result.exit_code == 2);
  CHECK(result.error_lines().size() == 2);  // down_proj of both layers
  json plan = json::parse(result.out, nullptr, false);
  REQUIRE(plan.is_object());
  CHECK(plan["errors"].size() == 2);
}

TEST_CASE("--report writes the document of --json to a file") {
  const small_run run;
  const std::string file = run.folder.path("report.json");
  const program_result result = run.run({"--quant_type", "w8a16", "--report", file});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  json report = json::parse(run.folder.read("report.json"), nullptr, false);
  REQUIRE(report.is_object());
  CHECK(report["layers"].size() == 14);
}
