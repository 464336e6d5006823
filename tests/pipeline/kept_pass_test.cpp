#include "../io/temporary_folder.hpp"
#include "../model/golden_family.hpp"

#include <qlib/pipeline/calibrate.hpp>
#include <qlib/pipeline/stored_calibration.hpp>
#include <qlib/recipe/flags.hpp>

#include <filesystem>

using namespace qlib_test;

namespace {

constexpr std::uint64_t key = 77;

/// A family, a recipe, and samples; calibrated with and without interruptions.
struct interrupted_family {
  golden_family family;
  qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  qlib::quantization_plan plan;
  std::vector<std::vector<std::int32_t>> samples;
  qlib::calibrate_options options;
  temporary_folder folder;

  interrupted_family(const std::string& name, const std::string& quant_type, const std::string& anti_method, bool own_samples) : family{name} {
    qlib::recipe r;
    const qlib::errors bad = qlib::recipe_from_flags({.quant_type = quant_type, .anti_method = anti_method}, r);
    REQUIRE_MESSAGE(bad.empty(), text_of(bad));
    qlib::plan_options how;
    how.model = &family.model.description;
    const qlib::errors refused = qlib::make_plan(family.model.source, family.model.layout, r, how, plan);
    REQUIRE_MESSAGE(refused.empty(), text_of(refused));
    for (std::size_t s = 0; s + 1 < family.rows.size(); ++s)
      samples.emplace_back(family.ids.begin() + static_cast<std::ptrdiff_t>(family.rows[s]),
                           family.ids.begin() + static_cast<std::ptrdiff_t>(family.rows[s + 1]));
    options.histograms = anti_method == "m6";
    if (own_samples) options.suppress_samples = samples;
  }

  std::string path(const std::string& name) const { return folder.path("work/" + name); }

  /// The bytes of everything that a pass finds.
  std::string found(const qlib::calibrate_options& how) const {
    const auto c = qlib::calibrate(family.decoder(source), plan, samples, how);
    REQUIRE_MESSAGE(c, (c ? "" : c.error().text()));
    REQUIRE(qlib::store_calibration(*c, key, folder.path("found")));
    return folder.read("found");
  }
};

}  // namespace

TEST_CASE("a pass that goes on after any layer finds what an uninterrupted one does, to the last bit") {
  struct row {
    const char *family, *quant_type, *anti_method;
    bool own_samples;
  };
  for (const row& r : {row{"llama", "w8a8", "", false}, row{"qwen3_moe", "w8a8", "m4", false}, row{"deepseek_v3", "w8a8", "m6", false},
                       row{"llama", "w8a8", "m4", true}, row{"gpt_oss", "w8a8_dynamic", "m4", false}, row{"llama", "w8a8", "quarot", false},
                       row{"llama", "w8a8c8", "", false}}) {
    CAPTURE(r.family);
    CAPTURE(r.quant_type);
    CAPTURE(r.anti_method);
    const interrupted_family f{r.family, r.quant_type, r.anti_method, r.own_samples};
    const std::string whole = f.found(f.options);
    qlib::calibrate_options kept = f.options;
    kept.keep = qlib::keep_pass{.path = f.path("pass"), .key = key, .resume = true, .seconds = 0};
    std::size_t copies = 0;
    kept.on_progress = [&](const qlib::calibration_progress& p) {
      CHECK(p.work_before == 0);
      if (p.layers_done == p.layers) return;
      std::filesystem::copy_file(f.path("pass"), f.path(std::to_string(p.layers_done)));
      ++copies;
    };
    CHECK(f.found(kept) == whole);
    REQUIRE(copies > 0);
    for (std::size_t layer = 1; layer <= copies; ++layer) {
      CAPTURE(layer);
      qlib::calibrate_options resumed = kept;
      resumed.keep->path = f.path(std::to_string(layer));
      std::size_t first = 0;
      resumed.on_progress = [&](const qlib::calibration_progress& p) {
        if (first == 0) first = p.layers_done;
        CHECK(p.work_before > 0);
        CHECK(p.work_before < p.work_done);
      };
      CHECK(f.found(resumed) == whole);
      CHECK(first == layer + 1);
    }
  }
}

TEST_CASE("a kept pass of another key, or a damaged one, is begun again") {
  const interrupted_family f{"llama", "w8a8", "", false};
  const std::string whole = f.found(f.options);
  qlib::calibrate_options kept = f.options;
  kept.keep = qlib::keep_pass{.path = f.path("pass"), .key = key, .resume = true, .seconds = 0};
  CHECK(f.found(kept) == whole);
  const auto begins_again = [&](const qlib::calibrate_options& how) {
    qlib::calibrate_options watched = how;
    std::size_t first = 0;
    watched.on_progress = [&](const qlib::calibration_progress& p) { first = first == 0 ? p.layers_done : first; };
    CHECK(f.found(watched) == whole);
    return first == 1;
  };
  const std::string good = f.folder.read("work/pass");
  CHECK(!begins_again(kept));
  qlib::calibrate_options other = kept;
  other.keep->key = key + 1;
  CHECK(begins_again(other));
  other = kept;
  other.keep->resume = false;
  CHECK(begins_again(other));
  for (const std::size_t at : {std::size_t{3}, good.size() / 2, good.size() - 1}) {
    std::string damaged = good;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    f.folder.write("work/pass", damaged);
    CHECK(begins_again(kept));
    f.folder.write("work/pass", good.substr(0, at));
    CHECK(begins_again(kept));
  }
}

TEST_CASE("a pass that cannot be kept ends as it would, and says so") {
  const interrupted_family f{"llama", "w8a8", "", false};
  const std::string whole = f.found(f.options);
  qlib::calibrate_options kept = f.options;
  f.folder.write("file", "in the way");
  kept.keep = qlib::keep_pass{.path = f.folder.path("file") + "/pass", .key = key, .seconds = 0};
  const auto c = qlib::calibrate(f.family.decoder(f.source), f.plan, f.samples, kept);
  REQUIRE(c);
  REQUIRE(c->warnings.size() == 1);
  CHECK(c->warnings.front().find("would start again if it were killed") != std::string::npos);
}
