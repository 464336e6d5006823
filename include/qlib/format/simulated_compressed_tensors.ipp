#pragma once
#include <qlib/format/compressed_tensors_config.hpp>
#include <qlib/format/simulated_linear.hpp>
#include <qlib/format/simulated_reader.ipp>
#include <qlib/io/file.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <set>

namespace qlib::inline v0 {

namespace detail {

class compressed_tensors_reader {
 public:
  compressed_tensors_reader(simulated_reader& read, const stored_config& config, simulated_contents& out) : read_{read}, config_{config}, out_{out} {}

  void linear(const std::string& module) {
    module_ = module;
    const stored_scheme* s = config_.scheme_of(module);
    if (!s) s = config_.scheme_of(module, "Embedding");
    if (!s || !s->weights || s->unknown) {
      refuse(s && s->unknown ? "scheme " + s->name + " is not known" : std::string{"is quantized, but no config group says how"});
      return;
    }
    simulated_linear l;
    l.bias = read_.optional(module + ".bias");
    if (s->output) return refuse("quantized outputs are not simulated");
    if (!weight(*s->weights, l.weight) || !input(s->input, l.input)) return;
    out_.linears.insert_or_assign(module, std::move(l));
  }

  /// Scales of keys and values, by attention module.
  void cache(const std::string& module) {
    attention_arithmetic a;
    const bool integers = config_.kv_cache && !config_.kv_cache->floating;  // scales without a scheme are fp8, as in vLLM
    a.type = integers ? activation_type::integer : activation_type::e4m3;
    if (integers) a.num_bits = static_cast<int>(config_.kv_cache->num_bits);
    for (const char which : {'q', 'k', 'v'}) {
      const stored_tensor* scale = read_.optional(module + "." + which + "_scale");
      const stored_tensor* zero = read_.optional(module + "." + which + "_zero_point");
      if (!scale) continue;
      cached_scales& to = which == 'q' ? a.query : which == 'k' ? a.key : a.value;
      to.scales = stored_values(read_.folder(), *scale);
      if (zero && zero->info.elements() == scale->info.elements()) to.zero_points = stored_values(read_.folder(), *zero);
    }
    out_.attention[module] = std::move(a);
  }

 private:
  void refuse(std::string problem) { read_.fault("config.json", module_, std::move(problem), "evaluate a checkpoint of another scheme"); }

  bool weight(const stored_arguments& w, stored_matrix& m) {
    const bool packed = read_.folder().find(module_ + ".weight_packed") != nullptr;
    const bool fp4 = w.floating && w.num_bits == 4;
    const stored_tensor* codes = packed ? read_.required(module_ + ".weight_packed", {fp4 ? dtype::u8 : dtype::i32})
                                        : read_.required(module_ + ".weight", {w.floating ? dtype::f8_e4m3 : dtype::i8});
    if (!codes) return false;
    m.codes = codes;
    m.num_bits = static_cast<int>(w.num_bits);
    if (codes->info.shape.size() != 2 || codes->info.elements() == 0) {
      read_.fault(read_.folder().file_of(*codes), codes->info.name, "is not a matrix", "run `qlib verify` on the checkpoint");
      return false;
    }
    m.rows = codes->info.shape[0];
    m.cols = codes->info.shape[1];
    m.layout = w.floating ? code_layout::e4m3 : code_layout::bytes;
    if (fp4) {
      m.layout = code_layout::e2m1;
      m.cols *= 2;
    } else if (packed) {
      const stored_tensor* shape = read_.required(module_ + ".weight_shape", {dtype::i64, dtype::i32});
      if (!shape || !read_.has_shape(*shape, {2})) return false;
      m.layout = code_layout::words;
      m.rows = static_cast<std::size_t>(stored_integer(*shape, 0));
      m.cols = static_cast<std::size_t>(stored_integer(*shape, 1));
      if (w.num_bits < 2 || w.num_bits > 8) return refuse(std::to_string(w.num_bits) + "-bit words are not simulated"), false;
      if (!read_.has_shape(*codes, {m.rows, (m.cols * w.num_bits + 31) / 32})) return false;
    }
    const bool bytes =
        fp4 && read_.folder().find(module_ + ".weight_scale") != nullptr && bits_of(read_.folder().find(module_ + ".weight_scale")->info.dtype) == 8;
    m.scale = read_.required(module_ + ".weight_scale", {dtype::f32, dtype::bf16, dtype::f16, dtype::f8_e4m3, dtype::u8, dtype::f8_e8m0});
    if (!m.scale) return false;
    m.powers_of_two = m.scale->info.dtype == dtype::u8 || m.scale->info.dtype == dtype::f8_e8m0;
    if (bytes && w.strategy == "tensor_group") {
      const stored_tensor* global = read_.required(module_ + ".weight_global_scale", float_types);
      if (!global || !read_.has_shape(*global, {1})) return false;
      m.global_scale = stored_value(read_.folder(), *global, 0);
    }
    if (!tiles(w, m)) return false;
    const grid g = grid_of(tile{m.tile_rows, m.tile_cols}, m.rows, m.cols);
    if (m.scale->info.elements() != g.tiles() && !read_.has_shape(*m.scale, {g.rows, g.cols})) return false;
    if (const stored_tensor* z = read_.optional(module_ + ".weight_zero_point")) {
      m.packed_zero_points = m.layout == code_layout::words && z->info.dtype == dtype::i32;
      if (m.packed_zero_points && !read_.has_shape(*z, {(g.rows * w.num_bits + 31) / 32, g.cols})) return false;
      if (!m.packed_zero_points && z->info.elements() != g.tiles()) return read_.has_shape(*z, {g.rows, g.cols});
      m.zero_point = z;
    }
    return order(g, m);
  }

