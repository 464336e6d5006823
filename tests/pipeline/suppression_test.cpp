#include "../model/golden_family.hpp"

#include <qlib/pipeline/calibrate.hpp>
#include <qlib/pipeline/rotate.hpp>
#include <qlib/recipe/flags.hpp>

#include <cmath>
#include <random>

using namespace qlib_test;

namespace {

/// A model whose head has a tensor of its own, with the embedding's values.
struct untied_parameters final : qlib::parameter_source {
  const qlib::parameter_source& base;
  std::string head, embedding;

  untied_parameters(const qlib::parameter_source& source, const qlib::model_description& model)
      : base{source}, head{model.head}, embedding{model.embedding} {}
  std::string stored(const std::string& name) const { return name == head + ".weight" ? embedding + ".weight" : name; }
  std::vector<std::string> names() const override {
    std::vector<std::string> out = base.names();
    if (!base.contains(head + ".weight")) out.push_back(head + ".weight");
    return out;
  }
  bool contains(const std::string& name) const override { return base.contains(stored(name)); }
  std::optional<std::vector<std::uint64_t>> shape(const std::string& name) const override { return base.shape(stored(name)); }
  std::optional<qlib::dtype> type(const std::string& name) const override { return base.type(stored(name)); }
  qlib::status read(const std::string& name, qlib::matrix_view<float> out, std::size_t row) const override {
    return base.read(stored(name), out, row);
  }
  qlib::result<qlib::linear_weight> linear(const std::string& module) const override { return base.linear(module == head ? embedding : module); }
  std::string where() const override { return base.where(); }
};

/// A golden family planned with outlier suppression, and what calibration found for it.
struct suppressed_family {
  golden_family family;
  qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  qlib::quantization_plan plan;
  qlib::errors errors;
  qlib::calibration found;

  suppressed_family(const std::string& name, const qlib::recipe& r, const qlib::calibrate_options& options = {}) : family{name} {
    qlib::plan_options how;
    how.model = &family.model.description;
    errors = qlib::make_plan(family.model.source, family.model.layout, r, how, plan);
    if (!errors.empty()) return;
    auto c = qlib::calibrate(family.decoder(source), plan, samples(), options);
    REQUIRE_MESSAGE(c, (c ? "" : c.error().text()));
    found = *std::move(c);
  }

  std::vector<std::vector<std::int32_t>> samples() const {
    std::vector<std::vector<std::int32_t>> out;
    for (std::size_t s = 0; s + 1 < family.rows.size(); ++s)
      out.emplace_back(family.ids.begin() + static_cast<std::ptrdiff_t>(family.rows[s]),
                       family.ids.begin() + static_cast<std::ptrdiff_t>(family.rows[s + 1]));
    return out;
  }

  /// How far the logits move when columns of the linears change by one unit in the last place: no fold can be closer than that.
  double movement_of_one_ulp() const {
    qlib::forward_hook hook;
    const std::vector<float> plain = family.run(source, hook).logits;
    double largest = 0;
    for (unsigned seed = 1; seed <= 4; ++seed) {
      qlib::model_folds folds;
      std::mt19937 random{seed};
      for (const std::string& name : source.names()) {
        const auto shape = source.shape(name);
        if (!name.ends_with(".weight") || shape->size() != 2 || name.find("embed") != name.npos) continue;
        qlib::scaling s;
        for (std::uint64_t c = 0; c < (*shape)[1]; ++c) s.columns.push_back(1.0f + static_cast<float>(static_cast<int>(random() % 3) - 1) * 0x1p-23f);
        folds.matrices[name.substr(0, name.size() - 7)].push_back(std::move(s));
      }
      largest = std::max(largest, relative_difference(family.run(qlib::folded_parameters{source, folds}, hook).logits, plain));
    }
    return largest;
  }

  /// 1e-5 of the largest logit; the gated delta nets are not that stable: their logits move by 2e-5 with a unit in the last place. `roundings`
  /// of an element: one of a scaling, of a rotation one a stage.
  bool keeps_function(double roundings = 1) const {
    const double difference = logit_difference();
    return difference <= 1e-5 || (family.model.description.delta_net.key_heads > 0 && difference <= roundings * movement_of_one_ulp());
  }

