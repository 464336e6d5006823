#include "../io/temporary_folder.hpp"
#include "plain_latent.hpp"

#include <qlib/model/folds.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <fstream>
#include <map>
#include <random>

using namespace qlib_test;

namespace {

/// Asks for a form of latent attention, and keeps the rows that it is shown.
struct latent_hook final : qlib::forward_hook {
  qlib::latent_use use = qlib::latent_use::expanded;
  std::map<std::string, std::array<std::vector<float>, 3>> seen;
  std::size_t expanded = 0;
  float factor = 1;  ///< of what probabilities see
  std::vector<float> shifted;
  float shift = 0;  ///< of the input of kv_b_proj

  explicit latent_hook(qlib::latent_use wanted) : use{wanted} {}

  qlib::matrix_view<const float> input(const qlib::linear_input& in, std::size_t i) override {
    if (shift == 0 || !in.modules[i].ends_with("kv_b_proj")) return in.x;
    shifted.assign(in.x.data(), in.x.data() + in.x.size());
    for (float& v : shifted) v += shift;
    return {shifted.data(), in.x.rows(), in.x.cols()};
  }
  qlib::latent_use use_of_latent(const std::string& module) override {
    CHECK(module.ends_with(".self_attn"));
    return use;
  }
  void latent_input(const std::string& module, const qlib::latent_operands& in) override {
    const std::array<qlib::matrix_view<float>, 3> operands{in.query, in.key, in.value};
    for (std::size_t i = 0; i < 3; ++i) {
      std::vector<float>& to = seen[module][i];
      CHECK(in.rows_of_sample.back() == operands[i].rows());
      for (std::size_t r = 0; r < operands[i].rows(); ++r) to.insert(to.end(), operands[i].row(r), operands[i].row(r) + operands[i].cols());
    }
    if (factor != 1)
      for (std::size_t r = 0; r < in.value.rows(); ++r)
        for (std::size_t c = 0; c < in.value.cols(); ++c) in.value(r, c) *= factor;
  }
  void attention_input(std::size_t, const std::string&, qlib::matrix_view<float> q, qlib::matrix_view<float>, qlib::matrix_view<float>,
                       std::span<const std::size_t>, std::size_t) override {
    expanded += q.rows();
  }
};

constexpr std::array latent_families{"deepseek_v2", "deepseek_v2_group", "deepseek_v3", "glm_moe_dsa"};

}  // namespace

TEST_CASE("latent attention in absorbed form has the logits of transformers, and those of the expanded form") {
  for (const char* name : latent_families) {
    CAPTURE(name);
    const golden_family family{name};
    const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
    latent_hook expanded{qlib::latent_use::expanded}, absorbed{qlib::latent_use::absorbed};
    const forward_result plain = family.run(source, expanded), other = family.run(source, absorbed);
    CHECK(relative_difference(other.logits, plain.logits) <= 1e-5);
    CHECK(relative_difference(other.logits, plain.logits) > 0);  // it is another sum
    CHECK(relative_difference(other.logits, family.reference("logits")) <= 2e-4);
    CHECK(expanded.expanded == 2 * 48);
    CHECK(absorbed.expanded == 0);
  }
}

TEST_CASE("the same weights under other latent families' names agree in both forms") {
  struct renamed {
    std::string type, base;
  };
  for (const renamed& family : {renamed{"kimi_k2", "deepseek_v3"}, {"glm4_moe_lite", "deepseek_v3"}, {"deepseek_v32", "glm_moe_dsa"}}) {
    CAPTURE(family.type);
    temporary_folder folder;
    const std::string from = families_folder() + "/" + family.base;
    nlohmann::json config;
    std::ifstream{from + "/config.json"} >> config;
    config["model_type"] = family.type;
    if (family.type == "deepseek_v32") config["scoring_func"] = "sigmoid";
    folder.write("config.json", config.dump());
    std::filesystem::copy(from + "/model.safetensors", folder.path("model.safetensors"));
    const opened_model model{folder.path()};
    REQUIRE_MESSAGE(model.found.empty(), text_of(model.found));
    const qlib::checkpoint_parameters source{model.source, model.layout};
    qlib::decoder decoder;
    const qlib::errors found = qlib::decoder::create(model.description, source, {.gemm = {.kind = qlib::gemm_kind::reproducible}}, decoder);
    REQUIRE_MESSAGE(found.empty(), text_of(found));
    const golden_family ids{family.base};
    latent_hook expanded{qlib::latent_use::expanded}, absorbed{qlib::latent_use::absorbed};
    CHECK(relative_difference(run_forward(decoder, ids.ids, ids.rows, absorbed).logits, run_forward(decoder, ids.ids, ids.rows, expanded).logits) <=
          1e-5);
    CHECK(absorbed.seen.size() == 2);
  }
}

