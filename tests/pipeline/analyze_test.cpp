#include "../io/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <qlib/format/simulated_model.hpp>
#include <qlib/io/file.hpp>
#include <qlib/io/safetensors.hpp>
#include <qlib/pipeline/analyze.hpp>
#include <qlib/pipeline/calibrate.hpp>
#include <qlib/pipeline/evaluate.hpp>
#include <qlib/pipeline/partly_quantized.hpp>
#include <qlib/pipeline/run.hpp>
#include <qlib/recipe/flags.hpp>
#include <qlib/recipe/yaml.hpp>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <set>

using namespace qlib;
using qlib_test::temporary_folder;

namespace {

const std::string sources = QLIB_SOURCE_DIR "/tests/golden/data/sources/", tiny = QLIB_SOURCE_DIR "/examples/tiny_llama";
using samples = std::vector<std::vector<std::int32_t>>;

/// Ids that no model was trained on, but the same on every machine.
samples made_ids(std::size_t count, std::size_t length, std::size_t vocabulary) {
  samples out(count, std::vector<std::int32_t>(length));
  std::uint64_t state = 88172645463325252u;
  for (auto& s : out)
    for (std::int32_t& id : s) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      id = static_cast<std::int32_t>(state % vocabulary);
    }
  return out;
}

samples stored_ids(const std::string& path, std::size_t count, std::size_t length) {
  safetensors_file file;
  REQUIRE(safetensors_file::open(path, file).empty());
  const tensor_info* t = file.find("ids");
  REQUIRE(t != nullptr);
  samples out(count, std::vector<std::int32_t>(length));
  for (std::size_t s = 0; s < count; ++s) std::memcpy(out[s].data(), file.bytes(*t).data() + s * t->shape[1] * 4, length * 4);
  return out;
}

/// A float model and the plan that a recipe makes of it.
struct planned_model {
  checkpoint source;
  model_layout layout;
  model_description description;
  std::unique_ptr<checkpoint_parameters> parameters;
  quantization_plan plan;
  std::optional<calibration> found;

  planned_model(const std::string& directory, const qlib::recipe& r, const registry::formats::any& format, const samples& calibrate_with) {
    REQUIRE(checkpoint::open(directory, source).empty());
    REQUIRE(read_model_layout(source, layout).empty());
    REQUIRE(read_model_description(source.config_text(), directory, description).empty());
    plan_options options;
    options.format = format;
    options.model = &description;
    const errors bad = make_plan(source, layout, r, options, plan);
    REQUIRE_MESSAGE(bad.empty(), (bad.empty() ? "" : bad.front().text()));
    parameters = std::make_unique<checkpoint_parameters>(source, layout);
    if (plan.operands.empty()) return;
    decoder model;
    REQUIRE(decoder::create(description, *parameters, forward(), model).empty());
    auto ranges = calibrate(model, plan, calibrate_with);
    REQUIRE(ranges);
    found = *std::move(ranges);
  }

  static decoder_options forward() { return {.gemm = {.kind = gemm_kind::reproducible}, .threads = 2}; }

  result<analysis> analyzed(const samples& s, analyze_options o = {}) const {
    if (o.forward.gemm.kind != gemm_kind::reproducible) o.forward = forward();
    return analyze(description, *parameters, plan, found ? &*found : nullptr, s, o);
  }
};

qlib::recipe flags_recipe(const std::string& type, std::size_t group_size = 0) {
  qlib::recipe r;
  quant_flags flags;
  flags.quant_type = type;
  flags.group_size = group_size;
  REQUIRE(recipe_from_flags(flags, r).empty());
  return r;
}

const layer_sensitivity& named(const analysis& a, const std::string& name) {
  const auto at = std::find_if(a.layers.begin(), a.layers.end(), [&](const layer_sensitivity& l) { return l.layers.name == name; });
  REQUIRE_MESSAGE(at != a.layers.end(), name);
  return *at;
}

}  // namespace

