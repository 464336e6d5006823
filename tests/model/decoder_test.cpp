#include "golden_family.hpp"

#include <map>
#include <set>

using namespace qlib_test;

TEST_CASE("hidden states of every layer and logits equal those of transformers in every family") {
  const std::vector<std::string> names = golden_families();
  REQUIRE(names.size() == 50);
  for (const std::string& name : names) {
    CAPTURE(name);
    const golden_family family{name};
    const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
    qlib::forward_hook hook;
    const forward_result got = family.run(source, hook);
    // f32 sums of a few hundred terms in another order, and the chunked form of the delta rule, stay below 2e-5; a wrong rule (a
    // window, a softcap, a scale) moves the logits by 0.15 and more.
    for (std::size_t l = 0; l < got.hidden.size(); ++l) {
      const std::string where = "input of layer " + std::to_string(l);
      CAPTURE(where);
      REQUIRE(relative_difference(got.hidden[l], family.reference("hidden." + std::to_string(l))) <= 2e-4);
    }
    CHECK(relative_difference(got.logits, family.reference("logits")) <= 2e-4);
  }
}

TEST_CASE("threads and chunk sizes change no bit of the result") {
  for (const char* name : {"llama_dynamic", "deepseek_v3", "gpt_oss", "qwen3_next", "llama4_text", "gpt_neox", "phimoe", "olmoe", "afmoe"}) {
    CAPTURE(name);
    const golden_family family{name};
    const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
    qlib::forward_hook hook;
    const forward_result one = family.run(source, hook);
    for (const std::size_t threads : {2, 5})
      for (const std::size_t chunk : {1, 24, 2048}) {
        const forward_result other = family.run(source, hook, threads, chunk);
        CHECK(other.hidden == one.hidden);
        CHECK(other.logits == one.logits);
      }
  }
}

TEST_CASE("a sample's result does not depend on the samples beside it, whatever their lengths") {
  for (const char* name : {"llama_dynamic", "phi3_longrope", "deepseek_v3", "qwen3_next"}) {
    CAPTURE(name);
    const golden_family family{name};
    const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
    const qlib::decoder decoder = family.decoder(source, 2);
    qlib::forward_hook hook;
    // 5, 0, 24 and 1 tokens: below and above the lengths at which these ropes change.
    std::vector<std::int32_t> ids(family.ids.begin(), family.ids.begin() + 5);
    ids.insert(ids.end(), family.ids.begin() + 24, family.ids.begin() + 48);
    ids.push_back(family.ids[3]);
    const std::vector<std::size_t> rows{0, 5, 5, 29, 30};
    const forward_result all = run_forward(decoder, ids, rows, hook);
    const std::size_t vocabulary = decoder.description().vocabulary;
    for (std::size_t s = 0; s + 1 < rows.size(); ++s) {
      const std::vector<std::int32_t> alone(ids.begin() + static_cast<std::ptrdiff_t>(rows[s]),
                                            ids.begin() + static_cast<std::ptrdiff_t>(rows[s + 1]));
      if (alone.empty()) continue;
      const forward_result own = run_forward(decoder, alone, {0, alone.size()}, hook);
      CHECK(std::equal(own.logits.begin(), own.logits.end(), all.logits.begin() + static_cast<std::ptrdiff_t>(rows[s] * vocabulary)));
    }
  }
}

namespace {

/// Counts what it is shown.
struct counting_hook final : qlib::forward_hook {
  std::map<std::string, std::size_t> rows, calls;
  std::vector<std::string> order;
  std::size_t attention_rows = 0, next_sample = 0;
  bool in_order = true;

  qlib::matrix_view<const float> input(const qlib::linear_input& in, std::size_t i) override {
    in_order = in_order && in.rows_of_sample.back() == in.x.rows() && in.rows_of_sample.front() == 0 && i < in.modules.size();
    rows[in.modules[i]] += in.x.rows();
    ++calls[in.modules[i]];
    order.push_back(in.modules[i]);
    return in.x;
  }
  void attention_input(std::size_t, const std::string& module, qlib::matrix_view<float> q, qlib::matrix_view<float> k, qlib::matrix_view<float> v,
                       std::span<const std::size_t>, std::size_t) override {
    in_order = in_order && module.ends_with(".self_attn") && q.rows() == k.rows() && k.rows() == v.rows();
    attention_rows += q.rows();
  }
};

}  // namespace

