/// Checkpoints that compute what another one computes, but with outliers in the inputs of their linears.
#pragma once
#include <qlib/io/output_file.hpp>
#include <qlib/model/decoder.hpp>
#include <qlib/model/folds.hpp>
#include <qlib/model/parameter_check.hpp>
#include <qlib/model/subgraph.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/rotate.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace qlib_test {

/// Multiplies `share` of the channels of every sub-graph's source by `factor`, a power of two, and divides what reads them: the float model does
/// not change by a bit (but for stored gains of g - 1, whose rounding does). Sub-graphs with stacked experts are left as they are.
inline qlib::model_folds outliers_in(const qlib::model_description& model, const qlib::parameter_source& source,
                                     const std::set<std::string>& plain_modules, float factor = 64, double share = 0.02, unsigned seed = 3) {
  qlib::model_folds out;
  std::mt19937 random{seed};
  for (std::size_t l = 0; l < model.layers.size(); ++l)
    for (const qlib::subgraph& g : qlib::subgraphs(model, l, source)) {
      if (g.kind == qlib::subgraph_kind::query_key) continue;
      if (std::any_of(g.targets.begin(), g.targets.end(), [&](const std::string& t) { return !plain_modules.contains(t); })) continue;
      const std::size_t n = g.channels.channels();
      std::vector<float> scale(n, 1.0f);
      const std::size_t count =
          g.kind == qlib::subgraph_kind::ov ? 1 : std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(n) * share));
      for (std::size_t k = 0; k < count; ++k) scale[random() % n] = 1 / factor;
      const qlib::channel_map map{g.repeats, g.repeat_width};
      for (const std::string& t : g.targets) out.matrices[t].push_back(qlib::scaling{map.expand(scale), {}});
      if (g.kind == qlib::subgraph_kind::norm_linear) {
        std::vector<float>& gain = out.vectors[g.source + ".weight"];
        gain.resize(n);
        if (!source.read(g.source + ".weight", {gain.data(), 1, n})) return {};
        const float plus = g.one_plus ? 1.0f : 0.0f;
        for (std::size_t c = 0; c < n; ++c) gain[c] = (gain[c] + plus) / scale[c] - plus;
        continue;
      }
      qlib::scaling rows;
      rows.rows.assign((*source.shape(g.source + ".weight"))[0], 1.0f);
      for (std::size_t c = 0; c < n; ++c) rows.rows[g.channels.row(c)] = scale[c];
      const std::string bias = g.source + ".bias";
      if (source.contains(bias)) {
        std::vector<float>& values = out.vectors[bias];
        values.resize(rows.rows.size());
        if (!source.read(bias, {values.data(), 1, values.size()})) return {};
        for (std::size_t r = 0; r < values.size(); ++r) values[r] /= rows.rows[r];
      }
      out.matrices[g.source].push_back(std::move(rows));
    }
  return out;
}

/// A source checkpoint and what is known of it.
struct described_source {
  qlib::checkpoint source;
  qlib::model_layout layout;
  qlib::model_description model;

  qlib::errors open(const std::string& from) {
    qlib::errors found = qlib::checkpoint::open(from, source);
    if (found.empty()) found = qlib::read_model_layout(source, layout);
    if (found.empty()) found = qlib::read_model_description(source.config_text(), from + "/config.json", model);
    return found;
  }
};