  double logit_difference() const {
    qlib::forward_hook hook;
    const std::vector<float> plain = family.run(source, hook).logits;
    const qlib::model_description& model = family.model.description;
    if (!plan.rotation || !model.tied) return relative_difference(family.run(qlib::folded_parameters{source, found.folds}, hook).logits, plain);
    const untied_parameters untied{source, model};
    const qlib::folded_parameters folded{untied, found.folds};
    qlib::model_description changed = model;
    changed.tied = false;
    qlib::decoder decoder;
    const qlib::errors bad = qlib::decoder::create(changed, folded, {.gemm = {.kind = qlib::gemm_kind::reproducible}}, decoder);
    REQUIRE_MESSAGE(bad.empty(), text_of(bad));
    return relative_difference(run_forward(decoder, family.ids, family.rows, hook).logits, plain);
  }
};

qlib::recipe recipe_of(const std::string& quant_type, const std::string& anti_method = {}) {
  qlib::recipe r;
  const qlib::errors bad = qlib::recipe_from_flags({.quant_type = quant_type, .anti_method = anti_method}, r);
  REQUIRE_MESSAGE(bad.empty(), text_of(bad));
  return r;
}

qlib::recipe suppressed_by(const std::string& quant_type, qlib::policy_choice suppressor) {
  qlib::recipe r = recipe_of(quant_type);
  qlib::suppression_stage& s = r.suppression.emplace_back();
  s.name = s.where = "test";
  s.suppressor = std::move(suppressor);
  s.query_key = s.suppressor.name == "kv_smooth";
  if (s.query_key) s.norm_linear = s.ov = s.up_down = false;
  return r;
}

}  // namespace

TEST_CASE("the float function of every family stays, whatever the suppressor" * doctest::test_suite("very long")) {
  for (const std::string& name : golden_families())
    for (const std::string_view policy : qlib::registry::suppressors::names()) {
      if (policy == "none") continue;
      CAPTURE(name);
      CAPTURE(policy);
      const suppressed_family f{name, suppressed_by("w8a8_dynamic", {std::string{policy}, {}})};
      REQUIRE_MESSAGE(f.errors.empty(), text_of(f.errors));
      CHECK(f.found.suppressions.size() == f.plan.suppressions.size());
      CHECK(f.keeps_function());
    }
}

TEST_CASE("the float function of every family stays behind a rotation, or the rotation is refused with a reason" * doctest::test_suite("very long")) {
  std::size_t rotated = 0;
  for (const std::string& name : golden_families()) {
    CAPTURE(name);
    const suppressed_family f{name, recipe_of("w8a8_dynamic", "quarot")};
    if (!f.errors.empty()) {
      CHECK(text_of(f.errors).find("cannot be folded") != std::string::npos);
      continue;
    }
    ++rotated;
    CHECK(f.keeps_function(std::log2(static_cast<double>(f.family.model.description.hidden_size))));
    CHECK_FALSE(f.found.folds.matrices.empty());
  }
  CHECK(rotated >= 12);
}