TEST_CASE("linears that engines fuse are one group, and every quantized linear is in one") {
  const planned_model llama{tiny, flags_recipe("w8a8_dynamic"), ascend_v1_format{}, {}};
  std::vector<std::string> outside;
  const auto groups = fused_layers_of(llama.plan, llama.description, outside);
  CHECK(outside.empty());
  REQUIRE(groups.size() == 24);
  std::multiset<std::string> modules;
  for (const fused_layers& g : groups) {
    modules.insert(g.patterns.begin(), g.patterns.end());
    const bool attention = g.name.find("v_proj") != std::string::npos;
    CHECK(g.items.size() == (attention ? 3 : g.name.find("up_proj") != std::string::npos ? 2 : 1));
    CHECK(g.name.starts_with("model.layers." + std::to_string(g.layer) + "."));
    CHECK(g.quant_type == "W8A8_DYNAMIC");
  }
  CHECK(modules.size() == llama.plan.quantized);
  CHECK(std::set<std::string>(modules.begin(), modules.end()).size() == modules.size());
  // o_proj: 256 x 256 of bf16; int8 codes, and a scale and an offset a row in f32.
  const auto o = std::find_if(groups.begin(), groups.end(), [](const fused_layers& g) { return g.name == "model.layers.2.self_attn.o_proj"; });
  REQUIRE(o != groups.end());
  CHECK(o->float_bytes == 131072);
  CHECK(o->quantized_bytes == 65536 + 256 * 8);

  const planned_model moe{sources + "qwen3_moe", flags_recipe("w8a8_dynamic"), ascend_v1_format{}, {}};
  std::size_t experts = 0;
  for (const fused_layers& g : fused_layers_of(moe.plan, moe.description, outside)) {
    if (g.name.find("experts") == std::string::npos) continue;
    ++experts;
    CHECK(g.patterns == std::vector<std::string>{"model.layers." + std::to_string(g.layer) + ".mlp.experts.*"});
    CHECK(g.items.size() == 3 * moe.description.experts.routing.experts);
  }
  CHECK(experts == moe.description.layers.size());
  CHECK(outside.empty());
}

TEST_CASE("quantizing every group at once is as far from the float model as the folder that quantization writes") {
  struct type_case {
    const char *type, *model;
    std::size_t group_size;
    bool compressed;
  };
  for (const type_case& c :
       {type_case{"w8a8_dynamic", "llama128", 0, false}, type_case{"w8a8_dynamic", "llama128", 0, true}, type_case{"w8a8", "llama128", 0, false},
        type_case{"w8a8_mix", "llama128", 0, false}, type_case{"w8a16", "llama128", 0, false}, type_case{"w4a16", "llama128", 32, false},
        type_case{"w4a16", "llama128", 32, true}, type_case{"fp8_dynamic", "llama128", 0, false}, type_case{"fp8_dynamic", "llama128", 0, true},
        type_case{"fp8", "llama128", 0, true}, type_case{"w8a8_dynamic", "qwen3_moe", 0, true}, type_case{"w4a16", "qwen3_moe", 32, true},
        type_case{"w8a8", "families/qwen2_moe", 0, false}, type_case{"w8a8_dynamic", "families/qwen2_moe", 0, false}}) {
    CAPTURE(c.type);
    CAPTURE(c.model);
    CAPTURE(c.compressed);
    temporary_folder folder;
    const std::string source =
        std::string{c.model}.starts_with("families") ? QLIB_SOURCE_DIR "/tests/golden/" + std::string{c.model} : sources + c.model;
    const samples s = made_ids(3, 24, 64);
    registry::formats::any format{ascend_v1_format{}};
    if (c.compressed) format = compressed_tensors_format{};
    const planned_model m{source, flags_recipe(c.type, c.group_size), format, s};
    const auto a = m.analyzed(s);
    REQUIRE_MESSAGE(a, (a ? "" : a.error().text()));
    run_options run;
    run.save_path = folder.path("out");
    run.found = m.found ? &*m.found : nullptr;
    REQUIRE(run_plan(m.source, m.plan, run));
    evaluation_options how;
    how.gemm.kind = gemm_kind::reproducible;
    evaluation e;
    const errors bad = evaluate(run.save_path, source, s, how, e);
    REQUIRE_MESSAGE(bad.empty(), (bad.empty() ? "" : bad.front().text()));
    REQUIRE(a->kl_all);
    CHECK(*e.kl > 0);
    // The same codes, inputs and folded biases: only KL's sums are in another order.
    CHECK(*a->kl_all == doctest::Approx(*e.kl).epsilon(1e-12));
  }
}

