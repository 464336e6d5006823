#pragma once
#include <qlib/format/ascend_schemes.hpp>
#include <qlib/linalg/hadamard.hpp>
#include <qlib/model/module_name.hpp>
#include <qlib/model/parameter_check.hpp>
#include <qlib/pipeline/fingerprint.ipp>
#include <qlib/pipeline/place_slots.ipp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/plan_suppression.hpp>
#include <qlib/pipeline/rotation_file.hpp>
#include <qlib/pipeline/stage_of.ipp>
#include <qlib/recipe/policy_options.hpp>

#include <algorithm>
#include <map>
#include <set>

namespace qlib::inline v0 {

namespace detail {

/// Builds a plan matrix by matrix, in model order.
class planner {
 public:
  planner(const checkpoint& source, const model_layout& layout, const recipe& r, const plan_options& options)
      : source_{source}, layout_{layout}, recipe_{r}, options_{options} {
    about_.config_text = source.config_text();
    about_.recipe = &r;
    about_.follow = options.follow;
    if (options.model) {
      parameters_.emplace(source, layout);
      model_ = *options.model;
      adopt_names(*parameters_, *model_);
    }
  }

  errors make(quantization_plan& out) {
    compile_stages();
    if (!found_.empty()) return found_;
    plan_.model_type = layout_.model_type;
    plan_.format = std::visit([](const auto& f) { return std::string{f.name}; }, options_.format);
    plan_.follow = options_.follow;
    plan_.input_bytes = source_.total_bytes();
    if (!layout_.known_family)
      plan_.warnings.push_back("model_type \"" + layout_.model_type +
                               "\" is not known: every two-dimensional .weight that is no embedding, router or norm is taken for a linear layer");
    choose_stages();
    choose_attention();
    choose_rotation();
    choose_suppressions();
    add_everything();
    check();
    if (!found_.empty()) return found_;
    if (status s = finish(); !s) return {s.error()};
    out = std::move(plan_);
    return {};
  }

 private:
  void compile_stages() {
    const auto compile = [&](const std::vector<std::string>& targets, const std::vector<std::string>& ignore, pattern_syntax syntax,
                             const std::string& where, std::vector<compiled_stage>& out) {
      auto t = pattern_set::compile(targets, syntax, where), i = pattern_set::compile(ignore, syntax, where);
      if (!t) found_.push_back(t.error());
      if (!i) found_.push_back(i.error());
      if (t && i) out.push_back({*std::move(t), *std::move(i)});
    };
    const auto check_policy = [&](const auto& made) {
      if (!made) found_.push_back(made.error());
    };
    for (const stage& s : recipe_.stages) {
      compile(s.targets, s.ignore, s.syntax, s.where, stages_);
      check_policy(make_policy<registry::observers>(s.observer, s.where, "observer"));
      check_policy(make_policy<registry::observers>(s.input_observer, s.where, "observer"));
      check_policy(make_policy<registry::rounders>(s.rounder, s.where, "rounder"));
      if (options_.follow == compat::llmcompressor && s.observer.name == "mse")
        found_.push_back(
            {.where = s.where,
             .subject = "observer mse",
             .problem = "--compat llmcompressor is not built for it: that tool sums errors in the weight's dtype and stops its search early",
             .remedy = "leave --compat out: the search is then complete, and its sums are exact"});
    }
    for (const attention_stage& s : recipe_.attention) {
      compile(s.targets, s.ignore, s.syntax, s.where, attention_stages_);
      check_policy(make_policy<registry::observers>(s.observer, s.where, "observer"));
      check_policy(make_policy<registry::observers>(s.value_observer, s.where, "observer"));
    }
    used_.resize(stages_.size());
  }

  /// Which stage takes which matrix; stacked tensors are unpacked when one of their parts is quantized, else kept whole.
  void choose_stages() {
    chosen_.resize(layout_.matrices.size());
    for (std::size_t i = 0; i < layout_.matrices.size(); ++i) {
      chosen_[i] = stage_of(layout_.matrices[i], recipe_, stages_, used_, rivals_);
      if (chosen_[i] && !recipe_.stages[*chosen_[i]].scheme.weights) chosen_[i].reset();
      if (chosen_[i] && !is_computed(layout_.matrices[i], recipe_.stages[*chosen_[i]].scheme)) {
        unseen_.push_back(layout_.matrices[i].name);
        chosen_[i].reset();
      }
      if (const matrix_source& w = layout_.matrices[i].weight; chosen_[i] || w.storage != matrix_storage::plain) unpacked_.insert(w.tensor);
    }
  }

