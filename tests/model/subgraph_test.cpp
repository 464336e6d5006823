#include "golden_family.hpp"

#include <qlib/model/parameter_check.hpp>
#include <qlib/model/subgraph.hpp>

#include <map>
#include <set>

using namespace qlib_test;

namespace {

/// A checkpoint with one sub-graph rescaled: channel c of the source divided, and multiplied where it is read.
class rescaled_parameters final : public qlib::parameter_source {
 public:
  rescaled_parameters(const qlib::parameter_source& base, qlib::subgraph graph) : base_{base}, graph_{std::move(graph)} {}

  static float scale(std::size_t channel) { return channel % 3 == 0 ? 4.0f : channel % 3 == 1 ? 0.5f : 1.0f; }

  std::vector<std::string> names() const override { return base_.names(); }
  bool contains(const std::string& name) const override { return base_.contains(name); }
  std::optional<std::vector<std::uint64_t>> shape(const std::string& name) const override { return base_.shape(name); }
  std::optional<qlib::dtype> type(const std::string& name) const override { return base_.type(name); }
  std::string where() const override { return base_.where(); }

  qlib::status read(const std::string& name, qlib::matrix_view<float> out, std::size_t first_row) const override {
    if (qlib::status s = base_.read(name, out, first_row); !s) return s;
    if (graph_.kind == qlib::subgraph_kind::norm_linear && name == graph_.source + ".weight")
      for (std::size_t c = 0; c < out.cols(); ++c) out(0, c) = graph_.one_plus ? (1 + out(0, c)) / scale(c) - 1 : out(0, c) / scale(c);
    if (graph_.kind == qlib::subgraph_kind::norm_linear && name == graph_.source + ".bias")
      for (std::size_t c = 0; c < out.cols(); ++c) out(0, c) /= scale(c);
    return {};
  }

  qlib::result<qlib::linear_weight> linear(const std::string& module) const override {
    qlib::result<qlib::linear_weight> w = base_.linear(module);
    if (!w) return w;
    const bool source = graph_.kind != qlib::subgraph_kind::norm_linear && module == graph_.source;
    const bool target = std::find(graph_.targets.begin(), graph_.targets.end(), module) != graph_.targets.end();
    qlib::buffer memory{w->rows() * w->cols() * sizeof(float)};
    const qlib::matrix_view<float> copy{reinterpret_cast<float*>(memory.data()), w->rows(), w->cols()};
    std::visit(
        [&](auto v) {
          for (std::size_t r = 0; r < v.rows(); ++r)
            for (std::size_t c = 0; c < v.cols(); ++c) copy(r, c) = qlib::to_float(v(r, c)) * (target ? scale(graph_.channel_of_column(c)) : 1.0f);
        },
        w->weight());
    std::vector<float> bias = w->bias;
    if (source)
      for (std::size_t c = 0; c < graph_.channels.channels(); ++c) {
        const std::size_t r = graph_.channels.row(c);
        for (std::size_t k = 0; k < copy.cols(); ++k) copy(r, k) /= scale(c);
        if (!bias.empty()) bias[r] /= scale(c);
      }
    qlib::linear_weight out{qlib::matrix_view<const float>{copy}, std::move(memory)};
    out.bias = std::move(bias);
    return out;
  }

 private:
  const qlib::parameter_source& base_;
  qlib::subgraph graph_;
};

}  // namespace

TEST_CASE("rescaling any sub-graph of any family leaves the logits as they are") {
  for (const std::string& name : golden_families()) {
    CAPTURE(name);
    const golden_family family{name};
    const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
    qlib::forward_hook hook;
    const forward_result plain = family.run(source, hook);
    qlib::model_description model = family.model.description;
    qlib::adopt_names(source, model);
    for (std::size_t l = 0; l < model.layers.size(); ++l) {
      std::size_t experts_seen = 0;
      for (const qlib::subgraph& graph : qlib::subgraphs(model, l, source)) {
        if (graph.kind == qlib::subgraph_kind::query_key) continue;                               // rows on both sides: tests/pipeline/
        if (graph.source.find(".experts.") != std::string::npos && ++experts_seen > 2) continue;  // two experts stand for all
        CAPTURE(graph.source);
        REQUIRE(!graph.targets.empty());
        const rescaled_parameters rescaled{source, graph};
        const forward_result got = family.run(rescaled, hook);
        // Powers of two: exact but for stored gains of g - 1, whose rounding is 2^-24 of 1 + w.
        CHECK(relative_difference(got.logits, plain.logits) <= (graph.one_plus ? 1e-5 : 1e-6));
        if (graph.kind == qlib::subgraph_kind::norm_linear || graph.targets.size() != 1) continue;
        // The channels are the right ones: without its target, the source alone changes the result.
        qlib::subgraph broken = graph;
        broken.targets.clear();
        if (graph.source.find(".experts.") == std::string::npos)
          CHECK(relative_difference(family.run(rescaled_parameters{source, broken}, hook).logits, plain.logits) > 1e-3);
      }
    }
  }
}