/// Writes `from`, folded, to the new folder `to`, tensor by tensor in the dtypes that it has. `change`(name, values, columns) may change the folded
/// ones. All its other files are copied.
template <class Change>
qlib::errors write_folded(const qlib::checkpoint& source, const qlib::parameter_source& stored, const qlib::model_folds& folds,
                          const std::string& from, const std::string& to, const Change& change) {
  namespace fs = std::filesystem;
  const qlib::folded_parameters changed{stored, folds};

  fs::create_directories(to);
  std::vector<qlib::tensor_info> tensors;
  for (const qlib::stored_tensor& t : source.tensors()) tensors.push_back({t.info.name, t.info.dtype, t.info.shape});
  qlib::order_for_writing(tensors);
  const auto size = qlib::assign_offsets(tensors);
  if (!size) return {size.error()};
  const auto header = qlib::serialize_safetensors_header(tensors, {});
  if (!header) return {header.error()};
  auto file = qlib::output_file::create(to + "/model.safetensors", header->size() + *size);
  if (!file) return {file.error()};
  if (const auto s = file->write_at(0, std::as_bytes(std::span{*header})); !s) return {s.error()};
  for (const qlib::tensor_info& t : tensors) {
    const qlib::stored_tensor& old = *source.find(t.name);
    std::vector<std::byte> bytes(source.bytes(old).begin(), source.bytes(old).end());
    const std::string module = t.name.ends_with(".weight") ? t.name.substr(0, t.name.size() - 7) : std::string{};
    if (folds.vector(t.name) || !folds.steps(module).empty()) {
      std::vector<float> values(t.elements());
      const std::size_t rows = t.shape.size() == 2 ? t.shape[0] : 1;
      if (const auto s = changed.read(t.name, {values.data(), rows, values.size() / rows}); !s) return {s.error()};
      change(t.name, values, values.size() / rows);
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (t.dtype == qlib::dtype::f32) std::memcpy(bytes.data() + 4 * i, &values[i], 4);
        if (const qlib::bf16 h = qlib::to_bf16(values[i]); t.dtype == qlib::dtype::bf16) std::memcpy(bytes.data() + 2 * i, &h, 2);
        if (const qlib::f16 h = qlib::to_f16(values[i]); t.dtype == qlib::dtype::f16) std::memcpy(bytes.data() + 2 * i, &h, 2);
      }
    }
    if (const auto s = file->write_at(header->size() + t.begin, bytes); !s) return {s.error()};
  }
  if (const auto s = file->close(); !s) return {s.error()};
  for (const std::string& name : source.other_files())
    fs::copy_file(fs::path{from} / name, fs::path{to} / name, fs::copy_options::overwrite_existing);
  fs::copy_file(fs::path{from} / "config.json", fs::path{to} / "config.json", fs::copy_options::overwrite_existing);
  return {};
}

/// Writes `from` with outliers to the new folder `to`.
inline qlib::errors write_outlier_model(const std::string& from, const std::string& to) {
  described_source s;
  if (qlib::errors found = s.open(from); !found.empty()) return found;
  const qlib::checkpoint_parameters stored{s.source, s.layout};
  qlib::adopt_names(stored, s.model);
  std::set<std::string> plain;
  for (const qlib::matrix_module& m : s.layout.matrices)
    if (!m.stacked && m.weight.storage == qlib::matrix_storage::plain) plain.insert(m.name);
  return write_folded(s.source, stored, outliers_in(s.model, stored, plain), from, to, [](auto&&...) {});
}