TEST_CASE("every family of models is analyzed, each of its quantized linears in one group") {
  std::size_t families = 0;
  for (const auto& entry : std::filesystem::directory_iterator{QLIB_SOURCE_DIR "/tests/golden/families"}) {
    if (!entry.is_directory()) continue;
    CAPTURE(entry.path().string());
    ++families;
    const planned_model m{entry.path().string(), flags_recipe("w8a8_dynamic"), ascend_v1_format{}, {}};
    analyze_options o;
    o.keep = 1;
    const auto a = m.analyzed(made_ids(2, 9, m.description.vocabulary), o);
    REQUIRE_MESSAGE(a, (a ? "" : a.error().text()));
    CHECK(a->warnings.empty());
    std::size_t linears = 0;
    for (const layer_sensitivity& l : a->layers) {
      linears += l.layers.items.size();
      CHECK(*l.kl >= 0);
      CHECK(l.range_score > 0);
      CHECK(l.mse > 0.0);
      CHECK(*l.mse < 0.01);
      if (std::ranges::all_of(l.layers.items, [&](std::size_t i) { return m.plan.items[i].name.find("indexer") != std::string::npos; })) continue;
      CHECK(*l.kl > 0);
    }
    CHECK(linears == m.plan.quantized);

    // The list means to quantization what it means here.
    qlib::recipe fewer;
    quant_flags flags;
    flags.quant_type = "w8a8_dynamic";
    flags.disable_names = a->disable_names();
    REQUIRE(recipe_from_flags(flags, fewer).empty());
    const planned_model rest{entry.path().string(), fewer, ascend_v1_format{}, {}};
    CHECK(rest.plan.quantized == m.plan.quantized - a->layers[0].layers.items.size());
  }
  CHECK(families > 20);
}

TEST_CASE("KL of a group is that of a checkpoint in which it alone is quantized") {
  const samples s = made_ids(2, 40, 128);
  const planned_model all{sources + "llama128", flags_recipe("w4a16", 32), compressed_tensors_format{}, {}};
  const auto a = all.analyzed(s);
  REQUIRE(a);
  for (const layer_sensitivity& l : a->layers) {
    CAPTURE(l.layers.name);
    temporary_folder folder;
    qlib::recipe one = flags_recipe("w4a16", 32);
    one.stages[0].targets = l.layers.patterns;
    const planned_model alone{sources + "llama128", one, compressed_tensors_format{}, {}};
    run_options run;
    run.save_path = folder.path("out");
    REQUIRE(run_plan(alone.source, alone.plan, run));
    evaluation_options how;
    how.gemm.kind = gemm_kind::reproducible;
    evaluation e;
    REQUIRE(evaluate(run.save_path, sources + "llama128", s, how, e).empty());
    REQUIRE(l.kl);
    CHECK(*l.kl == doctest::Approx(*e.kl).epsilon(1e-6));
  }
  for (std::size_t i = 1; i < a->layers.size(); ++i) CHECK(*a->layers[i - 1].kl >= *a->layers[i].kl);
}

TEST_CASE("the error of a layer's own output is that of the product") {
  const samples s = made_ids(1, 16, 128);
  const planned_model m{sources + "llama128", flags_recipe("w8a8_dynamic"), ascend_v1_format{}, {}};
  analyze_options o;
  o.metric = sensitivity_metric::mse;
  const auto a = m.analyzed(s, o);
  REQUIRE(a);
  CHECK_FALSE(a->kl_all);

  // The input of the first layer's attention is the embedding after its norm; the rest is multiplied out in f64.
  const std::size_t width = m.description.hidden_size;
  std::vector<float> x(16 * width), gain(width), w(width * width);
  const matrix_view<float> input{x.data(), 16, width};
  decoder model;
  REQUIRE(decoder::create(m.description, *m.parameters, planned_model::forward(), model).empty());
  REQUIRE(model.embed(s[0], input));
  REQUIRE(m.parameters->read("model.layers.0.input_layernorm.weight", {gain.data(), 1, width}));
  const auto steps = [&](const double* v, std::vector<double>& out) {  // symmetric int8 of one row
    double most = 0;
    for (std::size_t c = 0; c < width; ++c) most = std::max(most, std::fabs(v[c]));
    for (std::size_t c = 0; c < width; ++c) out[c] = std::nearbyint(v[c] / (most / 127)) * (most / 127);
  };
  std::vector<double> row(width), quantized_row(width), column(width), quantized_column(width);
  const std::vector<std::string> names{"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.v_proj"};
  double expected = 0;
  for (const std::string& name : names) {
    const std::size_t outputs = (*m.parameters->shape(name + ".weight"))[0];
    const matrix_view<float> weight{w.data(), outputs, width};
    REQUIRE(m.parameters->read(name + ".weight", weight));
    double difference = 0, squares = 0;
    for (std::size_t r = 0; r < 16; ++r) {
      double mean = 0;
      for (std::size_t c = 0; c < width; ++c) mean += static_cast<double>(input(r, c)) * input(r, c) / static_cast<double>(width);
      for (std::size_t c = 0; c < width; ++c) row[c] = input(r, c) / std::sqrt(mean + m.description.eps) * gain[c];
      steps(row.data(), quantized_row);
      for (std::size_t o_channel = 0; o_channel < outputs; ++o_channel) {
        for (std::size_t c = 0; c < width; ++c) column[c] = weight(o_channel, c);
        steps(column.data(), quantized_column);
        double y = 0, q = 0;
        for (std::size_t c = 0; c < width; ++c) y += row[c] * column[c], q += quantized_row[c] * quantized_column[c];
        difference += (q - y) * (q - y);
        squares += y * y;
      }
    }
    expected += difference / squares / static_cast<double>(names.size());
  }
  // A plan with them and nothing else.
  qlib::recipe few = flags_recipe("w8a8_dynamic");
  few.stages[0].targets = names;
  const planned_model alone{sources + "llama128", few, ascend_v1_format{}, {}};
  const auto q = alone.analyzed(s, o);
  REQUIRE(q);
  REQUIRE(q->layers.size() == 1);
  // 1e-3: a value near a rounding boundary may fall to its other side in f32, one step of thousands.
  CHECK(*q->layers[0].mse == doctest::Approx(expected).epsilon(1e-3));
}

