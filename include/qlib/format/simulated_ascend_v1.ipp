#pragma once
#include <qlib/format/simulated_linear.hpp>
#include <qlib/format/simulated_reader.ipp>
#include <qlib/io/file.hpp>
#include <qlib/model/module_name.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace qlib::inline v0 {

namespace detail {

class ascend_v1_reader {
 public:
  ascend_v1_reader(simulated_reader& read, inference_phase phase, simulated_contents& out) : read_{read}, phase_{phase}, out_{out} {}

  /// `prefix`: the tensors' name without ".weight".
  void linear(const std::string& prefix, const std::string& type) {
    prefix_ = prefix;
    simulated_linear l;
    std::string module = prefix;
    if (prefix.ends_with(".linear")) {  // smoothing that no norm could take moved the linear one level down
      const std::string outer = prefix.substr(0, prefix.size() - 7);
      if (const stored_tensor* factors = read_.optional(outer + ".div.mul_scale")) {
        l.input.factors = stored_values(read_.folder(), *factors);
        module = outer;
      }
    }
    const bool is_float = type == "FLOAT" || type == "W16A16S";
    if (is_float && module == prefix) return;
    for (const char* suffix : {".heads_rotation", ".kronecker_rotation_m", ".kronecker_rotation_n", ".left_trans", ".right_trans", ".svd_lowrank_l1"})
      if (read_.folder().find(module + suffix) || read_.folder().find(prefix + suffix)) {
        read_.fault("", module + suffix, "online transforms are not simulated", "evaluate a checkpoint without them");
        return;
      }
    l.bias = read_.optional(prefix + ".bias");
    if (!(is_float ? floating(l) : typed(type, l))) return;
    if (!l.input.factors.empty() && l.input.factors.size() != l.weight.cols) {
      read_.fault("", module + ".div.mul_scale", "does not have one factor an input feature", "run `qlib verify` on the checkpoint");
      return;
    }
    out_.linears.insert_or_assign(module, std::move(l));
  }

 private:
  bool typed(const std::string& type, simulated_linear& l) {
    l.input.rule = scale_rule::ascend;
    const auto dynamic = [&](activation_type t, int bits = 8) {
      l.input.type = t;
      l.input.num_bits = bits;
      l.input.dynamic = true;
      return true;
    };
    if (type == "W8A8" || type == "W8A8S" || (type == "W8A8_MIX" && phase_ == inference_phase::decode)) return static_int8(l);
    if (type == "W8A8_MIX") {
      for (const char* other : {"deq_scale", "quant_bias", "input_scale", "input_offset"}) read_.optional(prefix_ + "." + other);
      return codes(l, code_layout::bytes, 8) && dynamic(activation_type::integer);
    }
    if (type == "W8A8_DYNAMIC") return codes(l, code_layout::bytes, 8) && dynamic(activation_type::integer);
    if (type == "W4A4_DYNAMIC") return codes(l, code_layout::bytes, 4) && dynamic(activation_type::integer, 4);
    if (type == "W8A16") return codes(l, code_layout::bytes, 8);
    if (type == "W4A16") return codes(l, code_layout::nibble_rows, 4);
    if (type == "W4A8_DYNAMIC") {
      if (!codes(l, code_layout::nibble_rows, 4)) return false;
      read_.optional(prefix_ + ".scale_bias");  // what the kernel's split of the codes needs; it adds nothing to the sum
      read_.optional(prefix_ + ".weight_offset_second");
      if (!second(l, "weight_scale_second")) return false;
      // Releases with this type on plain linears dequantize the weight and leave the input alone.
      if (l.weight.second_scale && prefix_.find(".experts.") == std::string::npos) return true;
      return dynamic(activation_type::integer);
    }
    if (type == "WFP8AFP8_DYNAMIC" || type == "W8A8FP8_DYNAMIC") return codes(l, code_layout::e4m3, 8) && dynamic(activation_type::e4m3);
    if (type == "W8A8_MXFP8") return mx(l, code_layout::e4m3) && dynamic(activation_type::mxfp8);
    if (type == "W4A8_MXFP") return mx(l, code_layout::e2m1) && dynamic(activation_type::mxfp8);
    if (type == "W4A4_MXFP4") return mx(l, code_layout::e2m1) && dynamic(activation_type::mxfp4);
    if (type == "W4A4_MXFP4_DUALSCALE") return mx(l, code_layout::e2m1) && second(l, "weight_dual_scale") && dynamic(activation_type::mxfp4);
    if (type == "W4A16_MXFP4") return mx(l, code_layout::e2m1);
    read_.fault(read_.folder().description_file(), prefix_ + ".weight", "type " + type + " is not simulated",
                "evaluate a checkpoint of another type");
    return false;
  }