  bool tiles(const stored_arguments& w, stored_matrix& m) {
    m.tile_rows = 1;
    m.tile_cols = m.cols;
    if (w.strategy == "tensor") m.tile_rows = m.rows;
    else if (w.strategy == "group" || w.strategy == "tensor_group") m.tile_cols = w.group_size;
    else if (w.strategy == "block") m.tile_rows = w.block[0], m.tile_cols = w.block[1];
    else if (w.strategy != "channel") return refuse("weights per " + w.strategy + " are not simulated"), false;
    if (m.tile_rows == 0 || m.tile_cols == 0) return refuse("has no size of its groups"), false;
    return true;
  }

  /// weight_g_idx of files before 0.19; -1 says that it was never filled.
  bool order(const grid& g, stored_matrix& m) {
    const stored_tensor* index = read_.optional(module_ + ".weight_g_idx");
    if (!index) return true;
    if (!read_.has_shape(*index, {m.cols})) return false;
    for (std::size_t c = 0; c < m.cols; ++c) {
      const float i = stored_value(read_.folder(), *index, c);
      if (i < 0) return true;
      if (i >= static_cast<float>(g.cols)) {
        read_.fault(read_.folder().file_of(*index), index->info.name, "names a group that does not exist", "run `qlib verify` on the checkpoint");
        return false;
      }
    }
    m.group_index = index;
    return true;
  }

  bool input(const std::optional<stored_arguments>& a, activation_arithmetic& out) {
    if (!a) return true;
    if (a->floating && a->num_bits != 8) return refuse("4-bit float inputs are not simulated"), false;
    if (!a->scale_dtype.empty()) return refuse("inputs with scales of " + a->scale_dtype + " are not simulated"), false;
    if (a->num_bits > 8) return refuse(std::to_string(a->num_bits) + "-bit inputs are not simulated"), false;
    out.type = a->floating ? activation_type::e4m3 : activation_type::integer;
    out.num_bits = static_cast<int>(a->num_bits);
    out.rule = scale_rule::compressed_tensors;
    out.symmetric = a->symmetric;
    out.dynamic = a->dynamic;
    if (a->dynamic) {
      if (a->strategy == "token") return true;
      if (a->strategy == "group") {
        out.group_size = a->group_size;
        return true;
      }
      return refuse("dynamic inputs per " + a->strategy + " are not simulated"), false;
    }
    if (a->strategy != "tensor") return refuse("static inputs per " + a->strategy + " are not simulated"), false;
    const stored_tensor* s = read_.required(module_ + ".input_scale", float_types);
    const stored_tensor* z = read_.optional(module_ + ".input_zero_point");
    if (!s || s->info.elements() != 1) return s ? read_.has_shape(*s, {1}) : false;
    out.scale = stored_value(read_.folder(), *s, 0);
    if (z && z->info.elements() == 1) out.zero_point = stored_value(read_.folder(), *z, 0);
    if (out.scale == 0) out.scale = 0x1p-23f;
    return true;
  }

  std::int64_t stored_integer(const stored_tensor& t, std::size_t at) const {
    const std::byte* base = read_.folder().bytes(t).data();
    std::int64_t v = 0;
    if (t.info.dtype == dtype::i64) {
      std::memcpy(&v, base + at * 8, 8);
      return v;
    }
    std::int32_t narrow = 0;
    std::memcpy(&narrow, base + at * 4, 4);
    return narrow;
  }

  simulated_reader& read_;
  const stored_config& config_;
  simulated_contents& out_;
  std::string module_;
};

/// The files that an engine loads: model.safetensors, or those of its index, or all.
inline std::set<std::string> model_files(const weight_folder& folder) {
  if (folder.has_file("model.safetensors")) return {"model.safetensors"};
  std::set<std::string> files;
  if (folder.has_file("model.safetensors.index.json"))
    if (const auto text = read_text_file(folder.directory() + "/model.safetensors.index.json")) {
      const auto j = nlohmann::json::parse(*text, nullptr, false);
      if (j.is_object() && j.contains("weight_map") && j["weight_map"].is_object())
        for (const auto& [name, file] : j["weight_map"].items())
          if (file.is_string()) files.insert(file.get<std::string>());
    }
  if (files.empty()) files.insert(folder.weight_names().begin(), folder.weight_names().end());
  return files;
}

}  // namespace detail

QLIB_INLINE errors read_simulated_compressed_tensors(const weight_folder& folder, simulated_contents& out) {
  out = {};
  detail::simulated_reader read{folder};
  stored_config config;
  config.names = loaded_names_of(folder);
  read_compressed_tensors_config(quantization_config_of(folder).text, config);
  if (config.groups.empty()) read.fault("config.json", "quantization_config", "has no config_groups", "give the complete checkpoint");
  const std::set<std::string> files = detail::model_files(folder);
  detail::compressed_tensors_reader linears{read, config, out};
  for (const stored_tensor& t : folder.tensors()) {
    const std::string& name = t.info.name;
    if (!files.contains(folder.file_of(t))) continue;
    if (name.ends_with(".weight_packed")) linears.linear(name.substr(0, name.size() - 14));
    else if (name.ends_with(".weight") && (bits_of(t.info.dtype) <= 8 || folder.find(name + "_scale")))
      linears.linear(name.substr(0, name.size() - 7));
    else if (name.ends_with(".k_scale")) linears.cache(name.substr(0, name.size() - 8));
  }
  for (const stored_tensor& t : folder.tensors())
    if (!read.taken(t) && files.contains(folder.file_of(t))) out.floats[t.info.name] = &t;
  return read.take_errors();
}

}  // namespace qlib::inline v0