TEST_CASE("the hook sees every linear, under its name on disk, with every row that it computes") {
  const golden_family family{"deepseek_v3"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  counting_hook hook;
  family.run(source, hook, 1, 24);
  CHECK(hook.in_order);
  CHECK(hook.attention_rows == 2 * 48);
  for (const char* module : {"model.layers.0.self_attn.q_a_proj", "model.layers.0.self_attn.kv_b_proj", "model.layers.0.mlp.down_proj",
                             "model.layers.1.mlp.gate", "model.layers.1.mlp.shared_experts.up_proj", "lm_head"})
    CHECK(hook.rows[module] == 48);
  CHECK(hook.calls["model.layers.0.self_attn.q_b_proj"] == 2);  // once a chunk of one sample
  std::size_t routed = 0;
  for (int e = 0; e < 8; ++e) {
    const std::string expert = "model.layers.1.mlp.experts." + std::to_string(e) + ".";
    CHECK(hook.rows[expert + "gate_proj"] == hook.rows[expert + "down_proj"]);
    routed += hook.rows[expert + "gate_proj"];
  }
  CHECK(routed == 48 * 3);
  std::set<std::string> linears;
  for (const qlib::matrix_module& m : family.model.layout.matrices)
    if (m.kind != qlib::module_class::embedding) linears.insert(m.name);
  for (const auto& seen : hook.rows) CHECK_MESSAGE(linears.contains(seen.first), seen.first);
}

TEST_CASE("stacked experts and the linears of an indexer are shown too") {
  {
    const golden_family family{"gpt_oss"};
    const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
    counting_hook hook;
    family.run(source, hook);
    CHECK(hook.rows["model.layers.0.mlp.experts.0.gate_proj"] + hook.rows["model.layers.0.mlp.experts.1.gate_proj"] +
              hook.rows["model.layers.0.mlp.experts.2.gate_proj"] + hook.rows["model.layers.0.mlp.experts.3.gate_proj"] ==
          48 * 2);
  }
  const golden_family family{"glm_moe_dsa"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  counting_hook hook;
  family.run(source, hook);
  for (const char* linear : {"wq_b", "wk", "weights_proj"}) CHECK(hook.rows[std::string("model.layers.1.self_attn.indexer.") + linear] == 48);
}

TEST_CASE("a linear computes on what the hook returns, and attention on what it wrote") {
  struct zeroing_hook final : qlib::forward_hook {
    std::string suffix;
    bool values = false;
    std::vector<float> zeros;
    qlib::matrix_view<const float> input(const qlib::linear_input& in, std::size_t i) override {
      if (suffix.empty() || !in.modules[i].ends_with(suffix)) return in.x;
      zeros.assign(in.x.size(), 0.0f);
      return {zeros.data(), in.x.rows(), in.x.cols()};
    }
    void attention_input(std::size_t, const std::string&, qlib::matrix_view<float>, qlib::matrix_view<float>, qlib::matrix_view<float> v,
                         std::span<const std::size_t>, std::size_t) override {
      if (values)
        for (std::size_t r = 0; r < v.rows(); ++r) std::fill_n(v.row(r), v.cols(), 0.0f);
    }
  };
  const golden_family family{"llama"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  zeroing_hook output, value;
  output.suffix = "o_proj";
  value.values = true;
  const forward_result a = family.run(source, output), b = family.run(source, value);
  CHECK(a.logits == b.logits);
  CHECK(relative_difference(a.logits, family.reference("logits")) > 0.1);
}

TEST_CASE("an error of the hook stops the run after the layer") {
  struct failing_hook final : qlib::forward_hook {
    qlib::status ok() override { return qlib::error{.subject = "observer", .problem = "full"}; }
  };
  const golden_family family{"llama"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  const qlib::decoder decoder = family.decoder(source);
  std::vector<float> hidden(48 * decoder.description().hidden_size);
  const qlib::matrix_view<float> view{hidden.data(), 48, decoder.description().hidden_size};
  REQUIRE(decoder.embed(family.ids, view));
  failing_hook hook;
  const qlib::status ran = decoder.run_layer(0, view, family.rows, hook);
  REQUIRE(!ran);
  CHECK(ran.error().text() == "observer: full");
}

TEST_CASE("ids outside the vocabulary and samples beyond a sparse indexer's reach are refused") {
  golden_family family{"glm_moe_dsa"};
  family.model.description.longest_sample = 20;
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  const qlib::decoder decoder = family.decoder(source);
  std::vector<float> hidden(48 * decoder.description().hidden_size);
  const qlib::matrix_view<float> view{hidden.data(), 48, decoder.description().hidden_size};
  const std::vector<std::int32_t> bad{0, 96};
  const qlib::status embedded = decoder.embed(bad, view);
  REQUIRE(!embedded);
  CHECK(embedded.error().text().find("token 1: id 96 is not in the vocabulary of 96") != std::string::npos);
  REQUIRE(decoder.embed(family.ids, view));
  qlib::forward_hook hook;
  const qlib::status ran = decoder.run_layer(0, view, family.rows, hook);
  REQUIRE(!ran);
  CHECK(ran.error().text().find("index_topk = 20") != std::string::npos);
}

TEST_CASE("the forecasts grow with what is computed and hold what is resident") {
  const golden_family family{"llama"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  const qlib::decoder decoder = family.decoder(source);
  const std::size_t short_rows[] = {0, 24}, long_rows[] = {0, 24, 48};
  CHECK(decoder.flops(0, long_rows) == 2 * decoder.flops(0, short_rows));
  // q, o: 64 x 48; k, v: 32 x 48; three of 96 x 48; 4 heads of 16 + 16 over 24 * 25 / 2 pairs.
  CHECK(decoder.flops(0, short_rows) == 2.0 * 24 * (2 * 64 * 48 + 2 * 32 * 48 + 3 * 96 * 48) + 2.0 * 300 * 4 * 32);
  CHECK(decoder.peak_bytes(0, 48, 24) > 2 * (2 * 64 * 48 + 2 * 32 * 48 + 3 * 96 * 48));
  CHECK(decoder.peak_bytes(0, 1000, 1000) > decoder.peak_bytes(0, 48, 24));
}
