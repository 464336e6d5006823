#include <doctest/doctest.h>
#include <qlib/recipe/presets.hpp>

#include <set>
#include <string>

using namespace qlib;

TEST_CASE("a preset is found in any case") {
  REQUIRE(find_preset("w4a16_asym"));
  CHECK(find_preset("w4a16_asym") == find_preset("W4A16_ASYM"));
  CHECK_FALSE(find_preset("W8A8_DYNAMIC"));  // compressed-tensors has no such name
  CHECK_FALSE(find_preset(""));
}

TEST_CASE("W8A8 and INT8 are int8 channels with dynamic int8 tokens") {
  const scheme& w8a8 = find_preset("W8A8")->scheme;
  CHECK(w8a8 == find_preset("INT8")->scheme);
  CHECK(*w8a8.weights == quantization_args{});
  CHECK(*w8a8.input_activations == quantization_args{.strategy = strategy::token, .dynamic = true});
}

TEST_CASE("W2A16 to W8A16 are integers in groups of 128 with float activations") {
  for (int bits = 2; bits <= 8; ++bits) {
    const preset* p = find_preset("W" + std::to_string(bits) + "A16");
    REQUIRE(p);
    CHECK_FALSE(p->scheme.input_activations);
    CHECK(*p->scheme.weights == quantization_args{.num_bits = bits, .strategy = strategy::group, .group_size = 128});
  }
  CHECK(*find_preset("W4A16_ASYM")->scheme.weights ==
        quantization_args{.num_bits = 4, .symmetric = false, .strategy = strategy::group, .group_size = 128});
}

TEST_CASE("the fp8 presets are float8 by channel or by block of 128 x 128") {
  const scheme& dynamic = find_preset("FP8_DYNAMIC")->scheme;
  CHECK(*dynamic.weights == quantization_args{.type = number::floating});
  CHECK(*dynamic.input_activations == quantization_args{.type = number::floating, .strategy = strategy::token, .dynamic = true});
  const scheme& block = find_preset("FP8_BLOCK")->scheme;
  CHECK(*block.weights == quantization_args{.type = number::floating, .strategy = strategy::block, .block_rows = 128, .block_cols = 128});
  CHECK(*block.input_activations == quantization_args{.type = number::floating, .strategy = strategy::group, .group_size = 128, .dynamic = true});
}

TEST_CASE("UNQUANTIZED leaves a layer float") { CHECK(find_preset("UNQUANTIZED")->scheme == scheme{}); }

TEST_CASE("no preset is listed twice, or both as built and as not built") {
  std::set<std::string> names;
  for (const preset& p : presets()) CHECK(names.insert(p.name).second);
  for (const std::string_view name : unbuilt_presets()) {
    CHECK(names.insert(std::string{name}).second);
    CHECK_FALSE(find_preset(name));
  }
}

TEST_CASE("every preset but FP8 is data-free: what is stored of the activations is nothing") {
  for (const preset& p : presets())
    if (p.scheme.input_activations) CHECK(p.scheme.input_activations->dynamic == (p.name != "FP8"));
}
