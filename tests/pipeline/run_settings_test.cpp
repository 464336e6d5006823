#include "../io/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <qlib/pipeline/run_settings.hpp>
#include <qlib/recipe/flags.hpp>

using namespace qlib_test;

namespace {

const std::string tiny = QLIB_SOURCE_DIR "/examples/tiny_llama";

/// The settings of a recipe from flags for tiny_llama.
struct tiny_settings {
  qlib::checkpoint source;
  qlib::model_layout layout;
  tiny_settings() {
    REQUIRE(qlib::checkpoint::open(tiny, source).empty());
    REQUIRE(qlib::read_model_layout(source, layout).empty());
  }

  qlib::run_settings of(const qlib::quant_flags& flags, const qlib::run_inputs& inputs = {}, const qlib::plan_options& how = {}) const {
    qlib::recipe r;
    REQUIRE(qlib::recipe_from_flags(flags, r).empty());
    return of(r, inputs, how);
  }
  qlib::run_settings of(const qlib::recipe& r, const qlib::run_inputs& inputs = {}, const qlib::plan_options& how = {}) const {
    qlib::quantization_plan plan;
    REQUIRE(qlib::make_plan(source, layout, r, how, plan).empty());
    return qlib::settings_of(source, r, plan, inputs);
  }
};

using texts = std::vector<std::string>;

}  // namespace

TEST_CASE("a changed setting is named with both values, and equal settings have no difference") {
  const tiny_settings tiny;
  const qlib::run_settings first = tiny.of({.quant_type = "w4a16", .group_size = 64});
  CHECK(qlib::changed_settings(first, tiny.of({.quant_type = "w4a16", .group_size = 64})).empty());
  CHECK(qlib::changed_settings(first, tiny.of({.quant_type = "w4a16", .group_size = 32})) == texts{"stage 1 weights.group_size was 64, is 32"});
  CHECK(qlib::changed_settings(first, tiny.of({.quant_type = "w4a16", .w_sym = false, .group_size = 64})) ==
        texts{"stage 1 weights.symmetric was true, is false"});
  CHECK(qlib::changed_settings(first, tiny.of({.quant_type = "w4a16", .group_size = 64, .observer = "percentile"})) ==
        texts{"stage 1 observer was minmax, is percentile", "stage 1 observer.lower was not given, is 0.1",
              "stage 1 observer.upper was not given, is 99.9", "stage 1 observer.keep_values was not given, is false"});
  CHECK(qlib::changed_settings(tiny.of({.quant_type = "w4a16", .group_size = 64, .disable_names = {"*down_proj"}}), first) ==
        texts{"stage 1 ignore was *down_proj,lm_head, is lm_head"});
  qlib::plan_options parts;
  parts.part_bytes = 1 << 20;
  const texts changed = qlib::changed_settings(first, tiny.of({.quant_type = "w4a16", .group_size = 64}, {}, parts));
  REQUIRE(changed.size() == 1);
  CHECK(changed[0].find("weight files was 1, is ") == 0);
}

TEST_CASE("samples, their order, and what else decides calibration are settings") {
  const tiny_settings tiny;
  const std::vector<std::vector<std::int32_t>> samples{{1, 2}, {3}}, moved{{1}, {2, 3}};
  const auto with = [&](const qlib::run_inputs& inputs) { return tiny.of({.quant_type = "w8a16"}, inputs); };
  const qlib::run_settings first = with({.samples = samples});
  CHECK(qlib::changed_settings(first, with({.samples = samples})).empty());
  CHECK(qlib::changed_settings(first, with({.samples = moved})).size() == 1);
  CHECK(qlib::changed_settings(first, with({.samples = samples, .suppress_samples = moved})).size() == 1);
  CHECK(qlib::changed_settings(first, with({.samples = samples, .reproducible = true})) == texts{"reproducible was false, is true"});
  CHECK(qlib::changed_settings(first, with({.samples = samples, .float_layers = 3})) == texts{"disable_level was not given, is 3"});
}

TEST_CASE("what only the plan shows is a difference of the plan, and places and times belong to the work folder alone") {
  const tiny_settings tiny;
  const qlib::run_settings first = tiny.of({.quant_type = "w8a16"});
  qlib::run_settings other = first;
  other.back().value = "0123456789abcdef";
  REQUIRE(other.back().name == "plan");
  CHECK(qlib::changed_settings(first, other).size() == 1);
  const qlib::run_settings result = qlib::settings_of_result(first);
  CHECK(result.size() + 1 == first.size());
  CHECK(qlib::changed_settings(result, first).empty());
  CHECK(qlib::changed_settings(first, result).empty());
  other = first;
  for (qlib::run_setting& s : other)
    if (s.name == "source files") s.value = "others";
  CHECK(qlib::changed_settings(first, other).size() == 1);
}

TEST_CASE("settings come back from their file, whatever patterns hold, and a damaged file is none") {
  temporary_folder folder;
  const tiny_settings tiny;
  const qlib::run_settings all = tiny.of({.quant_type = "w8a16", .ignore = {"re:a\"b\n\\\\", "\xff\xfe", "größer"}});
  REQUIRE(qlib::store_settings(all, folder.path()));
  const auto loaded = qlib::load_settings(folder.path());
  REQUIRE(loaded);
  CHECK(*loaded == all);
  const std::string whole = folder.read(".qlib-run.json");
  CHECK_FALSE(std::filesystem::exists(folder.path(".qlib-run.json.tmp")));
  for (const std::string& text :
       {whole.substr(0, whole.size() / 2), std::string{"{}"}, std::string{"[]"}, std::string{}, std::string{"{\"qlib_run\": 2}"},
        std::string{"{\"qlib_run\": 1, \"settings\": [[\"a\"]]}"}, std::string{"{\"qlib_run\": 1, \"settings\": 3}"}}) {
    folder.write(".qlib-run.json", text);
    CHECK_FALSE(qlib::load_settings(folder.path()));
  }
  CHECK_FALSE(qlib::load_settings(folder.path("nowhere")));
}
