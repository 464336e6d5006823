/// How the ranges of weights are found: --observer and --percentile, and LLM-Compressor's words for them.
#include "run_program.hpp"

#include <nlohmann/json.hpp>

using namespace qlib_test;
using nlohmann::json;

namespace {

const std::string model = QLIB_SOURCE_DIR "/examples/tiny_llama";
using arguments = std::vector<std::string>;

/// Every way to store a weight: int8 a channel, int4 a group, with and without zero points, fp8.
const std::vector<arguments> weight_kinds{
    {"--quant_type", "w8a8_dynamic"},
    {"--quant_type", "w4a16", "--group_size", "32"},
    {"--quant_type", "w4a16", "--group_size", "128"},
    {"--quant_type", "w4a16", "--group_size", "32", "--w_sym", "False"},
    {"--quant_type", "w4a16", "--group_size", "128", "--w_sym", "False"},
    {"--quant_type", "w4a16", "--group_size", "32", "--w_sym", "False", "--format", "compressed_tensors"},
    {"--quant_type", "w8a16", "--w_sym", "False"},
    {"--quant_type", "fp8_dynamic", "--format", "compressed_tensors"},
};

json quantized(const std::string& out, const arguments& kind, const arguments& more) {
  arguments words{"quant", "--quiet", "--json", "--model_path", model, "--save_path", out};
  words.insert(words.end(), kind.begin(), kind.end());
  words.insert(words.end(), more.begin(), more.end());
  const program_result r = run_program(words);
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  return json::parse(r.out);
}

/// Files of the result but for the recipe that made it.
std::map<std::string, std::string> layer_tensors_of(const std::string& out) {
  auto tree = tree_of(out);
  for (auto at = tree.begin(); at != tree.end();) at = at->first.ends_with(".safetensors") ? std::next(at) : tree.erase(at);
  REQUIRE(!tree.empty());
  return tree;
}

std::string llmcompressor_recipe(const temporary_folder& folder, const std::string& weights) {
  return folder.write("recipe.yaml",
                      "default_stage:\n  default_modifiers:\n    QuantizationModifier:\n      ignore: [lm_head]\n      config_groups:\n"
                      "        group_0:\n          targets: [Linear]\n          weights: {" +
                          weights + "}\n");
}

}  // namespace

TEST_CASE("minmax by name, and the hundredth percentile, give the bytes of no flag" * doctest::test_suite("long")) {
  for (const arguments& kind : weight_kinds) {
    CAPTURE(kind.back());
    temporary_folder folder;
    quantized(folder.path("plain"), kind, {});
    quantized(folder.path("minmax"), kind, {"--observer", "MinMax"});
    quantized(folder.path("hundred"), kind, {"--observer", "percentile", "--percentile", "100"});
    CHECK(difference(tree_of(folder.path("plain")), tree_of(folder.path("minmax"))) == "");
    CHECK(difference(layer_tensors_of(folder.path("plain")), layer_tensors_of(folder.path("hundred"))) == "");
  }
}

TEST_CASE("no tensor's error is larger with mse than with minmax, and some are smaller" * doctest::test_suite("very long")) {
  for (const arguments& kind : weight_kinds) {
    CAPTURE(kind.back());
    temporary_folder folder;
    const json extremes = quantized(folder.path("minmax"), kind, {})["layers"],
               searched = quantized(folder.path("mse"), kind, {"--observer", "mse"})["layers"];
    REQUIRE(extremes.size() == searched.size());
    std::size_t smaller = 0;
    for (std::size_t i = 0; i < extremes.size(); ++i) {
      REQUIRE(extremes[i]["name"] == searched[i]["name"]);
      CAPTURE(extremes[i]["name"].get<std::string>());
      CHECK(searched[i]["mse"].get<double>() <= extremes[i]["mse"].get<double>());
      smaller += searched[i]["mse"].get<double>() < extremes[i]["mse"].get<double>();
    }
    CHECK(smaller > extremes.size() / 2);
    const program_result checked = run_program({"verify", folder.path("mse")});
    CHECK_MESSAGE(checked.exit_code == 0, checked.out);
  }
}

TEST_CASE("a percentile cuts the ends of ranges off, and a higher one less") {
  temporary_folder folder;
  const arguments kind{"--quant_type", "w8a8_dynamic"};
  const auto largest_error = [&](const char* percentile) {
    const json layers = quantized(folder.path(percentile), kind, {"--observer", "percentile", "--percentile", percentile})["layers"];
    double most = 0;
    for (const json& l : layers) most = std::max(most, l["max_abs_err"].get<double>());
    return most;
  };
  const double all = largest_error("100"), most = largest_error("99.9"), fewer = largest_error("99");
  CHECK(all < most);
  CHECK(most < fewer);
  quantized(folder.path("default"), kind, {"--observer", "percentile"});
  CHECK(difference(tree_of(folder.path("default")), tree_of(folder.path("99.9"))) == "");
}