/// Mean squared length of the residual stream before each of `stream.norms`, over a sample of pseudorandom tokens. Between the branches of a layer
/// it is taken from both sides.
inline qlib::result<std::vector<double>> stream_energy(const described_source& s, const qlib::parameter_source& stored,
                                                       const qlib::residual_stream& stream) {
  constexpr std::size_t tokens = 128;
  qlib::decoder decoder;
  if (const qlib::errors bad = qlib::decoder::create(s.model, stored, {.gemm = {.kind = qlib::gemm_kind::reproducible}}, decoder); !bad.empty())
    return bad.front();
  std::mt19937 random{5};
  std::vector<std::int32_t> ids(tokens);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % s.model.vocabulary);
  const std::vector<std::size_t> rows{0, tokens};
  std::vector<float> hidden(tokens * stream.width);
  const qlib::matrix_view<float> view{hidden.data(), tokens, stream.width};
  const auto energy = [&] {
    double sum = 0;
    for (const float v : hidden) sum += static_cast<double>(v) * static_cast<double>(v);
    return sum / tokens;
  };
  if (const auto done = decoder.embed(ids, view, rows); !done) return done.error();
  std::vector<double> before_layer{energy()}, out;
  qlib::forward_hook none;
  for (std::size_t l = 0; l < decoder.layers(); ++l) {
    if (const auto done = decoder.run_layer(l, view, rows, none); !done) return done.error();
    before_layer.push_back(energy());
  }
  for (const qlib::residual_stream::norm& n : stream.norms) {
    std::size_t l = 0;
    while (l < s.model.layers.size() && !n.name.starts_with(s.model.layers[l].prefix)) ++l;
    const bool first = l == s.model.layers.size() || n.name == s.model.layers[l].prefix + s.model.input_norm;
    out.push_back(first ? before_layer[l] : (before_layer[l] + before_layer[l + 1]) / 2);
  }
  return out;
}

/// Writes a model like `from` whose residual stream has one huge channel in every layer, as those of trained models have: in another basis (norms
/// folded, a Hadamard rotation), each token's embedding has `factor` times the root mean square of all embeddings' elements more in channel 0.
///
/// Nothing after the embedding changes that channel much. Trained models live with theirs: gains of norms give the other channels their size back
/// (sqrt(1 + c^2) of a stream of length 1 with c more), and what reads the channel has weights for it that are as much smaller as it is larger.
/// So what is left of the change is that norms divide by nearly the same number for each token.
inline qlib::errors write_residual_outlier_model(const std::string& from, const std::string& to, float factor) {
  described_source s;
  if (qlib::errors found = s.open(from); !found.empty()) return found;
  const qlib::checkpoint_parameters stored{s.source, s.layout};
  qlib::adopt_names(stored, s.model);
  if (s.model.tied) return {qlib::error{.where = from, .problem = "its head is its embedding", .remedy = "take a model with a head"}};
  auto stream = qlib::residual_stream_of(s.model, stored);
  if (!stream) return {stream.error()};
  const auto energy = stream_energy(s, stored, *stream);
  if (!energy) return {energy.error()};
  const auto width = static_cast<double>(stream->width);
  const std::string embedding = stream->embedding + ".weight";
  std::vector<float> values(static_cast<std::size_t>(s.model.vocabulary) * stream->width);
  if (const auto read = stored.read(embedding, {values.data(), s.model.vocabulary, stream->width}); !read) return {read.error()};
  double squares = 0;
  for (const float v : values) squares += static_cast<double>(v) * static_cast<double>(v);
  const double more = static_cast<double>(factor) * std::sqrt(squares / static_cast<double>(values.size()));

  qlib::planned_rotation plan{*std::move(stream), {}};
  plan.how.heads = false;
  qlib::model_folds folds;
  if (const auto done = qlib::rotate(plan, stored, folds); !done) return {done.error()};
  for (std::size_t n = 0; n < plan.stream.norms.size(); ++n) {
    const qlib::residual_stream::norm& norm = plan.stream.norms[n];
    const auto gain = static_cast<float>(std::sqrt(1 + more * more / (*energy)[n]));
    for (float& g : folds.vectors[norm.name + ".weight"]) g = norm.one_plus ? gain - 1 : gain;
    qlib::scaling columns{std::vector<float>(plan.stream.width, 1.0f), {}};
    columns.columns[0] = static_cast<float>(1 / (1 + more / std::sqrt((*energy)[n] / width)));
    for (const std::string& reader : norm.readers) folds.matrices[reader].push_back(columns);
  }
  return write_folded(s.source, stored, folds, from, to, [&](const std::string& name, std::vector<float>& rows, std::size_t columns) {
    if (name == embedding)
      for (std::size_t at = 0; at < rows.size(); at += columns) rows[at] += static_cast<float>(more);
  });
}

}  // namespace qlib_test