TEST_CASE("the score by range is what --disable_level ranks by, and costs one forward") {
  const samples s = made_ids(4, 20, 128);
  const planned_model m{sources + "llama128", flags_recipe("w8a8"), ascend_v1_format{}, s};
  analyze_options o;
  o.metric = sensitivity_metric::range;
  const auto a = m.analyzed(s, o);
  REQUIRE(a);
  CHECK(a->cost.forwards <= 1);
  for (const layer_sensitivity& l : a->layers) {
    CHECK_FALSE(l.kl);
    CHECK_FALSE(l.mse);
    for (const std::size_t i : l.layers.items) CHECK(l.range_score == m.found->operands[*m.plan.items[i].operand].range_score);
  }
  const auto first = layers_by_range_score(m.plan, *m.found, 1);
  CHECK(std::ranges::count(a->layers[0].layers.patterns, first[0]) == 1);
  // A plan without operands measures the same inputs.
  const planned_model dynamic{sources + "llama128", flags_recipe("w8a8_dynamic"), ascend_v1_format{}, {}};
  const auto d = dynamic.analyzed(s, o);
  REQUIRE(d);
  for (const layer_sensitivity& l : a->layers) CHECK(named(*d, l.layers.name).range_score == l.range_score);
}

TEST_CASE("threads, chunks and the number of samples at once change nothing") {
  const samples s = made_ids(5, 13, 128);
  const planned_model m{sources + "qwen3_moe", flags_recipe("w8a8_dynamic"), compressed_tensors_format{}, {}};
  const auto base = m.analyzed(s);
  REQUIRE(base);
  analyze_options one, rows;
  one.forward = rows.forward = planned_model::forward();
  one.forward.threads = 1;
  rows.forward.threads = 5;
  rows.forward.chunk_tokens = 7;
  for (const analyze_options& o : {one, rows}) {
    const auto a = m.analyzed(s, o);
    REQUIRE(a);
    CHECK(*a->kl_all == *base->kl_all);
    REQUIRE(a->layers.size() == base->layers.size());
    for (std::size_t i = 0; i < a->layers.size(); ++i) {
      CHECK(a->layers[i].layers.name == base->layers[i].layers.name);
      CHECK(*a->layers[i].kl == *base->layers[i].kl);
      CHECK(a->layers[i].range_score == base->layers[i].range_score);
      // Errors are summed chunk by chunk in f64.
      CHECK(*a->layers[i].mse == doctest::Approx(*base->layers[i].mse).epsilon(1e-12));
    }
  }
}