  const stored_tensor* matrix(std::initializer_list<dtype> types) {
    const stored_tensor* t = read_.required(prefix_ + ".weight", types);
    if (!t) return nullptr;
    if (t->info.shape.size() == 2 && t->info.elements() > 0) return t;
    read_.fault(read_.folder().file_of(*t), t->info.name, "is not a matrix", "run `qlib verify` on the checkpoint");
    return nullptr;
  }

  bool floating(simulated_linear& l) {
    const stored_tensor* w = matrix(float_types);
    if (!w) return false;
    l.weight = {.rows = w->info.shape[0], .cols = w->info.shape[1], .layout = code_layout::floating, .codes = w};
    l.weight.tile_cols = l.weight.cols;
    return true;
  }

  /// Codes with scales [N, 1] or [N, groups] or [1], and offsets of the same shape.
  bool codes(simulated_linear& l, code_layout layout, int bits) {
    const stored_tensor* w = matrix({layout == code_layout::e4m3 ? dtype::f8_e4m3 : dtype::i8});
    const stored_tensor* s = read_.required(prefix_ + ".weight_scale", float_types);
    const stored_tensor* o = read_.optional(prefix_ + ".weight_offset");
    if (!w || !s) return false;
    stored_matrix& m = l.weight;
    m = {.rows = w->info.shape[0], .cols = w->info.shape[1], .layout = layout, .num_bits = bits, .codes = w, .scale = s};
    const auto& shape = s->info.shape;
    const bool one = s->info.elements() == 1;
    if (layout == code_layout::nibble_rows) {
      // The scales say how many rows there are; with as many rows in both, either nothing is packed or two columns share a byte.
      if (!one && shape[0] == 2 * m.rows) m.rows *= 2;
      else if (shape.size() == 2 && shape[1] == 1 && l.weight.num_bits == 4 && !holds_nibbles_only(*w)) {
        m.layout = code_layout::nibble_columns;
        m.cols *= 2;
      } else {
        m.layout = code_layout::bytes;
      }
    }
    m.tile_cols = m.cols;
    if (one) m.tile_rows = m.rows;
    else if (shape.size() != 2 || shape[0] != m.rows || shape[1] == 0 || m.cols % shape[1] != 0) return read_.has_shape(*s, {m.rows, 1});
    else m.tile_cols = m.cols / shape[1];
    if (o && layout != code_layout::e4m3) {
      if (!read_.has_shape(*o, shape)) return false;
      m.zero_point = o;
    }
    return true;
  }

  /// One int4 code a byte: safe_tensor files of msModelSlim. Packed bytes leave the range soon.
  bool holds_nibbles_only(const stored_tensor& t) const {
    const auto bytes = read_.folder().bytes(t);
    return std::ranges::all_of(bytes.first(std::min<std::size_t>(bytes.size(), 1 << 16)), [](std::byte b) {
      const auto v = static_cast<std::int8_t>(b);
      return v >= -8 && v <= 7;
    });
  }

  bool second(simulated_linear& l, const std::string& suffix) {
    const stored_tensor* s = read_.optional(prefix_ + "." + suffix);
    if (!s) return true;
    const auto& shape = s->info.shape;
    if (shape.size() < 2 || shape[0] != l.weight.rows || shape[1] == 0) return read_.has_shape(*s, {l.weight.rows, 1});
    l.weight.second_scale = s;
    l.weight.second_cols = (l.weight.cols + shape[1] - 1) / shape[1];
    return true;
  }

  bool mx(simulated_linear& l, code_layout layout) {
    const bool narrow = layout == code_layout::e2m1;
    const stored_tensor* w = matrix({narrow ? dtype::u8 : dtype::f8_e4m3});
    const stored_tensor* s = read_.required(prefix_ + ".weight_scale", {dtype::u8, dtype::f8_e8m0});
    if (!w || !s) return false;
    l.weight = {.rows = w->info.shape[0], .cols = w->info.shape[1] * (narrow ? 2 : 1), .layout = layout, .codes = w, .scale = s};
    l.weight.tile_cols = 32;
    l.weight.powers_of_two = true;
    return read_.has_shape(*s, {l.weight.rows, (l.weight.cols + 31) / 32});
  }