TEST_CASE("a norm's sub-graph names every reader of it, float ones too") {
  const golden_family family{"glm_moe_dsa"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  const std::vector<qlib::subgraph> graphs = qlib::subgraphs(family.model.description, 1, source);
  REQUIRE(graphs.size() > 4);
  CHECK(graphs[0].source == "model.layers.1.input_layernorm");
  CHECK(graphs[0].targets == std::vector<std::string>{"model.layers.1.self_attn.q_a_proj", "model.layers.1.self_attn.kv_a_proj_with_mqa",
                                                      "model.layers.1.self_attn.indexer.wk", "model.layers.1.self_attn.indexer.weights_proj"});
  CHECK(graphs[1].targets == std::vector<std::string>{"model.layers.1.self_attn.q_b_proj", "model.layers.1.self_attn.indexer.wq_b"});
  const auto before_experts =
      std::find_if(graphs.begin(), graphs.end(), [](const auto& g) { return g.source.ends_with("post_attention_layernorm"); });
  REQUIRE(before_experts != graphs.end());
  CHECK(before_experts->targets.size() == 1 + 2 + 8 * 2);  // router, shared expert, experts
  CHECK(before_experts->targets[0] == "model.layers.1.mlp.gate");
}

TEST_CASE("gpt-oss has no up-down sub-graph: its up projection is clamped and shifted") {
  const golden_family family{"gpt_oss"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  for (const qlib::subgraph& graph : qlib::subgraphs(family.model.description, 0, source)) CHECK(graph.kind != qlib::subgraph_kind::up_down);
}

TEST_CASE("sub-graphs are those of the block: one norm before both parts, none behind branches, none through an activation or a limit") {
  const auto graphs_of = [](const char* name) {
    const golden_family family{name};
    const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
    return qlib::subgraphs(family.model.description, 1, source);
  };
  const auto count = [](const std::vector<qlib::subgraph>& graphs, qlib::subgraph_kind kind) {
    return std::count_if(graphs.begin(), graphs.end(), [&](const auto& g) { return g.kind == kind; });
  };
  const auto cohere = graphs_of("cohere");
  REQUIRE(count(cohere, qlib::subgraph_kind::norm_linear) == 1);
  CHECK(cohere[0].targets.size() == 5);
  CHECK(cohere[0].targets.back() == "model.layers.1.mlp.up_proj");
  CHECK(count(graphs_of("gpt_neox"), qlib::subgraph_kind::norm_linear) == 2);
  const auto olmo2 = graphs_of("olmo2");
  CHECK(count(olmo2, qlib::subgraph_kind::norm_linear) == 0);
  CHECK(count(olmo2, qlib::subgraph_kind::ov) == 1);
  CHECK(count(graphs_of("olmo"), qlib::subgraph_kind::norm_linear) == 0);  // nothing is multiplied
  CHECK(count(graphs_of("olmoe"), qlib::subgraph_kind::ov) == 0);          // values are limited
  CHECK(count(graphs_of("starcoder2"), qlib::subgraph_kind::up_down) == 0);
  const auto afmoe = graphs_of("afmoe");
  CHECK(std::find(afmoe[0].targets.begin(), afmoe[0].targets.end(), "model.layers.1.self_attn.gate_proj") != afmoe[0].targets.end());
}

TEST_CASE("Granite's stacked experts are called as the engine calls them") {
  const golden_family family{"granitemoeshared"};
  const qlib::checkpoint_parameters source{family.model.source, family.model.layout};
  CHECK(source.shape("model.layers.1.block_sparse_moe.experts.3.w1.weight") == std::vector<std::uint64_t>{8, 32});
  CHECK(source.shape("model.layers.1.block_sparse_moe.experts.3.w2.weight") == std::vector<std::uint64_t>{32, 8});
  CHECK(!source.contains("model.layers.1.block_sparse_moe.input_linear.weight"));
}
