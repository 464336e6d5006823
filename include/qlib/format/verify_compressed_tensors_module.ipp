#pragma once
#include <qlib/format/verify_compressed_tensors.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

namespace qlib::inline v0::detail {

class compressed_module {
 public:
  compressed_module(findings& f, const stored_scheme& s, const std::string& module) : f_{f}, s_{s}, w_{*s.weights}, module_{module} {}

  void verify() {
    const std::size_t before = f_.count();
    known_ = {".weight", ".bias"};
    const std::string& box = s_.format;
    if (box == "marlin-24" || box.starts_with("sparse"))
      return f_.add({}, module_, "CT-format", "\"" + box + "\" is a legacy format that compressed-tensors no longer reads");
    if (!container_fits()) return f_.add({}, module_, "CT-format", "\"" + box + "\" cannot hold " + type_text(s_));
    if (box == "pack-quantized") packed_integers();
    else if (box == "nvfp4-pack-quantized" || box == "mxfp4-pack-quantized") packed_fp4();
    else plain();
    if (rows_ != 0) {
      scales();
      zero_points();
      group_index();
      need(".bias", float_dtypes, {rows_}, true);
    }
    activations();
    if (f_.count() != before) return;
    for (const stored_tensor& t : f_.folder().starting_with(module_ + ".")) {
      const std::string suffix = t.info.name.substr(module_.size());
      if (!known_.contains(suffix) && suffix.find('.', 1) == std::string::npos)
        f_.add(t, "CT-unknown", type_text(s_) + " in " + box + " has no such tensor: loaders refuse it");
    }
  }

 private:
  std::string name(std::string_view suffix) const { return module_ + std::string{suffix}; }
  const stored_tensor* need(std::string_view suffix, std::span<const dtype> types, const shape_list& shape, bool optional = false) {
    known_.insert(std::string{suffix});
    return f_.need(name(suffix), types, shape, optional);
  }
  const stored_tensor* need(std::string_view suffix, dtype_list types, const shape_list& shape, bool optional = false) {
    return need(suffix, std::span{types.begin(), types.size()}, shape, optional);
  }

  bool container_fits() const {
    const std::string& box = s_.format;
    if (box == "pack-quantized") return !w_.floating && w_.num_bits <= 8;
    if (box == "int-quantized") return !w_.floating;
    if (box == "float-quantized" || box == "mxfp8-quantized") return w_.floating && w_.num_bits == 8;
    if (box == "nvfp4-pack-quantized") return w_.floating && w_.num_bits == 4 && w_.group_size == 16;
    if (box == "mxfp4-pack-quantized") return w_.floating && w_.num_bits == 4 && w_.group_size == 32;
    return box == "naive-quantized" && (!w_.floating || w_.num_bits == 8);
  }

  const stored_tensor* matrix(std::string_view suffix, dtype type) {
    known_.insert(std::string{suffix});
    const stored_tensor* t = f_.need_any_shape(name(suffix), std::array{type});
    if (!t) return nullptr;
    if (t->info.shape.size() == 2 && t->info.elements() != 0) return t;
    f_.add(*t, "CT-shape", "is " + shape_text(t->info.shape) + ", not a matrix");
    return nullptr;
  }

  void plain() {
    const dtype type = w_.floating ? dtype::f8_e4m3 : w_.num_bits <= 8 ? dtype::i8 : dtype::i16;
    const stored_tensor* t = matrix(".weight", type);
    if (!t) return;
    rows_ = t->info.shape[0];
    cols_ = t->info.shape[1];
  }

  void packed_fp4() {
    const stored_tensor* t = matrix(".weight_packed", dtype::u8);
    if (!t) return;
    rows_ = t->info.shape[0];
    cols_ = t->info.shape[1] * 2;
  }

  void packed_integers() {
    known_.insert(".weight_packed");
    const stored_tensor* shape = need(".weight_shape", {dtype::i64, dtype::i32}, {2});
    const stored_tensor* t = matrix(".weight_packed", dtype::i32);
    if (!shape || !t) return;
    const std::vector<double> v = f_.values(*shape);
    const std::uint64_t rows = t->info.shape[0], words = t->info.shape[1], bits = w_.num_bits;
    const std::string said = "[" + std::to_string(static_cast<std::int64_t>(v[0])) + ", " + std::to_string(static_cast<std::int64_t>(v[1])) + "]";
    if (v[0] != static_cast<double>(rows) || v[1] <= 0 || v[1] > 1e12)
      return f_.add(*shape, "CT-weight_shape", "says " + said + ", but weight_packed has " + std::to_string(rows) + " rows");
    const auto cols = static_cast<std::uint64_t>(v[1]);
    const std::uint64_t wanted = (cols * bits + 31) / 32, each = 32 / bits, old = (cols + each - 1) / each;
    if (words != wanted) {
      const std::string numbers = std::to_string(words) + " words a row, but " + std::to_string(cols) + " columns (weight_shape) of " +
                                  std::to_string(bits) + " bits need " + std::to_string(wanted);
      return f_.add(
          *t, "CT-words",
          words == old ? "has the layout of compressed-tensors before May 2026 (" + numbers + "), which readers of today misread" : "has " + numbers);
    }
    rows_ = rows;
    cols_ = cols;
  }