TEST_CASE("what is kept float is what was asked for, and its KL is measured" * doctest::test_suite("long")) {
  const samples s = stored_ids(tiny + "/calib_ids.safetensors", 2, 64);
  const planned_model m{tiny, flags_recipe("w4a16", 32), compressed_tensors_format{}, {}};
  analyze_options o;
  o.keep = 3;
  const auto kept = m.analyzed(s, o);
  REQUIRE(kept);
  CHECK(kept->kept == std::vector<std::size_t>{0, 1, 2});
  std::uint64_t added = 0;
  std::set<std::string> wanted;
  for (std::size_t i = 0; i < 3; ++i) {
    added += kept->layers[i].layers.added_bytes();
    wanted.insert(kept->layers[i].layers.patterns.begin(), kept->layers[i].layers.patterns.end());
  }
  CHECK(kept->added_bytes == added);
  const std::vector<std::string> names = kept->disable_names();
  CHECK(std::set<std::string>(names.begin(), names.end()) == wanted);
  REQUIRE(kept->kl_kept);
  CHECK(*kept->kl_kept < *kept->kl_all);

  // The same plan with these names disabled is as far away and as much larger.
  qlib::recipe fewer = flags_recipe("w4a16", 32);
  fewer.stages[0].ignore.insert(fewer.stages[0].ignore.end(), names.begin(), names.end());
  const planned_model rest{tiny, fewer, compressed_tensors_format{}, {}};
  CHECK(rest.plan.output_bytes == m.plan.output_bytes + added);
  const auto again = rest.analyzed(s);
  REQUIRE(again);
  CHECK(*again->kl_all == *kept->kl_kept);

  analyze_options budget;
  budget.metric = sensitivity_metric::mse;
  budget.budget = 300000;
  const auto small = m.analyzed(s, budget);
  REQUIRE(small);
  CHECK(small->added_bytes <= 300000);
  CHECK(small->kept.size() > 1);
  for (std::size_t i = 0; i < small->layers.size(); ++i)
    if (!std::ranges::count(small->kept, i)) CHECK(small->added_bytes + small->layers[i].layers.added_bytes() > 300000);
  CHECK_FALSE(small->kl_kept);
  budget.budget = 10;
  const auto none = m.analyzed(s, budget);
  REQUIRE(none);
  CHECK(none->kept.empty());
  CHECK(none->disable_names().empty());
}

TEST_CASE("the metric follows the cost, and the cost is said before the work") {
  const samples s = made_ids(2, 16, 128);
  const planned_model m{sources + "llama128", flags_recipe("w8a8_dynamic"), ascend_v1_format{}, {}};
  analyze_options o;
  std::vector<double> work;
  std::size_t started = 0;
  o.on_start = [&](const analysis_cost& c) {
    ++started;
    CHECK(c.metric == sensitivity_metric::kl);
    CHECK(c.operations > 0);
    CHECK(c.memory > 0);
  };
  o.on_progress = [&](const analysis_progress& p) { work.push_back(p.work_done); };
  const auto a = m.analyzed(s, o);
  REQUIRE(a);
  CHECK(started == 1);
  CHECK(std::ranges::is_sorted(work));
  CHECK(work.back() == 1);
  // What was forecast is what was done: nothing jumps at the end.
  REQUIRE(work.size() > 1);
  CHECK(work[work.size() - 2] == doctest::Approx(1).epsilon(1e-9));
  analyze_options cheap;
  cheap.kl_operations = 1;
  const auto mse = m.analyzed(s, cheap);
  REQUIRE(mse);
  CHECK(mse->cost.metric == sensitivity_metric::mse);
  CHECK(mse->cost.operations < a->cost.operations);
}

TEST_CASE("only the first tokens are used, and the last sample is cut there") {
  const samples s = made_ids(3, 20, 128);
  const planned_model m{sources + "llama128", flags_recipe("w8a8_dynamic"), ascend_v1_format{}, {}};
  analyze_options o;
  o.tokens = 30;
  const auto a = m.analyzed(s, o);
  samples cut{s[0], s[1]};
  cut[1].resize(10);
  const auto b = m.analyzed(cut);
  REQUIRE(a);
  REQUIRE(b);
  CHECK(a->tokens == 30);
  CHECK(a->samples == 2);
  CHECK(*a->kl_all == *b->kl_all);
}

TEST_CASE("what cannot be analyzed is said") {
  const samples s = made_ids(1, 8, 128);
  const planned_model m{sources + "llama128", flags_recipe("w8a8_dynamic"), ascend_v1_format{}, {}};
  const auto problem = [&](const result<analysis>& a) {
    REQUIRE_FALSE(a);
    return a.error().text();
  };
  CHECK(problem(m.analyzed({})).find("hold no token") != std::string::npos);
  CHECK(problem(m.analyzed({{1, 128}})).find("id 128 is not in the vocabulary of 128") != std::string::npos);
  analyze_options o;
  o.max_memory = 1000;
  CHECK(problem(m.analyzed(s, o)).find("--max_memory: is too little") != std::string::npos);
  const planned_model fixed{sources + "llama128", flags_recipe("w8a8"), ascend_v1_format{}, s};
  CHECK(problem(analyze(fixed.description, *fixed.parameters, fixed.plan, nullptr, s)).find("has a static input without parameters") !=
        std::string::npos);
  quantization_plan unknown = m.plan;
  for (work_item& i : unknown.items)
    if (i.encoding) i.encoding->quant_type = "W2A3";
  CHECK(problem(analyze(m.description, *m.parameters, unknown, nullptr, s)).find("the input of type W2A3 is not simulated") != std::string::npos);
}