  bool static_int8(simulated_linear& l) {
    for (const char* other : {"weight_scale", "weight_offset"}) read_.optional(prefix_ + "." + other);
    const stored_tensor* w = matrix({dtype::i8});
    const stored_tensor* d = read_.required(prefix_ + ".deq_scale", {dtype::f32, dtype::i64});
    const stored_tensor* b = read_.required(prefix_ + ".quant_bias", {dtype::i32});
    const stored_tensor* s = read_.required(prefix_ + ".input_scale", float_types);
    const stored_tensor* o = read_.required(prefix_ + ".input_offset", {dtype::f32, dtype::bf16, dtype::f16, dtype::i8});
    if (!w || !d || !b || !s || !o) return false;
    l.weight = {.rows = w->info.shape[0], .cols = w->info.shape[1], .codes = w};
    l.weight.tile_cols = l.weight.cols;
    if ((d->info.elements() != 1 && !read_.has_shape(*d, {l.weight.rows})) || !read_.has_shape(*b, {l.weight.rows})) return false;
    if (!read_.has_shape(*s, {1}) || !read_.has_shape(*o, {1})) return false;
    l.bias = nullptr;  // folded into quant_bias
    l.folded = {d, b};
    l.input.type = activation_type::integer;
    l.input.scale = stored_value(read_.folder(), *s, 0);
    l.input.zero_point = stored_value(read_.folder(), *o, 0);
    l.input.reciprocal = true;
    if (l.input.scale > 0) return true;
    read_.fault(read_.folder().file_of(*s), s->info.name, "is not positive", "run `qlib verify` on the checkpoint");
    return false;
  }

  simulated_reader& read_;
  inference_phase phase_;
  simulated_contents& out_;
  std::string prefix_;
};

/// "model.layers.0.self_attn" of "model.layers.0.self_attn.k_proj.kv_cache_scale".
inline std::string cut_tail(const std::string& name, std::string_view tail) { return name.substr(0, name.size() - tail.size()); }

}  // namespace detail

QLIB_INLINE errors read_simulated_ascend_v1(const weight_folder& folder, inference_phase phase, simulated_contents& out) {
  out = {};
  detail::simulated_reader read{folder};
  const auto text = read_text_file(folder.directory() + "/" + folder.description_file());
  if (!text) return {text.error()};
  const nlohmann::json types = nlohmann::json::parse(*text, nullptr, false);
  if (!types.is_object()) {
    read.fault(folder.description_file(), "", "is not a JSON object", "give the complete checkpoint");
    return read.take_errors();
  }
  detail::ascend_v1_reader linears{read, phase, out};
  for (const auto& [name, type] : types.items())
    if (type.is_string() && name.ends_with(".weight") && name.find('.') != std::string::npos)
      linears.linear(name.substr(0, name.size() - 7), type.get<std::string>());

  for (const stored_tensor& t : folder.tensors()) {
    const std::string& name = t.info.name;
    const auto offset_of = [&](const char* tail, const char* other) -> std::vector<float> {
      const stored_tensor* o = read.optional(detail::cut_tail(name, tail) + other);
      return o && o->info.shape == t.info.shape ? stored_values(folder, *o) : std::vector<float>{};
    };
    for (const bool key : {true, false}) {
      const std::string cache = key ? ".k_proj.kv_cache_scale" : ".v_proj.kv_cache_scale";
      if (!name.ends_with(cache)) continue;
      attention_arithmetic& a = out.attention[detail::cut_tail(name, cache)];
      (key ? a.key : a.value) = {stored_values(folder, t), offset_of(".kv_cache_scale", ".kv_cache_offset")};
      read.take(&t);
    }
    for (const char which : {'q', 'k', 'v'}) {
      const std::string tail = std::string{".fa_"} + which + ".scale";
      if (!name.ends_with(tail)) continue;
      attention_arithmetic& a = out.attention[detail::cut_tail(name, tail)];
      a.computes = true;
      (which == 'q' ? a.query : which == 'k' ? a.key : a.value) = {stored_values(folder, t), {}};
      const stored_tensor* offset = read.optional(detail::cut_tail(name, ".scale") + ".offset");
      if (offset && offset->info.dtype != dtype::i8) a.type = activation_type::e4m3;
      read.take(&t);
    }
  }
  std::set<std::size_t> files;  // calibration ids and the like lie in files that the description does not know
  for (const stored_tensor& t : folder.tensors())
    if (types.contains(t.info.name)) files.insert(t.shard);
  for (const stored_tensor& t : folder.tensors()) {
    const std::string& name = t.info.name;
    if (read.taken(t) || !files.contains(t.shard)) continue;
    if (name.ends_with(".module.weight") || name.ends_with(".module.bias")) continue;  // a second copy in files of the old saver
    if (name.ends_with(".q_rot") || name.ends_with(".k_rot") || name == "rot.weight") continue;
    // An indexer's LayerNorm has a bias of its own; any other came with asymmetric smoothing.
    const bool made = name.ends_with("norm.bias") && folder.find(detail::cut_tail(name, "bias") + "weight") && !contains_component(name, "indexer");
    if (made) out.norm_bias[detail::cut_tail(name, ".bias")] = &t;
    else out.floats[name] = &t;
  }
  return read.take_errors();
}

}  // namespace qlib::inline v0