  /// Scales of a row: the second extent of scale and zero point.
  std::uint64_t groups() const { return w_.group_size ? (cols_ + w_.group_size - 1) / w_.group_size : 1; }

  shape_list scale_shape() const {
    if (w_.strategy == "tensor") return {1};
    if (w_.strategy == "block" && w_.block[0] && w_.block[1])
      return {(rows_ + w_.block[0] - 1) / w_.block[0], (cols_ + w_.block[1] - 1) / w_.block[1]};
    return {rows_, groups()};
  }

  void scales() {
    const std::uint64_t g = w_.group_size;
    if (g && cols_ > g && cols_ % g != 0)
      return f_.add({}, name(".weight_scale"), "CT-shape", std::to_string(cols_) + " columns are no multiple of group_size " + std::to_string(g));
    const std::string& box = s_.format;
    if (box == "mxfp4-pack-quantized" || box == "mxfp8-quantized")
      return f_.check_scale(need(".weight_scale", {dtype::u8, dtype::f8_e8m0}, {rows_, (cols_ + 31) / 32}));
    if (box == "nvfp4-pack-quantized") {
      f_.check_scale(need(".weight_scale", {dtype::f8_e4m3}, {rows_, groups()}));
      f_.check_scale(need(".weight_global_scale", {dtype::f32}, {1}));
      return;
    }
    f_.check_scale(need(".weight_scale", float_dtypes, scale_shape()));
  }

  void zero_points() {
    const stored_tensor* stored = f_.folder().find(name(".weight_zero_point"));
    known_.insert(".weight_zero_point");
    if (w_.symmetric) {
      if (stored) f_.add(*stored, "CT-zero", "the weights are symmetric: vLLM refuses the tensor");
      return;
    }
    if (s_.format == "pack-quantized") {
      need(".weight_zero_point", {dtype::i32}, {(rows_ * w_.num_bits + 31) / 32, groups()});
    } else {
      const double half = std::ldexp(1.0, static_cast<int>(w_.num_bits) - 1);
      f_.check_whole(need(".weight_zero_point", {dtype::i8}, scale_shape()), -half, half - 1, "CT-zero");
    }
  }

  void group_index() {
    const stored_tensor* t = f_.folder().find(name(".weight_g_idx"));
    known_.insert(".weight_g_idx");
    if (w_.actorder != "group") {
      if (t) f_.add(*t, "CT-g_idx", "belongs to actorder \"group\" alone; loaders refuse it");
      return;
    }
    if (!f_.for_engine(engine::vllm)) {
      f_.add(t ? f_.folder().file_of(*t) : std::string{}, name(".weight_g_idx"), "CT-g_idx",
             "actorder \"group\" is gone from compressed-tensors 0.19; use \"weight\"");
      return;
    }
    t = need(".weight_g_idx", {dtype::i32}, {cols_});
    if (t) f_.check_whole(t, -1, static_cast<double>(groups()) - 1, "CT-g_idx");
  }

  /// What static activations store; dynamic ones store nothing.
  void activations() {
    if (s_.input && s_.format == "nvfp4-pack-quantized" && (s_.input->local || !s_.input->dynamic)) {
      f_.check_scale(need(".input_global_scale", {dtype::f32}, {1}));
      return;
    }
    const auto of = [&](const std::optional<stored_arguments>& a, const std::string& which) {
      if (!a || a->dynamic) return;
      f_.check_scale(need("." + which + "_scale", float_dtypes, {1}));
      if (a->symmetric) return;
      const double half = std::ldexp(1.0, static_cast<int>(a->num_bits) - 1);
      f_.check_whole(need("." + which + "_zero_point", {dtype::i8}, {1}), -half, half - 1, "CT-zero");
    };
    of(s_.input, "input");
    of(s_.output, "output");
  }

  findings& f_;
  const stored_scheme& s_;
  const stored_arguments& w_;
  const std::string& module_;
  std::uint64_t rows_ = 0, cols_ = 0;  // N and K, once known
  std::set<std::string> known_;
};

QLIB_INLINE void verify_compressed_tensors_module(findings& f, const stored_scheme& s, const std::string& module) {
  compressed_module{f, s, module}.verify();
}

}  // namespace qlib::inline v0::detail
