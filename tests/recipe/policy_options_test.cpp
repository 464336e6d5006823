#include <qlib/recipe/flags.hpp>
#include <qlib/recipe/policy_options.hpp>
#include <qlib/registry.hpp>

#include <doctest/doctest.h>

using namespace qlib;

namespace {

std::string refused(const std::string& name, const std::string& key, const std::string& value) {
  const auto made = make_policy<registry::suppressors>({name, {{key, value}}}, "recipe.yaml:7", "outlier suppressor");
  return made ? std::string{} : made.error().text();
}

}  // namespace

TEST_CASE("an option of a suppressor that is out of range is an error with its name, its value and what is allowed") {
  for (const std::string name : {"smooth_quant", "iter_smooth", "flex_smooth_quant"})
    for (const std::string value : {"1.5", "-0.1"}) {
      const std::string text = refused(name, "alpha", value);
      CHECK_MESSAGE(text.find("recipe.yaml:7: " + name + ": alpha ") != text.npos, text);
      CHECK_MESSAGE(text.find("is not in 0 to 1") != text.npos, text);
    }
  CHECK(refused("flex_smooth_quant", "beta", "2").find("beta 2 is not in 0 to 1") != std::string::npos);
  CHECK(refused("flex_smooth_quant", "group_method", "median").find("'median' is neither mean nor max") != std::string::npos);
  CHECK(refused("iter_smooth", "scale_min", "0").find("scale_min") != std::string::npos);
  CHECK(refused("smooth_quant", "statistic", "mode").find("'mode' is neither absmax nor range") != std::string::npos);
  CHECK(refused("awq", "n_grid", "0").find("n_grid 0 is not in 1 to 10000") != std::string::npos);
  CHECK(refused("awq", "n_grid", "-3").find("n_grid -3") != std::string::npos);
  CHECK(refused("awq", "duo_scaling", "maybe").find("'maybe' is none of false, true, both") != std::string::npos);
  CHECK(refused("cbq_mask", "exponent", "1.7").find("exponent") != std::string::npos);
  CHECK(refused("cbq_mask", "spread", "-1").find("spread") != std::string::npos);
  CHECK(refused("threshold_smooth", "steps", "1").find("steps 1 is not in 2 to 10000") != std::string::npos);
  CHECK(refused("threshold_smooth", "tokens", "last").find("'last' is neither all nor first") != std::string::npos);
  CHECK(refused("awq", "alpha", "0.5").find("has no option 'alpha'") != std::string::npos);
}

TEST_CASE("no option of a policy takes what is not a finite number") {
  for (const std::string value : {"nan", "-nan", "inf", "-inf", "infinity", "1e400", "0x1", "0.5x", ""}) {
    CAPTURE(value);
    CHECK(refused("smooth_quant", "alpha", value).find("is no value of it") != std::string::npos);
    CHECK(refused("cbq_mask", "spread", value).find("is no value of it") != std::string::npos);
  }
  CHECK(refused("kv_smooth", "smooth_factor", "-1").find("smooth_factor") != std::string::npos);
}

TEST_CASE("an exponent can be left to the search, and every default is in range") {
  for (const std::string word : {"auto", "null", "none"}) CHECK(refused("smooth_quant", "alpha", word).empty());
  CHECK(!refused("iter_smooth", "alpha", "auto").empty());  // it has no search
  for (const std::string_view name : registry::suppressors::names())
    CHECK(make_policy<registry::suppressors>({std::string{name}, {}}, "here", "outlier suppressor"));
}

TEST_CASE("--anti_method takes msModelSlim's letters with its sub-graphs, m3 with those of its newer awq, and suppressors' names with all") {
  for (const std::string letter : {"m1", "m2", "m5"}) {
    const auto s = find_anti_method(letter);
    REQUIRE(s);
    CHECK(s->norm_linear);
    CHECK_FALSE(s->ov);
    CHECK_FALSE(s->up_down);
  }
  for (const std::string name : {"m3", "m4", "m6", "awq", "smooth_quant", "threshold_smooth", "cbq_mask", "flex_smooth_quant", "flex_awq_ssz",
                                 "outlier_suppression_lite", "iter_smooth"}) {
    const auto s = find_anti_method(name);
    REQUIRE(s);
    CHECK((s->ov && s->up_down));
    CHECK(make_policy<registry::suppressors>(s->suppressor, "here", "outlier suppressor"));
  }
  CHECK(find_anti_method("m1")->suppressor.options.empty());  // alpha .5
  CHECK(find_anti_method("smooth_quant")->suppressor.options == std::vector<std::pair<std::string, std::string>>{{"alpha", "auto"}});
}
