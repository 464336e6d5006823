#pragma once
#include <qlib/io/checksum.hpp>
#include <qlib/model/module_name.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/recipe/match.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

namespace qlib::inline v0 {

namespace detail {

/// What the program leaves float when the user named no list of his own: heads, routers, gates of shared experts, and projections
/// that engines absorb or that are too small to matter. The families' public recipes do the same (docs/formats.md).
inline bool float_by_default(std::string_view module) {
  for (std::string_view tail :
       {"shared_expert_gate", "kv_b_proj", "indexer.wq_b", "indexer.wk", "indexer.weights_proj", "in_proj_a", "in_proj_b", "in_proj_ba", "eh_proj"})
    if (ends_with_component(module, tail)) return true;
  for (std::string_view part :
       {"visual", "vision_tower", "vision_model", "vision_encoder", "mm_projector", "multi_modal_projector", "mlp1", "audio_tower"})
    if (contains_component(module, part)) return true;
  return false;
}

struct compiled_stage {
  pattern_set targets, ignore;
};

/// The stage that quantizes a module, by the precedence of the stage's language.
inline std::optional<std::size_t> stage_of(const matrix_module& m, const recipe& r, const std::vector<compiled_stage>& stages,
                                           std::vector<std::set<std::size_t>>& used) {
  if (m.kind != module_class::linear && m.kind != module_class::head) return std::nullopt;
  std::optional<std::size_t> best;
  std::optional<pattern_match> best_match;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const stage& s = r.stages[i];
    if (s.syntax == pattern_syntax::glob && (m.kind == module_class::head || !in_decoder_layer(m.name))) continue;
    if (r.source == "flags" && s.targets == std::vector<std::string>{"Linear"} && (m.kind == module_class::head || float_by_default(m.name)))
      continue;
    const auto found = stages[i].targets.find(m.name, name_of(m.kind));
    if (!found || !*found) continue;
    used[i].insert((*found)->index);
    if (stages[i].ignore.matches(m.name, name_of(m.kind))) continue;
    if (!best || (s.syntax == pattern_syntax::compressed_tensors && **found < *best_match)) {
      best = i;
      best_match = **found;
    }
  }
  return best;
}

/// Fills files, offsets and headers from the slots' order, names and sizes.
inline status place_slots(quantization_plan& plan, const registry::formats::any& format, std::uint64_t limit) {
  std::vector<std::vector<std::size_t>> parts(1);
  std::uint64_t pending = 0;
  for (std::size_t i = 0; i < plan.slots.size(); ++i) {
    const std::uint64_t bytes = plan.slots[i].bytes;
    if (limit > 0 && pending > 0 && pending + bytes >= limit) {
      parts.emplace_back();
      pending = 0;
    }
    parts.back().push_back(i);
    pending += bytes;
  }
  for (std::size_t p = 0; p < parts.size(); ++p) {
    std::vector<tensor_info> tensors;
    std::map<std::string, std::size_t> by_name;
    for (std::size_t i : parts[p]) {
      const output_tensor& t = plan.slots[i].tensor;
      tensors.push_back({t.name, t.type, t.shape});
      by_name.emplace(t.name, i);
    }
    order_for_writing(tensors);
    const auto size = assign_offsets(tensors);
    if (!size) return size.error();
    planned_file file;
    file.name = std::visit([&](const auto& f) { return f.file_name(p, parts.size()); }, format);
    auto header = serialize_safetensors_header(tensors, std::visit([](const auto& f) { return f.metadata(); }, format));
    if (!header) return header.error();
    file.header = *std::move(header);
    file.bytes = file.header.size() + *size;
    for (const tensor_info& t : tensors) {
      output_slot& slot = plan.slots[by_name.at(t.name)];
      slot.file = p;
      slot.offset = file.header.size() + t.begin;
    }
    plan.files.push_back(std::move(file));
  }
  return {};
}

inline std::uint64_t fingerprint_of(const quantization_plan& plan, const checkpoint& source, compat follow) {
  checksum64 sum;
  const auto add = [&](std::string_view text) {
    const std::uint64_t n = text.size();
    sum.update(std::as_bytes(std::span{&n, 1}));
    sum.update(std::as_bytes(std::span{text}));
  };
  for (const planned_file& f : plan.files) add(f.name), add(f.header);
  for (const document& d : plan.documents) add(d.name), add(d.text);
  for (const work_item& i : plan.items) add(i.name), add(i.observer.name), add(i.rounder.name);
  add(std::to_string(static_cast<int>(follow)));
  for (const safetensors_file& s : source.shards()) {
    std::error_code ignored;
    add(s.path());
    add(std::to_string(std::filesystem::file_size(s.path(), ignored)));
    add(std::to_string(std::filesystem::last_write_time(s.path(), ignored).time_since_epoch().count()));
  }
  return sum.value();
}

}  // namespace detail

