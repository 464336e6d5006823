#pragma once
#include <qlib/model/parameter_check.hpp>
#include <qlib/pipeline/chunk.hpp>
#include <qlib/pipeline/forecast_memory.hpp>
#include <qlib/pipeline/operand_watch.ipp>
#include <qlib/suppressor/search_cost.hpp>
#include <qlib/suppressor/weight_clip.hpp>

#include <algorithm>
#include <map>
#include <set>

namespace qlib::inline v0 {

namespace detail {

/// Modules whose weights a run folds.
inline std::set<std::string, std::less<>> folded_modules(const quantization_plan& plan) {
  std::set<std::string, std::less<>> out;
  const auto add = [&](const subgraph& g) {
    out.insert(g.source);
    out.insert(g.targets.begin(), g.targets.end());
  };
  for (const planned_suppression& p : plan.suppressions) add(p.graph);
  if (!plan.rotation) return out;
  const residual_stream& stream = plan.rotation->stream;
  if (plan.rotation->how.residual) {
    out.insert(stream.embedding);
    out.insert(stream.writers.begin(), stream.writers.end());
    for (const residual_stream::norm& n : stream.norms) out.insert(n.readers.begin(), n.readers.end());
  }
  if (plan.rotation->how.heads)
    for (const residual_stream::values& v : stream.heads) add(v.graph);
  return out;
}

/// As `buffer` takes it: large ones in huge pages.
inline std::uint64_t taken(std::uint64_t bytes) {
  constexpr std::uint64_t huge = std::uint64_t{2} << 20;
  return bytes < 2 * huge ? bytes : (bytes + huge - 1) / huge * huge;
}

using item_index = std::map<std::string_view, std::size_t>;

/// Quantized linears by name.
inline item_index quantized_items(const quantization_plan& plan) {
  item_index out;
  for (std::size_t i = 0; i < plan.items.size(); ++i)
    if (plan.items[i].encoding) out.emplace(plan.items[i].name, i);
  return out;
}

inline const quant_spec* spec_of(const quantization_plan& plan, const item_index& items, std::string_view module) {
  const auto at = items.find(module);
  return at == items.end() ? nullptr : &plan.items[at->second].encoding->spec;
}

/// Of all steps of clippings, which a run holds to its end.
inline std::uint64_t clip_step_bytes(const quantization_plan& plan, const item_index& items) {
  std::uint64_t sum = 0;
  for (const planned_suppression& p : plan.suppressions)
    for (const std::string& module : p.clipped)
      if (const auto at = items.find(module); at != items.end()) {
        const work_item& item = plan.items[at->second];
        if (can_be_clipped(item.encoding->spec)) sum += grid_of(item.encoding->spec.granularity, item.rows, item.cols).tiles();
      }
  return sum;
}

}  // namespace detail

QLIB_INLINE std::uint64_t forecast_run_memory(const quantization_plan& plan, std::size_t threads, bool measure_error) {
  const auto folds = detail::folded_modules(plan);
  constexpr std::string_view tail = ".weight";
  // A thread keeps each of its buffers at the largest size that any chunk asked for.
  std::uint64_t mapped = 0, loaded = 0, folded = 0, packed = 0, codes = 0, observed = 0, measured = 0;
  const auto grow = [](std::uint64_t& to, std::uint64_t bytes) { to = std::max(to, bytes); };
  for (const chunk& c : cut_into_chunks(plan)) {
    const work_item& item = plan.items[c.item];
    if (item.raw || item.vector) {
      grow(mapped, item.raw ? c.rows : 0);
      continue;
    }
    const std::uint64_t elements = std::uint64_t{c.rows} * item.cols, source = elements * bits_of(item.type) / 8;
    const bool transposed = item.source.col_stride != 1;
    // A transposed chunk reads through the whole of its tensor.
    grow(mapped, transposed ? std::uint64_t{item.rows} * item.cols * bits_of(item.type) / 8 * 2 : source);
    if (transposed || item.source.storage != matrix_storage::plain) grow(loaded, source);
    std::string_view module = item.name;
    if (!item.encoding && module.ends_with(tail)) module.remove_suffix(tail.size());
    if (folds.contains(module)) grow(folded, elements * sizeof(float));
    if (!item.encoding) {
      grow(packed, elements * bits_of(plan.slots[item.slots[0]].tensor.type) / 8);
      continue;
    }
    const linear_encoding& e = *item.encoding;
    grow(packed, std::visit([&](const auto& p) { return std::uint64_t{p.layout(e.spec, c.rows, item.cols).bytes()}; }, e.packer));
    grow(codes, std::uint64_t{64} * item.cols);
    // Other observers than min-max keep copies of a tile; only a whole matrix is worth counting.
    if (e.spec.granularity.rows == 0 && item.observer.name != "minmax") grow(observed, elements * 5);
    if (measure_error) grow(measured, elements * (1 + sizeof(float)));
  }
  std::uint64_t described = plan.slots.size() * 512 + detail::clip_step_bytes(plan, detail::quantized_items(plan));
  for (const planned_file& f : plan.files) described += f.header.size();
  constexpr std::uint64_t of_a_thread = std::uint64_t{1} << 20;  // its stack, scales, and room of the allocator
  return described + threads * (of_a_thread + mapped + detail::taken(loaded) + detail::taken(folded) + detail::taken(packed) + codes + observed +
                                detail::taken(measured));
}

namespace detail {

/// Most bytes while the sub-graph is solved, beside what was kept of its inputs. `rows`: tokens that searches see.
inline std::uint64_t solving_bytes(const planned_suppression& p, const parameter_source& source, const suppress_options& how, std::uint64_t rows,
                                   std::uint64_t samples) {
  std::uint64_t columns = 0, held = 0, outputs = 0, widest = 0, largest = 0;
  for (const std::string& module : p.graph.targets) {
    const auto s = source.shape(module + ".weight");
    if (!s || s->size() != 2) continue;
    const std::uint64_t bytes = (*s)[0] * (*s)[1] * sizeof(float);
    columns = (*s)[1];
    largest = std::max(largest, bytes);
    if (held > 0 && held + bytes > how.weight_bytes) continue;
    held += bytes;
    outputs += (*s)[0] * rows * sizeof(float);
    widest = std::max(widest, (*s)[0] * rows * sizeof(float));
  }
  // Inputs divided by the scale so far, and as an error sees them; the extremes of samples; while weights are read, two more of one.
  const std::uint64_t inputs = 2 * rows * columns * sizeof(float) + 2 * samples * columns * sizeof(float);
  return inputs + held + std::max(2 * largest, outputs + widest + 2 * largest);
}

/// Most bytes while weights are clipped behind the sub-graph, beside what was kept of its inputs.
inline std::uint64_t clipping_bytes(const planned_suppression& p, const quantization_plan& plan, const item_index& items,
                                    const parameter_source& source, std::uint64_t rows, std::uint64_t samples, std::size_t threads) {
  std::uint64_t most = 0;
  for (const std::string& module : p.clipped) {
    const auto s = source.shape(module + ".weight");
    const quant_spec* spec = spec_of(plan, items, module);
    if (!s || s->size() != 2 || !spec || !can_be_clipped(*spec)) continue;
    // Inputs divided by both scales; while the weight is read, two of it; its steps.
    const std::uint64_t inputs = 2 * (rows + 2 * samples) * (*s)[1] * sizeof(float), weight = (*s)[0] * (*s)[1] * sizeof(float);
    most = std::max(most, inputs + weight + std::max(weight, clip_search_bytes((*s)[0], (*s)[1], *spec, rows, threads)));
  }
  return most;
}

}  // namespace detail

QLIB_INLINE std::uint64_t forecast_calibration_memory(const decoder& model, const quantization_plan& plan,
                                                      std::span<const std::vector<std::int32_t>> samples, const suppress_options& suppress,
                                                      std::span<const std::vector<std::int32_t>> suppress_samples) {
  const auto count = [](std::span<const std::vector<std::int32_t>> all, std::uint64_t& tokens, std::size_t& longest) {
    for (const auto& s : all) {
      tokens += s.size();
      longest = std::max(longest, s.size());
    }
  };
  std::uint64_t tokens = 0, others = 0;
  std::size_t longest = 0;
  count(samples, tokens, longest);
  count(suppress_samples, others, longest);
  const bool apart = others > 0 && !plan.suppressions.empty();
  const std::uint64_t width = model.description().hidden_size * sizeof(float);
  const auto folds = plan.rotation ? detail::folded_modules(plan) : std::set<std::string, std::less<>>{};
  const detail::item_index items = detail::quantized_items(plan);
  std::uint64_t most = 0, visits = 0;
  for (std::size_t l = 0; l < model.layers(); ++l) {
    if (model.description().layers[l].experts) visits += model.description().experts.routing.experts;
    const std::string& prefix = model.description().layers[l].prefix;
    bool observed = false;
    std::uint64_t widest = 0;  // of the operands, which are copied a sample at a time behind a sub-graph
    for (const calibrated_operand& o : plan.operands)
      if (o.name.starts_with(prefix)) {
        observed |= o.name.ends_with(detail::operand_suffixes[0]);
        widest = std::max<std::uint64_t>(widest, o.channels);
      }
    std::uint64_t plain = model.peak_bytes(l, std::max(tokens, apart ? others : 0), longest, observed ? latent_use::observed : latent_use::expanded);
    if (!folds.empty()) {  // rotated weights are held as f32, also those that are mapped otherwise
      const layer_sizes sizes = sizes_of_layer(model.description(), l, model.source());
      plain += std::max(sizes.resident_bytes, sizes.expert_bytes);
    }
    std::uint64_t kept = 0, search = 0;
    std::set<std::string_view> watched;
    const std::uint64_t rows = std::min<std::uint64_t>(apart ? others : tokens, suppress.search_tokens),
                        seen = apart ? suppress_samples.size() : samples.size();
    for (const planned_suppression& p : plan.suppressions) {
      if (p.layer != l || p.graph.kind == subgraph_kind::query_key) continue;
      const auto shape = model.source().shape(p.graph.targets.front() + ".weight");
      const std::uint64_t columns = shape && shape->size() == 2 ? (*shape)[1] : 0;
      if (watched.insert(p.graph.targets.front()).second) kept += columns * (sizeof(float) * (rows + 2 * seen) + 4 * sizeof(double));
      search = std::max({search, detail::solving_bytes(p, model.source(), suppress, rows, seen),
                         detail::clipping_bytes(p, plan, items, model.source(), rows, seen, model.products().options().threads)});
    }
    // A second run of the layer keeps the hidden states before it apart.
    const std::uint64_t second = kept > 0 && !apart ? tokens * width : 0, changed = kept > 0 ? widest * longest * sizeof(float) : 0;
    most = std::max(most, kept + std::max(search, plain + second + changed));
  }
  // Each expert sees a number of tokens of its own, and oneDNN generates code for each shape of a product: of that so much is kept.
  constexpr std::uint64_t code_bytes = 100 << 10, most_codes = 1024;
  const std::uint64_t codes = std::min(most_codes, visits * (plan.suppressions.empty() ? 2 : 4));
  return most + detail::clip_step_bytes(plan, items) + (tokens + (apart ? others : 0)) * width + codes * code_bytes;
}

}  // namespace qlib::inline v0
