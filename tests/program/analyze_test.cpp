/// `qlib analyze` as a user runs it.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>

using namespace qlib_test;
using nlohmann::json;

namespace {

const std::string model = QLIB_SOURCE_DIR "/examples/tiny_llama", ids = model + "/calib_ids.safetensors";

/// A copy of tiny_llama that computes the same, with one channel of layer 2's attention input 64 times as large: powers of two are exact in bf16.
std::string with_outlier(const temporary_folder& folder) {
  const std::string out = folder.path("outlier");
  std::filesystem::copy(model, out);
  std::string bytes = folder.read("outlier/model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  const json tensors = json::parse(bytes.substr(8, header));
  const auto scale = [&](const std::string& name, std::size_t element, int exponent) {
    char* at = bytes.data() + 8 + header + tensors["model.layers.2." + name]["data_offsets"][0].get<std::uint64_t>() + element * 2;
    std::uint16_t bits = 0;
    std::memcpy(&bits, at, 2);
    const int stored = bits >> 7 & 255;
    if (stored == 0) return;  // zero, or too small to matter
    REQUIRE(stored + exponent > 0);
    REQUIRE(stored + exponent < 255);
    bits = static_cast<std::uint16_t>(bits + (exponent << 7));
    std::memcpy(at, &bits, 2);
  };
  constexpr std::size_t channel = 17, width = 256;
  scale("input_layernorm.weight", channel, 6);
  for (const auto& [name, rows] : {std::pair{"q_proj", 256}, {"k_proj", 128}, {"v_proj", 128}})
    for (int r = 0; r < rows; ++r) scale("self_attn." + std::string{name} + ".weight", static_cast<std::size_t>(r) * width + channel, -6);
  folder.write("outlier/model.safetensors", bytes);
  return out;
}

std::vector<std::string> analyze(const std::string& directory, const std::vector<std::string>& more) {
  std::vector<std::string> words{"analyze",         "--quiet", "--model_path",     directory, "--calib_ids", ids,
                                 "--calib_samples", "8",       "--analyze_tokens", "256"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

json document(const std::vector<std::string>& words) {
  const program_result r = run_program(words);
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  return json::parse(r.out);
}

}  // namespace

TEST_CASE("the layer with an outlier channel is first by every metric, and keeping it float lowers KL" * doctest::test_suite("very long")) {
  temporary_folder folder;
  const std::string outlier = with_outlier(folder);
  const std::vector<std::string> sibling_names{"model.layers.2.self_attn.k_proj", "model.layers.2.self_attn.q_proj",
                                               "model.layers.2.self_attn.v_proj"};

  // The function is unchanged: only the quantized model sees the outlier.
  const json same =
      document({"eval", "--quiet", "--model_path", outlier, "--reference", model, "--ids", ids, "--samples", "2", "--reproducible", "--json"});
  CHECK(same["kl"] < 1e-9);

  std::string names;
  for (const char* metric : {"kl", "mse", "range", "auto"}) {
    CAPTURE(metric);
    const std::string file = folder.path(metric);
    const json a = document(analyze(outlier, {"--quant_type", "w8a8", "--metric", metric, "--keep", "1", "--out", file, "--json"}));
    CHECK(a["layers"].size() == 24);
    CHECK(a["layers"][0]["modules"].get<std::vector<std::string>>() == sibling_names);
    CHECK(a["layers"][0]["kept"] == true);
    CHECK(a["disable_names"].get<std::vector<std::string>>() == sibling_names);
    names = folder.read(metric);
    CHECK(names == "model.layers.2.self_attn.k_proj,model.layers.2.self_attn.q_proj,model.layers.2.self_attn.v_proj\n");
    if (metric != std::string_view{"kl"}) continue;
    CHECK(a["metric"] == "kl");
    CHECK(a["layers"][0]["kl"].get<double>() > 3 * a["layers"][1]["kl"].get<double>());
    CHECK(a["kl_kept"].get<double>() < a["kl_all"].get<double>() / 2);
  }
  names.pop_back();

  const auto kl_of = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> words{"quant",        "--quiet", "--model_path", outlier, "--save_path",     folder.path(name),
                                   "--quant_type", "w8a8",    "--calib_ids",  ids,     "--calib_samples", "8"};
    words.insert(words.end(), more.begin(), more.end());
    const program_result r = run_program(words);
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
    return document({"eval", "--quiet", "--model_path", folder.path(name), "--reference", outlier, "--ids", ids, "--samples", "4", "--json"})["kl"]
        .get<double>();
  };
  const double all = kl_of("all", {}), fewer = kl_of("fewer", {"--disable_names", names});
  CHECK(fewer < all / 2);
  CHECK(kl_of("other", {"--disable_names", "model.layers.2.mlp.down_proj"}) > fewer);
}

TEST_CASE("the table of qlib analyze ends with a list to paste") {
  const program_result r = run_program(analyze(model, {"--quant_type", "w4a16", "--group_size", "32", "--metric", "mse", "--budget", "300kB"}));
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  CHECK(r.err == "");
  std::vector<std::string> lines = lines_of(r.out);
  REQUIRE(lines.size() == 1 + 24 + 2);
  CHECK(lines[0].find("layers") != std::string::npos);
  CHECK(lines[1].find("   1") == 0);
  REQUIRE(lines.back().starts_with("--disable_names '"));
  std::string names = lines.back().substr(17);
  names.pop_back();

  // Names that the user disables already stay in the list; those layers are not ranked.
  const json more =
      document(analyze(model, {"--quant_type", "w4a16", "--group_size", "32", "--metric", "mse", "--keep", "1", "--disable_names", names, "--json"}));
  CHECK(more["layers"].size() < 24);
  CHECK(more["disable_names"].size() > static_cast<std::size_t>(std::ranges::count(names, ',')) + 1);
  CHECK(more["disable_names"][0] == names.substr(0, names.find(',')));
}

TEST_CASE("a type that needs no calibration is analyzed too, but not without samples") {
  const json a = document({"analyze", "--quiet", "--model_path", model, "--quant_type", "w8a8_dynamic", "--calib_file", model + "/calib.jsonl",
                           "--calib_length", "32", "--analyze_tokens", "64", "--json"});
  CHECK(a["metric"] == "kl");
  CHECK(a["tokens"] == 64);
  CHECK(a["kl_all"] > 0);
  CHECK(a["disable_names"].empty());
  temporary_folder folder;
  check_refused(folder.path(), {"analyze", "--model_path", QLIB_SOURCE_DIR "/tests/golden/calibration/qwen3", "--quant_type", "w8a8_dynamic"},
                {{"needs samples to run the model with", "--calib_file"}});
}

TEST_CASE("progress and forecast go to stderr" * doctest::test_suite("long")) {
  std::vector<std::string> words = analyze(model, {"--quant_type", "w8a8_dynamic", "--json"});
  words.erase(words.begin() + 1);  // --quiet
  const program_result r = run_program(words);
  REQUIRE(r.exit_code == 0);
  CHECK_FALSE(json::parse(r.out, nullptr, false).is_discarded());
  CHECK(r.err.find("qlib: metric kl (chosen by cost)") != std::string::npos);
  CHECK(r.err.find("qlib: analyzed 24/24") != std::string::npos);
}

TEST_CASE("flags of analyze that make no sense are errors, all of them before the work") {
  temporary_folder folder;
  check_refused(folder.path(),
                {"analyze", "--quiet", "--model_path", model, "--calib_ids", ids, "--quant_type", "w8a8", "--metric", "taste", "--disable_level",
                 "L1", "--analyze_tokens", "0", "--out", folder.path("none/names")},
                {{"--metric: taste: is not known"},
                 {"--disable_level: is a choice"},
                 {"--analyze_tokens: is 0"},
                 {"--out: needs to know how many"},
                 {"none/names: cannot be written"}});
  check_refused(folder.path(), analyze(model, {"--quant_type", "w8a8", "--bf16", "--reproducible"}), {{"--bf16: is not reproducible"}});
  check_refused(folder.path(), analyze(model, {"--quant_type", "w8a8_dynamic", "--max_memory", "1MB"}), {{"--max_memory", "give at least"}});
}