QLIB_INLINE errors make_plan(const checkpoint& source, const model_layout& layout, const recipe& r, const plan_options& options,
                             quantization_plan& out) {
  errors found;
  std::vector<detail::compiled_stage> stages;
  for (const stage& s : r.stages) {
    auto targets = pattern_set::compile(s.targets, s.syntax, s.where);
    auto ignore = pattern_set::compile(s.ignore, s.syntax, s.where);
    if (!targets) found.push_back(targets.error());
    if (!ignore) found.push_back(ignore.error());
    if (!registry::observers::find(s.observer.name))
      found.push_back({.where = s.where, .subject = "observer " + s.observer.name, .problem = "is not known", .remedy = "use minmax"});
    if (!registry::rounders::find(s.rounder.name))
      found.push_back({.where = s.where, .subject = "rounder " + s.rounder.name, .problem = "is not known", .remedy = "use rtn"});
    if (targets && ignore) stages.push_back({*std::move(targets), *std::move(ignore)});
  }
  if (!found.empty()) return found;

  quantization_plan plan;
  plan.model_type = layout.model_type;
  plan.format = std::visit([](const auto& f) { return std::string{f.name}; }, options.format);
  plan.input_bytes = source.total_bytes();
  if (!layout.known_family)
    plan.warnings.push_back("model_type \"" + layout.model_type +
                            "\" is not known: every two-dimensional .weight that is no embedding, router or norm is taken for a linear layer");
  const auto tensors = source.tensors();
  const auto path_of = [&](std::size_t tensor) { return source.shards()[tensors[tensor].shard].path(); };

  manifest about{.config_text = source.config_text(), .recipe = &r, .linears = {}, .tensors = {}, .tensor_files = {}, .follow = options.follow};
  std::vector<std::set<std::size_t>> used(stages.size());
  const auto add_slot = [&](work_item& item, output_tensor t, std::string quant_type, std::size_t source_tensor) {
    const auto bytes = byte_size(t.type, t.shape);
    output_slot slot{.tensor = std::move(t), .quant_type = std::move(quant_type), .source = tensors[source_tensor].info.name};
    slot.bytes = bytes.value_or(0);
    item.slots.push_back(plan.slots.size());
    plan.slots.push_back(std::move(slot));
  };
  const auto add_raw = [&](std::size_t tensor) {
    const tensor_info& t = tensors[tensor].info;
    work_item item{.name = t.name,
                   .encoding = {},
                   .source = {.tensor = tensor},
                   .type = t.dtype,
                   .rows = 0,
                   .cols = 0,
                   .raw = true,
                   .slots = {},
                   .observer = {},
                   .rounder = {}};
    item.rows = t.bytes();
    item.cols = 1;
    add_slot(item, {t.name, t.dtype, t.shape, slot_role::copy}, "FLOAT", tensor);
    plan.items.push_back(std::move(item));
  };
  const auto add_matrix_copy = [&](std::string name, const matrix_source& from, std::size_t rows, std::size_t cols, bool vector, dtype read_as,
                                   dtype write_as) {
    work_item item{.name = name,
                   .encoding = {},
                   .source = from,
                   .type = read_as,
                   .rows = rows,
                   .cols = cols,
                   .raw = false,
                   .slots = {},
                   .observer = {},
                   .rounder = {}};
    std::vector<std::uint64_t> shape{rows};
    if (!vector) shape.push_back(cols);
    add_slot(item, {std::move(name), write_as, std::move(shape), slot_role::copy}, "FLOAT", from.tensor);
    plan.items.push_back(std::move(item));
  };

  // Which stage takes which matrix; stacked tensors are unpacked when one of their parts is quantized, else kept whole.
  std::vector<std::optional<std::size_t>> chosen(layout.matrices.size());
  std::set<std::size_t> unpacked;
  for (std::size_t i = 0; i < layout.matrices.size(); ++i) {
    chosen[i] = detail::stage_of(layout.matrices[i], r, stages, used);
    if (chosen[i] && !r.stages[*chosen[i]].scheme.weights) chosen[i].reset();
    if (chosen[i]) unpacked.insert(layout.matrices[i].weight.tensor);
  }
  std::set<std::size_t> whole;  // stacked tensors already copied
  auto other = layout.others.begin();
  for (std::size_t i = 0; i < layout.matrices.size(); ++i) {
    const matrix_module& m = layout.matrices[i];
    for (; other != layout.others.end() && (m.kind == module_class::head || natural_less(tensors[*other].info.name, m.name)); ++other)
      add_raw(*other);
    const std::size_t tensor = m.weight.tensor;
    const bool is_linear = m.kind == module_class::linear || m.kind == module_class::head;
    if (!chosen[i]) {
      if (is_linear || m.kind == module_class::router) {
        about.linears.push_back({.name = m.name, .quant_type = {}, .stage = 0, .listed_in_ignore = true});
        ++plan.floats;
      }
      if (m.stacked && !unpacked.contains(tensor)) {
        if (whole.insert(tensor).second) add_raw(tensor);
        if (m.bias && whole.insert(m.bias->tensor).second) add_raw(m.bias->tensor);
        continue;
      }
      const bool plain = !m.stacked && !m.weight.block_scale;
      if (plain) add_raw(tensor);
      else add_matrix_copy(m.name + ".weight", m.weight, m.rows, m.cols, false, m.type, m.type);
      if (m.bias)
        m.stacked
            ? add_matrix_copy(m.name + ".bias", *m.bias, m.rows, 1, true, tensors[m.bias->tensor].info.dtype, tensors[m.bias->tensor].info.dtype)
            : add_raw(m.bias->tensor);
      continue;
    }
    const stage& s = r.stages[*chosen[i]];
    auto encoding = std::visit([&](const auto& f) { return f.encode(m, s.scheme, options.follow); }, options.format);
    if (!encoding) {
      error e = std::move(encoding).error();
      e.where = path_of(tensor);
      found.push_back(std::move(e));
      continue;
    }
    const tile t = encoding->spec.granularity;
    if (t.rows == 1 && t.cols > 0 && m.cols % t.cols != 0) {
      found.push_back({.where = path_of(tensor),
                       .subject = m.name + ".weight",
                       .problem = "in_features " + std::to_string(m.cols) + " is not a multiple of group_size " + std::to_string(t.cols),
                       .remedy = "use a group size that divides it, or --ignore " + m.name});
      continue;
    }
    work_item item{.name = m.name,
                   .encoding = *std::move(encoding),
                   .source = m.weight,
                   .type = m.type,
                   .rows = m.rows,
                   .cols = m.cols,
                   .raw = false,
                   .slots = {},
                   .observer = s.observer,
                   .rounder = s.rounder};
    for (const output_tensor& o : item.encoding->tensors)
      add_slot(item, {m.name + o.name, o.type, o.shape, o.role}, item.encoding->quant_type, tensor);
    if (t.rows == 1 && t.cols > 0) about.group_size = t.cols;
    about.linears.push_back({.name = m.name, .quant_type = item.encoding->quant_type, .stage = *chosen[i], .listed_in_ignore = false});
    const dtype bias_type = item.encoding->bias_type;
    plan.items.push_back(std::move(item));
    ++plan.quantized;
    if (m.bias) add_matrix_copy(m.name + ".bias", *m.bias, m.rows, 1, true, tensors[m.bias->tensor].info.dtype, bias_type);
  }
  for (; other != layout.others.end(); ++other) add_raw(*other);
  // A tied head has no tensor, but it is a Linear to those who load the model: without this they would expect it quantized.
  if (layout.tied_embeddings && source.find("lm_head.weight") == nullptr)
    about.linears.push_back({.name = "lm_head", .quant_type = {}, .stage = 0, .listed_in_ignore = true});
  if (layout.tied_embeddings && source.find("lm_head.weight") == nullptr &&
      std::visit([](const auto& f) { return f.stores_tied_head; }, options.format))
    for (const matrix_module& m : layout.matrices)
      if (m.kind == module_class::embedding && m.name.ends_with("embed_tokens")) {
        add_matrix_copy("lm_head.weight", m.weight, m.rows, m.cols, false, m.type, m.type);
        break;
      }
  for (std::size_t i = 0; i < stages.size(); ++i)
    for (std::size_t p = 0; p < r.stages[i].targets.size(); ++p)
      if (!used[i].contains(p)) plan.warnings.push_back(r.stages[i].where + ": target \"" + r.stages[i].targets[p] + "\" matches no linear layer");
  if (found.empty() && plan.quantized == 0)
    found.push_back({.where = source.directory(),
                     .problem = "no layer matches the recipe: nothing would be quantized",
                     .remedy = "check targets and ignore; `qlib inspect` lists the layers"});
  {
    std::set<std::string> names;
    for (const output_slot& s : plan.slots)
      if (!names.insert(s.tensor.name).second)
        found.push_back({.where = source.directory(),
                         .subject = s.tensor.name,
                         .problem = "would be written twice",
                         .remedy = "the source holds stacked and separate experts of one layer"});
  }
  if (!found.empty()) return found;

  const std::uint64_t limit =
      options.part_bytes ? *options.part_bytes : std::visit([](const auto& f) { return f.default_part_bytes; }, options.format);
  if (status s = detail::place_slots(plan, options.format, limit); !s) return {s.error()};
  for (const output_slot& s : plan.slots) {
    about.tensors.push_back({s.tensor.name, s.quant_type});
    about.tensor_files.emplace_back(s.tensor.name, plan.files[s.file].name);
    about.total_bytes += s.bytes;
  }
  plan.output_bytes = about.total_bytes;
  plan.documents = std::visit([&](const auto& f) { return f.documents(about); }, options.format);
  plan.fingerprint = detail::fingerprint_of(plan, source, options.follow);
  out = std::move(plan);
  return found;
}

}  // namespace qlib::inline v0
