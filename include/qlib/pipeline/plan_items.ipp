/// The items of a plan and the tensors that they make. Part of plan.ipp.
#pragma once
#include <qlib/model/module_name.hpp>
#include <qlib/pipeline/planner.ipp>

#include <algorithm>

namespace qlib::inline v0::detail {

inline std::string planner::path_of(std::size_t tensor) const { return source_.shards()[source_.tensors()[tensor].shard].path(); }

inline void planner::add_slot(work_item& item, output_tensor t, std::string quant_type, std::string source) {
  const auto bytes = byte_size(t.type, t.shape);
  output_slot slot{.tensor = std::move(t), .quant_type = std::move(quant_type), .source = std::move(source)};
  slot.bytes = bytes.value_or(0);
  item.slots.push_back(plan_.slots.size());
  plan_.slots.push_back(std::move(slot));
}

inline const std::string& planner::name_of_tensor(std::size_t tensor) const { return source_.tensors()[tensor].info.name; }

inline void planner::add_raw(std::size_t tensor) {
  const tensor_info& t = source_.tensors()[tensor].info;
  if (folded_.vectors.contains(t.name)) {
    add_vector({.tensor = tensor}, t.name, t.elements(), t.dtype, t.dtype);
    plan_.slots.back().tensor.shape = t.shape;  // gains of heads are a matrix
    return;
  }
  work_item item;
  item.name = t.name;
  item.source = {.tensor = tensor};
  item.type = t.dtype;
  item.rows = t.bytes();
  item.cols = 1;
  item.raw = true;
  add_slot(item, {t.name, t.dtype, t.shape, slot_role::copy}, "FLOAT", t.name);
  plan_.items.push_back(std::move(item));
}

inline void planner::add_matrix_copy(std::string name, const matrix_source& from, std::size_t rows, std::size_t cols, bool vector, dtype read_as,
                                     dtype write_as) {
  work_item item;
  item.name = name;
  item.source = from;
  item.type = read_as;
  item.rows = rows;
  item.cols = cols;
  std::vector<std::uint64_t> shape{rows};
  if (!vector) shape.push_back(cols);
  add_slot(item, {std::move(name), write_as, std::move(shape), slot_role::copy}, "FLOAT", name_of_tensor(from.tensor));
  plan_.items.push_back(std::move(item));
}

inline void planner::add_vector(const matrix_source& from, std::string name, std::size_t length, dtype read_as, dtype write_as) {
  add_matrix_copy(name, from, length, 1, true, read_as, write_as);
  plan_.items.back().vector = true;
}

inline void planner::add_everything() {
  auto other = layout_.others.begin();
  auto attention = attention_.begin();
  for (std::size_t i = 0; i < layout_.matrices.size(); ++i) {
    const bool untied = untied_head_ && layout_.matrices[i].name == untied_head_->name;
    const matrix_module& m = untied ? *untied_head_ : layout_.matrices[i];
    for (; other != layout_.others.end() && (m.kind == module_class::head || natural_less(name_of_tensor(*other), m.name)); ++other) add_raw(*other);
    // Scales of attention stand behind its matrices.
    for (; attention != attention_.end() && !m.name.starts_with(attention->module.name + ".") && natural_less(attention->module.name, m.name);
         ++attention)
      add_attention(*attention);
    if (chosen_[i]) add_quantized(m, *chosen_[i]);
    else add_float(m);
  }
  for (; attention != attention_.end(); ++attention) add_attention(*attention);
  for (; other != layout_.others.end(); ++other) add_raw(*other);
  for (const auto& [name, length] : folded_.made) add_made(name, length);
  add_tied_head();
}

inline void planner::add_made(const std::string& name, std::size_t length) {
  const std::string weight = name.substr(0, name.size() - 4) + "weight";
  const dtype type = parameters_->type(weight).value_or(dtype::f32);
  add_vector({}, name, length, type, type);
  plan_.items.back().in_source = false;
  plan_.slots.back().source = weight;
}

inline void planner::add_float(const matrix_module& m) {
  const std::size_t tensor = m.weight.tensor;
  if (m.kind == module_class::linear || m.kind == module_class::head || m.kind == module_class::router) {
    about_.linears.push_back({.name = m.name, .loaded = m.loaded, .quant_type = {}, .stage = 0, .listed_in_ignore = true});
    ++plan_.floats;
  }
  if (m.stacked && !unpacked_.contains(tensor)) {
    if (whole_.insert(tensor).second) add_raw(tensor);
    if (m.bias && whole_.insert(m.bias->tensor).second) add_raw(m.bias->tensor);
    return;
  }
  const bool plain = !m.stacked && m.weight.storage == matrix_storage::plain && !folded_.matrices.contains(m.name);
  if (plain) add_raw(tensor);
  else add_matrix_copy(m.name + ".weight", m.weight, m.rows, m.cols, false, m.type, m.type);
  plan_.items.back().whole = !plain && whole_rows_.contains(m.name);
  if (!m.bias) return;
  const dtype type = source_.tensors()[m.bias->tensor].info.dtype;
  if (folded_.vectors.contains(m.name + ".bias")) add_vector(*m.bias, m.name + ".bias", m.rows, type, type);
  else if (m.stacked) add_matrix_copy(m.name + ".bias", *m.bias, m.rows, 1, true, type, type);
  else add_raw(m.bias->tensor);
}

inline void planner::add_quantized(const matrix_module& m, std::size_t stage_index) {
  const stage& s = recipe_.stages[stage_index];
  if (m.transposed) return transposed_.push_back(m.name);
  if (const stored_tensor* b = m.stacked || m.bias ? nullptr : source_.find(m.name + ".bias"); b && b->info.shape.size() == 1)
    return found_.push_back({.where = source_.shards()[b->shard].path(),
                             .subject = b->info.name,
                             .problem = "is " + std::string{name_of(b->info.dtype)} + " [" + std::to_string(b->info.shape[0]) +
                                        "], no float bias for the " + std::to_string(m.rows) + " rows of " + m.name + ".weight",
                             .remedy = "give the checkpoint as it was published, or --ignore " + m.name});
  auto encoding = std::visit([&](const auto& f) { return f.encode(m, s.scheme, layout_.run_dtype, options_.follow); }, options_.format);
  if (!encoding) {
    error e = std::move(encoding).error();
    e.where = path_of(m.weight.tensor);
    const auto [said, fresh] = refusals_.try_emplace(e.problem + e.remedy, refusal{found_.size(), 0});
    if (fresh) return found_.push_back(std::move(e));
    ++said->second.more;
    return;
  }
  const tile t = encoding->spec.granularity;
  if (t.rows == 1 && t.cols > 0 && m.cols % t.cols != 0)
    return found_.push_back({.where = path_of(m.weight.tensor),
                             .subject = m.name + ".weight",
                             .problem = "in_features " + std::to_string(m.cols) + " is not a multiple of group_size " + std::to_string(t.cols),
                             .remedy = "use a group size that divides it, or --ignore " + m.name});
  work_item item;
  item.name = m.name;
  item.encoding = *std::move(encoding);
  item.source = m.weight;
  item.type = m.type;
  item.rows = m.rows;
  item.cols = m.cols;
  item.observer = s.observer;
  item.rounder = s.rounder;
  item.bias = m.bias;
  item.whole = whole_rows_.contains(m.name);
  if (m.bias) item.bias_type = source_.tensors()[m.bias->tensor].info.dtype;
  item.input = item.encoding->input;
  if (const auto& x = s.scheme.input_activations; x && x->dynamic)
    item.input = quant_spec{.type = x->type, .num_bits = x->num_bits, .symmetric = x->symmetric, .rule = item.encoding->spec.rule};
  if (item.encoding->input) {
    item.operand = plan_.operands.size();
    plan_.operands.push_back({m.name, *item.encoding->input, m.cols, observer_as(options_.follow, *s.scheme.input_activations, s.input_observer)});
  }
  for (const output_tensor& o : item.encoding->tensors)
    add_slot(item, {m.name + o.name, o.type, o.shape, o.role}, item.encoding->quant_type, name_of_tensor(m.weight.tensor));
  if (t.rows == 1 && t.cols > 0) about_.group_size = t.cols;
  about_.linears.push_back(
      {.name = m.name, .loaded = m.loaded, .quant_type = item.encoding->quant_type, .stage = stage_index, .listed_in_ignore = false});
  const dtype bias_type = item.encoding->bias_type;
  plan_.items.push_back(std::move(item));
  ++plan_.quantized;
  if (!m.bias) return;
  add_matrix_copy(m.name + ".bias", *m.bias, m.rows, 1, true, source_.tensors()[m.bias->tensor].info.dtype, bias_type);
  plan_.items.back().vector = folded_.vectors.contains(m.name + ".bias");
}

inline void planner::add_attention(const chosen_attention& a) {
  const attention_module& about = a.module;
  for (const attention_encoding& e : a.operands) {
    work_item item;
    item.name = about.name + "." + e.operand;
    item.operand = plan_.operands.size();
    const std::size_t channels = e.operand == "query" ? about.heads * about.head_dim
                                 : e.operand == "key" ? about.kv_heads * about.head_dim
                                                      : about.kv_heads * about.value_dim;
    const attention_stage& s = recipe_.attention[a.stage];
    const policy_choice& observer = e.operand == "value" ? s.value_observer : s.observer;
    plan_.operands.push_back({item.name, e.spec, channels, observer_as(options_.follow, s.args, observer)});
    for (const output_tensor& t : e.tensors) add_slot(item, t, e.quant_type, about.name);
    plan_.items.push_back(std::move(item));
  }
  if (!a.operands.empty()) about_.attentions.push_back({about.name, a.operands.front().quant_type, a.stage});
}

inline void planner::add_tied_head() {
  const std::string head = about_.untied ? model_->head : "lm_head";
  if ((!layout_.tied_embeddings && !about_.untied) || source_.find(head + ".weight") != nullptr) return;
  about_.linears.push_back({.name = head, .loaded = {}, .quant_type = {}, .stage = 0, .listed_in_ignore = true});
  if (!about_.untied && !std::visit([](const auto& f) { return f.stores_tied_head; }, options_.format)) return;
  for (const matrix_module& m : layout_.matrices)
    if (about_.untied ? m.name == model_->embedding : m.kind == module_class::embedding && m.name.ends_with("embed_tokens"))
      return add_matrix_copy(head + ".weight", m.weight, m.rows, m.cols, false, m.type, m.type);
}

}  // namespace qlib::inline v0::detail