TEST_CASE("power-of-two scales change no bit of the logits") {
  const golden_family family{"llama"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  qlib::model_folds folds;
  for (std::size_t l = 0; l < family.model.description.layers.size(); ++l)
    for (const qlib::subgraph& g : qlib::subgraphs(family.model.description, l, source)) {
      if (g.kind == qlib::subgraph_kind::query_key) continue;
      const qlib::channel_map map{g.repeats, g.repeat_width};
      std::vector<float> scale(g.channels.channels());
      for (std::size_t c = 0; c < scale.size(); ++c) scale[c] = std::ldexp(1.0f, static_cast<int>(c % 5) - 2);
      for (const std::string& t : g.targets) folds.matrices[t].push_back(qlib::scaling{map.expand(scale), {}});
      if (g.kind == qlib::subgraph_kind::norm_linear) {
        auto& gain = folds.vectors[g.source + ".weight"];
        gain.resize(scale.size());
        REQUIRE(source.read(g.source + ".weight", {gain.data(), 1, gain.size()}));
        for (std::size_t c = 0; c < gain.size(); ++c) gain[c] /= scale[c];
      } else {
        qlib::scaling rows;
        rows.rows.assign((*source.shape(g.source + ".weight"))[0], 1.0f);
        for (std::size_t c = 0; c < scale.size(); ++c) rows.rows[g.channels.row(c)] = scale[c];
        folds.matrices[g.source].push_back(rows);
      }
    }
  qlib::forward_hook hook;
  const qlib::folded_parameters folded{source, folds};
  CHECK(family.run(folded, hook).logits == family.run(source, hook).logits);
}

TEST_CASE("folded gains are values of their dtype, and the scale of the readers makes up for their rounding") {
  const suppressed_family f{"mistral", suppressed_by("w8a8_dynamic", {"iter_smooth", {}})};
  std::size_t gains = 0;
  for (const auto& [name, values] : f.found.folds.vectors) {
    const qlib::dtype type = *f.source.type(name);
    for (const float v : values) CHECK(qlib::round_to(type, v) == v);
    gains += name.ends_with("norm.weight");
  }
  CHECK(gains >= 2);
}

TEST_CASE("ranges behind a sub-graph that follow from extremes equal those that a second run observes") {
  for (const bool running : {true, false}) {
    qlib::recipe r = suppressed_by("w8a8", {"iter_smooth", {}});
    r.stages[0].input_observer = {"minmax", {{"running", running ? "true" : "false"}}};
    qlib::calibrate_options once, twice;
    once.range_scores = false;
    const suppressed_family one{"llama", r, once}, two{"llama", r, twice};
    REQUIRE(one.found.operands.size() == two.found.operands.size());
    REQUIRE_FALSE(one.found.operands.empty());
    for (std::size_t i = 0; i < one.found.operands.size(); ++i) {
      CHECK(one.found.operands[i].scales == two.found.operands[i].scales);
      CHECK(one.found.operands[i].zero_points == two.found.operands[i].zero_points);
      CHECK(one.found.operands[i].tokens == two.found.operands[i].tokens);
    }
    CHECK(two.found.operands[0].range_score > 0);
  }
}

TEST_CASE("a suppressor whose result would make the outputs worse is not folded, and the report says so") {
  // Scales that even out the columns of the weights, whatever comes in, and scales that follow the inputs alone: good for few sub-graphs.
  std::size_t dropped = 0;
  for (const char* alpha : {"0", "1"})
    for (const char* type : {"w4a16", "w8a8"}) {
      qlib::recipe r = suppressed_by(type, {"iter_smooth", {{"alpha", alpha}}});
      if (r.stages[0].scheme.weights->group_size) r.stages[0].scheme.weights->group_size = 16;
      const suppressed_family f{"llama", r};
      for (const qlib::suppression_report& report : f.found.suppressions) {
        CHECK((!report.kept || report.error_after <= report.error_before));
        dropped += !report.kept && report.error_after > report.error_before;
      }
      CHECK(f.keeps_function());
    }
  CHECK(dropped > 0);
}

TEST_CASE("suppressors chain: the second one sees what the first one left") {
  qlib::recipe r = suppressed_by("w8a8_dynamic", {"smooth_quant", {}});
  r.suppression.push_back(r.suppression[0]);
  const suppressed_family f{"qwen3_moe", r};
  REQUIRE(f.errors.empty());
  CHECK(f.keeps_function());
  // Smoothed twice with the same rule: what is left to do is the square root of nothing but rounding of gains.
  for (const auto& [module, steps] : f.found.folds.matrices) CHECK(steps.size() <= 4);
}

TEST_CASE("results of suppression do not depend on threads or chunks") {
  const qlib::recipe r = suppressed_by("w8a8", {"iter_smooth", {}});
  const suppressed_family f{"qwen3_moe", r};
  for (const std::size_t threads : {2, 7}) {
    auto again = qlib::calibrate(f.family.decoder(f.source, threads, 16), f.plan, f.samples());
    REQUIRE(again);
    CHECK(again->folds.vectors == f.found.folds.vectors);
    for (std::size_t i = 0; i < f.found.operands.size(); ++i) CHECK(again->operands[i].scales == f.found.operands[i].scales);
  }
}

TEST_CASE("clipping takes every quantized reader but queries and keys, whether its sub-graph is rescaled or not, and lowers its error") {
  struct expected {
    const char* family;
    std::vector<const char*> clipped, left;
  };
  for (const expected& e : std::vector<expected>{
           {"llama", {"v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, {"q_proj", "k_proj"}},
           {"phi3_longrope", {"o_proj", "gate_up_proj", "down_proj"}, {"qkv_proj"}},
           {"qwen3_moe", {"v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, {"q_proj", "k_proj"}},
           {"deepseek_v3", {"q_a_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, {"q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"}}}) {
    const std::string family = e.family;
    CAPTURE(family);
    qlib::recipe r = suppressed_by("w4a16", {"awq", {{"clip", "true"}}});
    r.stages[0].scheme.weights->group_size = 8;
    const suppressed_family f{family, r};
    REQUIRE_MESSAGE(f.errors.empty(), text_of(f.errors));
    std::map<std::string, std::size_t> clips;  // by the last part of a module's name
    for (const auto& [module, steps] : f.found.folds.matrices)
      for (const qlib::fold_step& step : steps)
        if (const auto* c = std::get_if<qlib::clipping>(&step)) {
          ++clips[module.substr(module.rfind('.') + 1)];
          const auto shape = *f.source.shape(module + ".weight");
          CHECK(c->steps.size() == qlib::grid_of(c->shape, shape[0], shape[1]).tiles());
        }
    for (const char* name : e.clipped) CHECK_MESSAGE(clips.contains(name), name);
    for (const char* name : e.left) CHECK_MESSAGE(!clips.contains(name), name);
    for (const qlib::suppression_report& g : f.found.suppressions) {
      CHECK(g.clip_error_after <= g.clip_error_before);
      CHECK(g.clipped <= g.tiles);
      CHECK((g.clipped == 0 || g.clip_error_after < g.clip_error_before));
    }
  }
  qlib::recipe r = suppressed_by("w4a16", {"awq", {{"clip", "true"}, {"n_grid", "1"}}});  // no scale but 1 is tried
  r.stages[0].scheme.weights->group_size = 8;
  const suppressed_family alone{"llama", r};
  REQUIRE(alone.found.suppressions.size() > 0);
  for (const qlib::suppression_report& g : alone.found.suppressions) {
    CHECK_FALSE(g.kept);
    CHECK(g.clipped > 0);
  }
}

TEST_CASE("without the option nothing is clipped") {
  const suppressed_family plain{"mistral", suppressed_by("w8a16", {"awq", {}})};
  REQUIRE(plain.found.suppressions.size() > 0);
  for (const qlib::suppression_report& g : plain.found.suppressions) CHECK(g.tiles == 0);
  for (const auto& [module, steps] : plain.found.folds.matrices)
    for (const qlib::fold_step& step : steps) CHECK_FALSE(std::holds_alternative<qlib::clipping>(step));
}

TEST_CASE("unknown suppressors and options are errors of the plan that list the known ones") {
  const suppressed_family unknown{"llama", suppressed_by("w8a8_dynamic", {"smoth_quant", {}})};
  CHECK(text_of(unknown.errors).find("use one of none, smooth_quant") != std::string::npos);
  const suppressed_family option{"llama", suppressed_by("w8a8_dynamic", {"smooth_quant", {{"alfa", "1"}}})};
  CHECK(text_of(option.errors).find("known options: alpha") != std::string::npos);
}

TEST_CASE("static types find the layers of a model that has towers beside its text part") {
  for (const char* name : {"llava", "glm4v"}) {
    CAPTURE(name);
    const suppressed_family f{name, recipe_of("w8a8", "m4")};
    REQUIRE_MESSAGE(f.errors.empty(), text_of(f.errors));
    CHECK_FALSE(f.plan.operands.empty());
    for (const qlib::calibrated_operand& o : f.plan.operands) CHECK_MESSAGE(o.name.find("layers.") != o.name.npos, o.name);
    CHECK(f.keeps_function());
  }
}

TEST_CASE("a refused rotation says what it cannot pass") {
  for (const auto& [name, reason] :
       {std::pair{"starcoder2", "subtracts the mean"}, std::pair{"olmo2", "without a norm"}, std::pair{"gemma", "engines take it"},
        std::pair{"glm4v", "stands behind a branch"}, std::pair{"llava", "tower writes"}}) {
    CAPTURE(name);
    const suppressed_family f{name, recipe_of("w8a8_dynamic", "quarot")};
    CHECK(text_of(f.errors).find(reason) != std::string::npos);
  }
  CHECK(text_of(suppressed_family{"gpt_neox", recipe_of("w8a8_dynamic", "quarot")}.errors).find("subtracts the mean") != std::string::npos);
}