TEST_CASE("an observer's bytes do not depend on the number of threads" * doctest::test_suite("long")) {
  for (const arguments& observer : {arguments{"--observer", "mse"}, arguments{"--observer", "percentile", "--percentile", "99.5"}})
    for (const arguments& kind : {weight_kinds[0], weight_kinds[3]}) {
      CAPTURE(observer[1]);
      temporary_folder folder;
      for (const char* threads : {"1", "2", "7"}) {
        arguments more = observer;
        more.insert(more.end(), {"--threads", threads});
        quantized(folder.path(threads), kind, more);
        CHECK(difference(tree_of(folder.path("1")), tree_of(folder.path(threads))) == "");
      }
    }
}

TEST_CASE("an observer's bytes do not depend on the instruction set" * doctest::test_suite("long")) {
  temporary_folder folder;
  for (const char* observer : {"mse", "percentile"}) {
    CAPTURE(observer);
    quantized(folder.path(observer), weight_kinds[3], {"--observer", observer});
    const std::string scalar = folder.path(std::string{"scalar_"} + observer);
    quantized(scalar, weight_kinds[3], {"--observer", observer, "--device", "cpu:scalar"});
    CHECK(difference(tree_of(folder.path(observer)), tree_of(scalar)) == "");
  }
}

TEST_CASE("LLM-Compressor's spelling of mse gives the bytes of the flag, and config.json says it in that spelling" * doctest::test_suite("long")) {
  temporary_folder folder;
  const arguments kind{"--quant_type", "w4a16", "--group_size", "32", "--format", "compressed_tensors"};
  const std::string args = "num_bits: 4, type: int, symmetric: true, strategy: group, group_size: 32, ";
  quantized(folder.path("flag"), kind, {"--observer", "mse"});
  std::map<std::string, std::string> first = layer_tensors_of(folder.path("flag"));
  for (const char* spelling : {"observer: mse", "observer: memoryless_mse, observer_kwargs: {maxshrink: 0.2, grid: 100, norm: 2.4, patience: 5}"}) {
    CAPTURE(spelling);
    quantized(folder.path("recipe"), {"--config_path", llmcompressor_recipe(folder, args + spelling)}, {});
    CHECK(difference(first, layer_tensors_of(folder.path("recipe"))) == "");
    std::filesystem::remove_all(folder.path("recipe"));
  }
  quantized(folder.path("squares"), {"--config_path", llmcompressor_recipe(folder, args + "observer: mse, observer_kwargs: {norm: 2}")}, {});
  CHECK(difference(first, layer_tensors_of(folder.path("squares"))) != "");
  const auto weights = [&](const char* out) {
    return json::parse(tree_of(folder.path(out)).at("config.json"))["quantization_config"]["config_groups"]["group_0"]["weights"];
  };
  CHECK(weights("flag")["observer"] == "memoryless_mse");
  CHECK(weights("squares")["observer_kwargs"] == json{{"norm", 2}});
  quantized(folder.path("percentile"), kind, {"--observer", "percentile"});
  CHECK(weights("percentile")["observer"].is_null());
  const program_result checked = run_program({"verify", folder.path("percentile")});
  CHECK_MESSAGE(checked.exit_code == 0, checked.out);
}

TEST_CASE("an observer that does not exist and a percentile that is none are refused with what is known") {
  temporary_folder folder;
  const auto refused = [&](const arguments& more, const std::vector<std::string>& parts) {
    arguments words{"quant", "--quiet", "--model_path", model, "--save_path", folder.path("out"), "--quant_type", "w8a8_dynamic"};
    words.insert(words.end(), more.begin(), more.end());
    check_refused(folder.path(), words, {parts});
  };
  refused({"--observer", "median"}, {"--observer median", "minmax, percentile, mse"});
  refused({"--observer", "histogram"}, {"--observer histogram", "activations", "minmax, percentile, mse"});
  for (const char* percentile : {"0", "-1", "0.999", "50", "100.5"})
    refused({"--observer", "percentile", "--percentile", percentile}, {"--percentile", "(50, 100]", "99.9"});
  for (const char* percentile : {"many", "nan"})
    refused({"--observer", "percentile", "--percentile", percentile}, {"--percentile", percentile, "no finite number"});
  refused({"--percentile", "99"}, {"--percentile 99", "--observer percentile"});
  refused({"--observer", "mse", "--compat", "llmcompressor"}, {"mse", "--compat"});
  const std::string recipe = llmcompressor_recipe(folder, "observer: mse, observer_kwargs: {maxshrink: 2}");
  check_refused(folder.path(), {"quant", "--model_path", model, "--save_path", folder.path("out"), "--config_path", recipe},
                {{"recipe.yaml:8", "maxshrink"}});
  check_refused(folder.path(), {"quant", "--model_path", model, "--save_path", folder.path("out"), "--config_path", recipe, "--observer", "mse"},
                {{"recipe.yaml:8", "maxshrink"}, {"--config_path", "--observer"}});
}
