/// Sound checkpoints break no rule; files, and what belongs to no format.
#include "broken_checkpoints.hpp"

#include <tuple>

using namespace qlib_test;

TEST_CASE("checkpoints of this library break no rule") {
  for (const bool experts : {false, true})
    for (const std::string format : {"ascend_v1", "compressed_tensors"})
      for (const auto& [type, group, symmetric] : {std::tuple{"w8a8_dynamic", 0, true},
                                                   {"w8a16", 0, true},
                                                   {"w8a16", 32, true},
                                                   {"w4a16", 32, true},
                                                   {"w4a16", 32, false},
                                                   {"w4a16", 64, true},
                                                   {"fp8_dynamic", 0, true}}) {
        INFO(format, " ", type, " g", group, experts ? " with experts" : "");
        const mini_checkpoint c = quantized(tiny_model(dtype::bf16, experts), type, format, static_cast<std::size_t>(group), symmetric);
        const outcome found = verify(c);
        CHECK(found.format == format);
        CHECK_MESSAGE(found.violations.empty(), found.text);
      }
}

TEST_CASE("what this library makes for an engine, that engine loads") {
  for (const bool experts : {false, true}) {
    check_sound(ascend({}, dtype::bf16, experts), engine::vllm_ascend);
    check_sound(quantized(tiny_model(dtype::bf16, experts), "fp8_dynamic", "ascend_v1"), engine::vllm_ascend);
    check_sound(ascend({}, dtype::bf16, experts), engine::mindie);
    for (engine e : {engine::vllm, engine::vllm_ascend, engine::vllm_gcu}) check_sound(compressed("w8a8_dynamic", 0, true, experts), e);
    check_sound(compressed("w4a16", 32, true, experts), engine::vllm);
  }
}

TEST_CASE("a float checkpoint breaks no rule, whatever lies beside it") {
  mini_checkpoint c = tiny_model();
  check_sound(c);
  CHECK(verify(c).format == "float");
  c.raw["golden.safetensors"] = mini_checkpoint::file_text({{"ids", {dtype::i32, {1}, std::string(4, '\0')}}});
  const outcome found = verify(c);
  CHECK(found.violations.empty());
  CHECK(found.warnings == rules{"FILE-stray"});
  c.raw["more.safetensors"] = c.raw["golden.safetensors"];  // a name twice, but in files that no loader takes for weights
  const outcome twice = verify(c);
  CHECK(twice.violations.empty());
  CHECK(twice.warnings == rules{"FILE-stray", "FILE-stray"});
}

TEST_CASE("files: each rule names what breaks it") {
  const mini_checkpoint sound = compressed();
  check_each(sound, {
                        {"a truncated file", "FILE-damaged",
                         [](auto& c) {
                           std::string text = mini_checkpoint::file_text({{"a.weight", {dtype::f32, {4}, std::string(16, '\0')}}});
                           text.resize(text.size() - 3);
                           c.raw["model-extra.safetensors"] = text;
                         }},
                        {"config.json with a key twice", "FILE-json",
                         [](auto& c) {
                           std::string text = c.config().dump();
                           text.insert(1, "\"model_type\": \"llama\", ");
                           c.documents["config.json"] = nullptr;
                           c.raw["config.json"] = text;
                         }},
                        {"a second safetensors file without an index", "FILE-stray",
                         [](auto& c) {
                           c.raw["calibration.safetensors"] = mini_checkpoint::file_text({{"ids", {dtype::i32, {1}, std::string(4, '\0')}}});
                         }},
                        {"an index that misses a tensor", "FILE-index",
                         [](auto& c) {
                           c.refresh_index("model.safetensors.index.json");
                           c.documents["model.safetensors.index.json"]["weight_map"].erase("lm_head.weight");
                           c.documents["model.safetensors.index.json"]["metadata"]["total_size"] = c.bytes() - 32 * 64 * 2;
                         }},
                        {"an index that names an absent tensor", "FILE-index",
                         [](auto& c) {
                           c.refresh_index("model.safetensors.index.json");
                           c.documents["model.safetensors.index.json"]["weight_map"]["nobody.weight"] = "model.safetensors";
                         }},
                        {"an index that names an absent file", "FILE-index",
                         [](auto& c) {
                           c.refresh_index("model.safetensors.index.json");
                           c.documents["model.safetensors.index.json"]["weight_map"]["nobody.weight"] = "model-00002.safetensors";
                         }},
                        {"a wrong total_size", "FILE-size",
                         [](auto& c) {
                           c.refresh_index("model.safetensors.index.json");
                           c.documents["model.safetensors.index.json"]["metadata"]["total_size"] = 7;
                         }},
                        {"one part of two", "FILE-parts",
                         [](auto& c) {
                           c.weights_file = "model-00001-of-00002.safetensors";
                           c.refresh_index("model.safetensors.index.json");
                         }},
                        {"the temporary name of an unfinished run", "FILE-parts",
                         [](auto& c) {
                           c.weights_file = "model-00001-of-00000.safetensors";
                           c.refresh_index("model.safetensors.index.json");
                         }},
                        {"a layer that is not there", "FILE-layers", [](auto& c) { c.config()["num_hidden_layers"] = 2; }},
                    });
  mini_checkpoint two = sound;
  two.weights_file = "model-00001-of-00002.safetensors";
  two.raw["model-00002-of-00002.safetensors"] = mini_checkpoint::file_text({{"lm_head.weight", two.tensors["lm_head.weight"]}});
  CHECK(verify(two).violations == rules{"FILE-duplicate", "FILE-index"});

  mini_checkpoint bare = sound;
  bare.tensors.clear();
  CHECK(verify(bare).violations.contains("FILE-missing"));
  mini_checkpoint nameless = tiny_model();
  nameless.documents["config.json"] = nullptr;
  CHECK(verify(nameless).violations == rules{"FILE-config"});
}

TEST_CASE("what is no checkpoint is an error, not a violation") {
  qlib::verification found;
  const temporary_folder empty;
  CHECK(qlib::verify_checkpoint(empty.path(), {}, found).size() == 1);
  CHECK(qlib::verify_checkpoint(empty.path("absent"), {}, found).size() == 1);
}

TEST_CASE("a format is refused by an engine that has no loader for it") {
  CHECK(verify(ascend(), engine::vllm).violations == rules{"ENGINE-format"});
  CHECK(verify(ascend(), engine::vllm_gcu).violations == rules{"ENGINE-format"});
  CHECK(verify(compressed(), engine::mindie).violations.contains("ENGINE-format"));
  CHECK(verify(gptq(), engine::vllm_ascend).violations == rules{"ENGINE-format"});
}

TEST_CASE("the names of engines are theirs") {
  CHECK(qlib::engine_from_name("vllm-ascend") == engine::vllm_ascend);
  CHECK(qlib::engine_from_name("vllm_gcu") == engine::vllm_gcu);
  CHECK(qlib::name_of(engine::mindie) == "mindie");
  CHECK_FALSE(qlib::engine_from_name("vllm-npu"));
}