TEST_CASE("absorbed queries and the compressed vector are what the weights say, and observing them changes no bit") {
  for (const char* name : latent_families) {
    CAPTURE(name);
    const golden_family family{name};
    const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
    latent_hook expanded{qlib::latent_use::expanded}, observed{qlib::latent_use::observed};
    const forward_result plain = family.run(source, expanded), other = family.run(source, observed);
    CHECK(other.logits == plain.logits);
    CHECK(expanded.seen.empty());
    REQUIRE(observed.seen.size() == 2);
    for (std::size_t l = 0; l < 2; ++l) {
      const auto& [query, key, value] = observed.seen["model.layers." + std::to_string(l) + ".self_attn"];
      const plain_operands want = plain_latent(family.model.description, source, l, plain.hidden[l]);
      // f32 sums of at most 48 products, three in a row: 3 * 48 * 2^-24 = 9e-6 of the largest value.
      CHECK(relative_difference(query, floats_of(want.query)) <= 1e-5);
      CHECK(relative_difference(key, floats_of(want.latent)) <= 1e-5);
      CHECK(value == key);
    }
  }
}

TEST_CASE("absorbed attention computes on what the hook leaves") {
  const golden_family family{"deepseek_v3"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  latent_hook expanded{qlib::latent_use::expanded}, absorbed{qlib::latent_use::absorbed}, doubled{qlib::latent_use::absorbed};
  doubled.factor = 2;
  const forward_result plain = family.run(source, expanded), other = family.run(source, doubled);
  CHECK(relative_difference(other.logits, plain.logits) > 0.01);
  // Twice the values are twice the value rows.
  qlib::model_folds folds;
  const qlib::attention_description& a = family.model.description.attention;
  for (std::size_t l = 0; l < 2; ++l) {
    qlib::scaling rows;
    for (std::size_t h = 0; h < a.heads; ++h) {
      rows.rows.insert(rows.rows.end(), a.latent->nope_dim, 1.0f);
      rows.rows.insert(rows.rows.end(), a.value_dim, 0.5f);
    }
    folds.matrices["model.layers." + std::to_string(l) + ".self_attn.kv_b_proj"].push_back(std::move(rows));
  }
  const qlib::folded_parameters folded{source, folds};
  CHECK(relative_difference(family.run(folded, expanded).logits, other.logits) <= 1e-5);

  // What kv_b_proj reads is what is cached.
  latent_hook shifted{qlib::latent_use::expanded}, both{qlib::latent_use::absorbed};
  shifted.shift = both.shift = 0.25f;
  const forward_result moved = family.run(source, shifted);
  CHECK(relative_difference(moved.logits, plain.logits) > 0.01);
  CHECK(relative_difference(family.run(source, both).logits, moved.logits) <= 1e-5);
}

TEST_CASE("a bias of kv_b_proj is the same in both forms") {
  const golden_family family{"deepseek_v2"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  qlib::model_folds folds;
  std::mt19937 random{7};
  for (std::size_t l = 0; l < 2; ++l) {
    std::vector<float>& bias = folds.vectors["model.layers." + std::to_string(l) + ".self_attn.kv_b_proj.bias"];
    for (std::size_t i = 0; i < 4 * 28; ++i) bias.push_back(static_cast<float>(random() % 1000) / 500.0f - 1.0f);
  }
  const qlib::folded_parameters biased{source, folds};
  latent_hook expanded{qlib::latent_use::expanded}, absorbed{qlib::latent_use::absorbed};
  const forward_result plain = family.run(source, expanded), with = family.run(biased, expanded);
  CHECK(relative_difference(with.logits, plain.logits) > 0.01);
  CHECK(relative_difference(family.run(biased, absorbed).logits, with.logits) <= 1e-5);
}

TEST_CASE("threads and chunks change no bit of absorbed attention") {
  const golden_family family{"glm_moe_dsa"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  for (const auto use : {qlib::latent_use::observed, qlib::latent_use::absorbed}) {
    latent_hook first{use};
    const forward_result one = family.run(source, first);
    for (const std::size_t threads : {2, 7})
      for (const std::size_t chunk : {1, 2048}) {
        latent_hook hook{use};
        CHECK(family.run(source, hook, threads, chunk).logits == one.logits);
        CHECK(hook.seen == first.seen);
      }
  }
}