  /// Static inputs have a range only where the forward pass goes: it leaves the layers of multi-token prediction and towers out.
  bool is_computed(const matrix_module& m, const scheme& s) const {
    if (!s.input_activations || s.input_activations->dynamic || !model_ || m.kind == module_class::head) return true;
    const auto& layers = model_->layers;
    return std::any_of(layers.begin(), layers.end(), [&](const layer_description& l) { return m.name.starts_with(l.prefix); });
  }

  /// Types that are written but that vLLM-Ascend has no scheme for: MindIE, or nobody, loads them.
  void check_engine() {
    if (plan_.format != "ascend_v1") return;
    std::map<std::pair<std::string, bool>, std::vector<std::string_view>> strangers;
    for (const work_item& i : plan_.items) {
      if (!i.encoding) continue;
      const bool expert = is_expert(i.name);
      if (!has_ascend_scheme(i.encoding->quant_type, expert)) strangers[{i.encoding->quant_type, expert}].push_back(i.name);
    }
    for (const auto& [key, names] : strangers)
      plan_.warnings.push_back("vLLM-Ascend has no " + key.first + (key.second ? " for experts: " : " for linear layers: ") +
                               std::string{names.front()} + (names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more" : "") +
                               (key.second ? "; it loads w8a8_dynamic there" : "; another engine must load this checkpoint"));
  }

  /// A pattern to leave alone, with the place where it was written.
  static std::string as_written(const stage& s, const std::string& pattern) {
    for (const auto& [translated, written] : s.spelled)
      if (translated == pattern) return "--disable_names: \"" + written + "\"";
    return s.where + ": \"" + pattern + "\"";
  }

  /// Stages that say the same layers twice: all but the first are without effect there.
  void check_rivals() {
    for (const auto& [stages, names] : rivals_) {
      const stage &loser = recipe_.stages[stages.first], &winner = recipe_.stages[stages.second];
      plan_.warnings.push_back(loser.where + ": " + loser.name + " has no effect on " + std::string{names.front()} +
                               (names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more layers" : "") + ": " + winner.name + " of " +
                               winner.where + " matches them too, comes first and wins");
    }
  }

  /// Names of a list that no module has are slips: the layer that was meant is quantized.
  void check_ignored() {
    std::set<std::string> said;
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const std::vector<std::string>& ignore = recipe_.stages[i].ignore;
      std::vector<bool> hit(ignore.size());
      for (const matrix_module& m : layout_.matrices)
        for (const std::size_t p : stages_[i].ignore.matching(m.name, name_of(m.kind))) hit[p] = true;
      for (std::size_t p = 0; p < ignore.size(); ++p)  // a tied head has no tensor
        if (!hit[p] && ignore[p] != "lm_head" && said.insert(ignore[p]).second)
          plan_.warnings.push_back(as_written(recipe_.stages[i], ignore[p]) + " is to be left alone, but no layer has this name");
    }
  }

  void choose_attention() {
    if (attention_stages_.empty()) return;
    if (!model_) {
      found_.push_back({.where = recipe_.attention.front().where,
                        .problem = "model_type \"" + layout_.model_type + "\" is not known, and its attention must be to be quantized",
                        .remedy = "leave attention out"});
      return;
    }
    const model_description& m = *model_;
    for (const layer_description& layer : m.layers) {
      if (layer.delta_net) continue;
      const std::string module = layer.prefix + m.attention.output.substr(0, m.attention.output.rfind('.'));
      for (std::size_t i = 0; i < attention_stages_.size(); ++i) {
        const auto hit = attention_stages_[i].targets.find(module, "Attention");
        if (!hit || !*hit || attention_stages_[i].ignore.matches(module, "Attention")) continue;
        attention_module described{module, m.attention.heads, m.attention.kv_heads, m.attention.head_dim, m.attention.value_dim};
        if (const auto& latent = m.attention.latent) described = {module, m.attention.heads, 1, latent->kv_rank, latent->kv_rank, true};
        auto encoded = std::visit(
            [&](const auto& f) { return f.encode_attention(described, recipe_.attention[i], layout_.run_dtype, options_.follow); }, options_.format);
        if (!encoded) found_.push_back(std::move(encoded).error());
        else attention_.push_back({std::move(described), i, *std::move(encoded)});
        break;
      }
    }
    if (attention_.empty() && found_.empty()) plan_.warnings.push_back(recipe_.attention.front().where + ": matches no attention module");
  }

  void choose_rotation() {
    if (!recipe_.rotation) return;
    const rotation_stage& how = *recipe_.rotation;
    if (!model_)
      return found_.push_back({.where = how.where,
                               .problem = "model_type \"" + layout_.model_type + "\" is not known, and a rotation must know what reads what",
                               .remedy = "leave it out"});
    auto stream = residual_stream_of(*model_, *parameters_);
    if (!stream) return found_.push_back(std::move(stream).error());
    const std::size_t block = how.block_size ? how.block_size : stream->width;
    if (how.residual && (stream->width % block != 0 || !has_hadamard(block)))
      return found_.push_back(
          {.where = how.where,
           .problem = "no Hadamard matrix is known for " + std::to_string(block) + " of the hidden size " + std::to_string(stream->width),
           .remedy = "give a block_size that is a power of two and divides it"});
    if (how.residual) {
      folded_.matrices.insert(stream->embedding);
      for (const residual_stream::norm& n : stream->norms) {
        folded_.vectors.insert(n.name + ".weight");
        folded_.matrices.insert(n.readers.begin(), n.readers.end());
      }
    }
    const auto outputs = [&](const std::string& module) {
      folded_.matrices.insert(module);
      whole_rows_.insert(module);
      if (parameters_->contains(module + ".bias")) folded_.vectors.insert(module + ".bias");
    };
    if (how.residual)
      for (const std::string& writer : stream->writers) outputs(writer);
    if (how.heads)
      for (const residual_stream::values& v : stream->heads) {
        outputs(v.graph.source);
        folded_.matrices.insert(v.graph.targets.begin(), v.graph.targets.end());
      }
    if (const auto name = std::visit([](const auto& f) { return f.rotation_file; }, options_.format); how.residual && how.stored && !name.empty()) {
      auto file = plan_rotation_file(std::string{name}, stream->width);
      if (!file) return found_.push_back(std::move(file).error());
      about_.rotation_file = name;
      plan_.rotation_file = *std::move(file);
    }
    if (how.residual && model_->tied) untie();
    plan_.rotation = planned_rotation{*std::move(stream), how};
    unpack_folded();
  }

  /// The head gets a tensor of its own, made from the embedding also where a head is stored: a tied model does not compute with that one.
  void untie() {
    about_.untied = true;
    const auto named = [&](const std::string& name) {
      const auto at = std::find_if(layout_.matrices.begin(), layout_.matrices.end(), [&](const matrix_module& m) { return m.name == name; });
      return at == layout_.matrices.end() ? nullptr : &*at;
    };
    const matrix_module *stored = named(model_->head), *embedding = named(model_->embedding);
    if (!stored || !embedding) return;
    untied_head_ = *stored;
    untied_head_->weight = embedding->weight;
    untied_head_->type = embedding->type;
  }

  /// Stacked experts that are folded are written apart.
  void unpack_folded() {
    for (const matrix_module& m : layout_.matrices)
      if (folded_.matrices.contains(m.name)) unpacked_.insert(m.weight.tensor);
  }

  void choose_suppressions() {
    if (recipe_.suppression.empty()) return;
    if (!model_) {
      found_.push_back({.where = recipe_.suppression.front().where,
                        .problem = "model_type \"" + layout_.model_type + "\" is not known, and outlier suppression must know what reads what",
                        .remedy = "leave it out"});
      return;
    }
    std::set<std::string_view> quantized;
    for (std::size_t i = 0; i < layout_.matrices.size(); ++i)
      if (chosen_[i]) quantized.insert(layout_.matrices[i].name);
    errors bad = plan_suppressions(
        recipe_, *model_, *parameters_, [&](const std::string& module) { return quantized.contains(module); }, plan_, folded_);
    found_.insert(found_.end(), bad.begin(), bad.end());
    for (const auto& [name, length] : folded_.made)
      if (name.ends_with("norm.bias") && !std::visit([](const auto& f) { return f.stores_norm_bias; }, options_.format))
        return found_.push_back({.where = plan_.suppressions.front().where,
                                 .subject = name,
                                 .problem = "a shift needs norms with a bias, which " + plan_.format + " does not have",
                                 .remedy = "set symmetric: true"});
    unpack_folded();
  }

  std::string path_of(std::size_t tensor) const { return source_.shards()[source_.tensors()[tensor].shard].path(); }

  void add_slot(work_item& item, output_tensor t, std::string quant_type, std::string source) {
    const auto bytes = byte_size(t.type, t.shape);
    output_slot slot{.tensor = std::move(t), .quant_type = std::move(quant_type), .source = std::move(source)};
    slot.bytes = bytes.value_or(0);
    item.slots.push_back(plan_.slots.size());
    plan_.slots.push_back(std::move(slot));
  }

  const std::string& name_of_tensor(std::size_t tensor) const { return source_.tensors()[tensor].info.name; }

  void add_raw(std::size_t tensor) {
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

  void add_matrix_copy(std::string name, const matrix_source& from, std::size_t rows, std::size_t cols, bool vector, dtype read_as, dtype write_as) {
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

  /// Gains or a bias that folding changes.
  void add_vector(const matrix_source& from, std::string name, std::size_t length, dtype read_as, dtype write_as) {
    add_matrix_copy(name, from, length, 1, true, read_as, write_as);
    plan_.items.back().vector = true;
  }

  void add_everything() {
    auto other = layout_.others.begin();
    auto attention = attention_.begin();
    for (std::size_t i = 0; i < layout_.matrices.size(); ++i) {
      const bool untied = untied_head_ && layout_.matrices[i].name == untied_head_->name;
      const matrix_module& m = untied ? *untied_head_ : layout_.matrices[i];
      for (; other != layout_.others.end() && (m.kind == module_class::head || natural_less(name_of_tensor(*other), m.name)); ++other)
        add_raw(*other);
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

  /// A bias that the checkpoint does not have, in the dtype of the weight beside it.
  void add_made(const std::string& name, std::size_t length) {
    const std::string weight = name.substr(0, name.size() - 4) + "weight";
    const dtype type = parameters_->type(weight).value_or(dtype::f32);
    add_vector({}, name, length, type, type);
    plan_.items.back().in_source = false;
    plan_.slots.back().source = weight;
  }

  void add_float(const matrix_module& m) {
    const std::size_t tensor = m.weight.tensor;
    if (m.kind == module_class::linear || m.kind == module_class::head || m.kind == module_class::router) {
      about_.linears.push_back({.name = m.name, .quant_type = {}, .stage = 0, .listed_in_ignore = true});
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

  void add_quantized(const matrix_module& m, std::size_t stage_index) {
    const stage& s = recipe_.stages[stage_index];
    auto encoding = std::visit([&](const auto& f) { return f.encode(m, s.scheme, layout_.run_dtype, options_.follow); }, options_.format);
    if (!encoding) {
      error e = std::move(encoding).error();
      e.where = path_of(m.weight.tensor);
      return found_.push_back(std::move(e));
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
      plan_.operands.push_back({m.name, *item.encoding->input, m.cols, s.input_observer});
    }
    for (const output_tensor& o : item.encoding->tensors)
      add_slot(item, {m.name + o.name, o.type, o.shape, o.role}, item.encoding->quant_type, name_of_tensor(m.weight.tensor));
    if (t.rows == 1 && t.cols > 0) about_.group_size = t.cols;
    about_.linears.push_back({.name = m.name, .quant_type = item.encoding->quant_type, .stage = stage_index, .listed_in_ignore = false});
    const dtype bias_type = item.encoding->bias_type;
    plan_.items.push_back(std::move(item));
    ++plan_.quantized;
    if (!m.bias) return;
    add_matrix_copy(m.name + ".bias", *m.bias, m.rows, 1, true, source_.tensors()[m.bias->tensor].info.dtype, bias_type);
    plan_.items.back().vector = folded_.vectors.contains(m.name + ".bias");
  }

  struct chosen_attention {
    attention_module module;
    std::size_t stage;
    std::vector<attention_encoding> operands;
  };

  void add_attention(const chosen_attention& a) {
    const attention_module& about = a.module;
    for (const attention_encoding& e : a.operands) {
      work_item item;
      item.name = about.name + "." + e.operand;
      item.operand = plan_.operands.size();
      const std::size_t channels = e.operand == "query" ? about.heads * about.head_dim
                                   : e.operand == "key" ? about.kv_heads * about.head_dim
                                                        : about.kv_heads * about.value_dim;
      const attention_stage& s = recipe_.attention[a.stage];
      plan_.operands.push_back({item.name, e.spec, channels, e.operand == "value" ? s.value_observer : s.observer});
      for (const output_tensor& t : e.tensors) add_slot(item, t, e.quant_type, about.name);
      plan_.items.push_back(std::move(item));
    }
    if (!a.operands.empty()) about_.attentions.push_back({about.name, a.operands.front().quant_type, a.stage});
  }

  /// A tied head has no tensor, but it is a Linear to those who load the model: without this they would expect it quantized. Behind a rotation it
  /// has one, whatever the format: the embedding is rotated alone, the head takes the gains of the final norm too.
  void add_tied_head() {
    const std::string head = about_.untied ? model_->head : "lm_head";
    if ((!layout_.tied_embeddings && !about_.untied) || source_.find(head + ".weight") != nullptr) return;
    about_.linears.push_back({.name = head, .quant_type = {}, .stage = 0, .listed_in_ignore = true});
    if (!about_.untied && !std::visit([](const auto& f) { return f.stores_tied_head; }, options_.format)) return;
    for (const matrix_module& m : layout_.matrices)
      if (about_.untied ? m.name == model_->embedding : m.kind == module_class::embedding && m.name.ends_with("embed_tokens"))
        return add_matrix_copy(head + ".weight", m.weight, m.rows, m.cols, false, m.type, m.type);
  }

  void check() {
    for (std::size_t i = 0; i < stages_.size(); ++i)
      for (std::size_t p = 0; p < recipe_.stages[i].targets.size(); ++p)
        if (!used_[i].contains(p))
          plan_.warnings.push_back(recipe_.stages[i].where + ": target \"" + recipe_.stages[i].targets[p] + "\" matches no linear layer");
    check_ignored();
    check_rivals();
    check_engine();
    if (!unseen_.empty())
      plan_.warnings.push_back(unseen_.front() + (unseen_.size() == 1 ? "" : " and " + std::to_string(unseen_.size() - 1) + " more") + ": the " +
                               std::to_string(options_.model->layers.size()) +
                               " layers of config.json do not have it, so that its inputs have no range: stays float");
    if (found_.empty() && plan_.quantized == 0 && attention_.empty())
      found_.push_back({.where = source_.directory(),
                        .problem = "no layer matches the recipe: nothing would be quantized",
                        .remedy = "check targets and ignore; `qlib inspect` lists the layers"});
    std::set<std::string> names;
    for (const output_slot& s : plan_.slots)
      if (!names.insert(s.tensor.name).second)
        found_.push_back({.where = source_.directory(),
                          .subject = s.tensor.name,
                          .problem = "would be written twice",
                          .remedy = "the source holds stacked and separate experts of one layer"});
  }

  status finish() {
    const std::uint64_t limit =
        options_.part_bytes ? *options_.part_bytes : std::visit([](const auto& f) { return f.default_part_bytes; }, options_.format);
    if (status s = place_slots(plan_, options_.format, limit); !s) return s;
    for (const output_slot& s : plan_.slots) {
      about_.tensors.push_back({s.tensor.name, s.quant_type});
      about_.tensor_files.emplace_back(s.tensor.name, plan_.files[s.file].name);
      about_.total_bytes += s.bytes;
    }
    plan_.output_bytes = about_.total_bytes;
    plan_.documents = std::visit([&](const auto& f) { return f.documents(about_); }, options_.format);
    plan_.fingerprint = fingerprint_of(plan_, source_, options_.follow);
    return {};
  }

  const checkpoint& source_;
  const model_layout& layout_;
  const recipe& recipe_;
  const plan_options& options_;
  errors found_;
  quantization_plan plan_;
  manifest about_;
  std::vector<compiled_stage> stages_, attention_stages_;
  std::vector<std::set<std::size_t>> used_;  // targets of each stage that matched something
  stage_rivals rivals_;
  std::vector<std::optional<std::size_t>> chosen_;
  std::vector<std::string> unseen_;         // modules with static inputs that the forward pass does not reach
  std::set<std::size_t> unpacked_, whole_;  // stacked tensors of which a part is quantized; those already copied
  std::vector<chosen_attention> attention_;
  std::optional<checkpoint_parameters> parameters_;  // with what attention and suppression have to know of the model
  std::optional<model_description> model_;
  folded_names folded_;
  std::optional<matrix_module> untied_head_;       // that the source stores
  std::set<std::string, std::less<>> whole_rows_;  // modules whose outputs are rotated
};

}  // namespace detail

QLIB_INLINE errors make_plan(const checkpoint& source, const model_layout& layout, const recipe& r, const plan_options& options,
                             quantization_plan& out) {
  return detail::planner{source, layout, r, options}.make(out);
}

}  // namespace qlib::inline v0
