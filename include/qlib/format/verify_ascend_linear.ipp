#pragma once
#include <qlib/format/verify_ascend_v1.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

namespace qlib::inline v0::detail {

/// How vLLM-Ascend and msModelSlim split K for FlatQuant: (a - b, a + b) with the smallest a >= sqrt(K) whose a^2 - K is a square b^2.
inline std::pair<std::uint64_t, std::uint64_t> kronecker_split(std::uint64_t k) {
  for (std::uint64_t a = static_cast<std::uint64_t>(std::ceil(std::sqrt(static_cast<double>(k))));; ++a) {
    const std::uint64_t rest = a * a - k;
    const auto b = static_cast<std::uint64_t>(std::llround(std::sqrt(static_cast<double>(rest))));
    if (b * b == rest) return {a - b, a + b};
  }
}

class ascend_linear {
 public:
  ascend_linear(findings& f, const ascend_description& d, const std::string& module, const std::string& type, dtype run)
      : f_{f}, d_{d}, module_{module}, type_{type}, kind_{ascend_type_of(type)}, run_{run} {}

  void verify() {
    const std::string& t = kind_.base;
    if (t == "C8" || t == "FAQuant") return f_.add(*f_.folder().find(module_ + ".weight"), "AV1-type", "\"" + type_ + "\" is no type of a weight");
    const std::size_t before = f_.count();
    known(".weight");
    known(".bias");
    if (t == "W8A8SC" || t == "W16A16SC") compressed();
    else if (t == "FLOAT" || t == "W16A16S") weight(float_dtypes);
    else if (t == "W8A8" || t == "W8A8S" || t == "W8A8_MIX") static_int8();
    else if (t == "W8A8_DYNAMIC" || t == "W8A16" || t == "W4A4_DYNAMIC") per_channel(dtype::i8);
    else if (t == "WFP8AFP8_DYNAMIC" || t == "W8A8FP8_DYNAMIC") per_channel(dtype::f8_e4m3);
    else if (t == "W4A16") int4_weights();
    else if (t == "W4A8_DYNAMIC") int4_weights_int8();
    else if (t == "NF4") weight(std::array{dtype::u8});
    else microscaled();
    wrappers();
    bias();
    if (f_.count() == before) leftovers();
  }

 private:
  std::string name(std::string_view suffix) const { return module_ + std::string{suffix}; }
  void known(std::string_view suffix) { known_.insert(std::string{suffix}); }

  /// The weight with rows and columns as stored.
  const stored_tensor* weight(std::span<const dtype> types) {
    const stored_tensor* w = f_.need_any_shape(name(".weight"), types);
    if (!w) return nullptr;
    if (w->info.shape.size() != 2 || w->info.elements() == 0) {
      f_.add(*w, "AV1-shape", "is " + shape_text(w->info.shape) + ", not a matrix");
      return nullptr;
    }
    rows_ = w->info.shape[0];
    cols_ = w->info.shape[1];
    return w;
  }

  const stored_tensor* need(std::string_view suffix, std::span<const dtype> types, const shape_list& shape, bool optional = false) {
    known(suffix);
    return f_.need(name(suffix), types, shape, optional);
  }
  const stored_tensor* need(std::string_view suffix, dtype_list types, const shape_list& shape, bool optional = false) {
    return need(suffix, std::span{types.begin(), types.size()}, shape, optional);
  }

  /// A scale of floats [rows, groups] with K divisible by groups. Returns the groups, 0 if it is wrong.
  std::uint64_t scale(std::string_view suffix, std::uint64_t rows, std::uint64_t k, bool sizes = true) {
    known(suffix);
    const stored_tensor* s = f_.need_any_shape(name(suffix), float_dtypes);
    if (!s) return 0;
    const auto& shape = s->info.shape;
    if (shape.size() != 2 || shape[0] != rows || shape[1] == 0 || k % shape[1] != 0) {
      f_.add(*s, "AV1-shape",
             "is " + shape_text(shape) + ", not [" + std::to_string(rows) + ", 1] or one column a group of " + std::to_string(k) + " inputs");
      return 0;
    }
    f_.check_scale(s);
    if (sizes && shape[1] > 1 && d_.group_size && *d_.group_size != k / shape[1])
      f_.add(*s, "R9", "has groups of " + std::to_string(k / shape[1]) + ", but group_size is " + std::to_string(*d_.group_size));
    return shape[1];
  }

  void static_int8() {
    if (!weight(std::array{dtype::i8})) return;
    need(".quant_bias", {dtype::i32}, {rows_});
    f_.check_scale(need(".input_scale", float_dtypes, {1}));
    f_.check_whole(need(".input_offset", {dtype::f32, dtype::f16, dtype::bf16, dtype::i8}, {1}), -128, 127);
    const stored_tensor* deq = need(".deq_scale", {dtype::f32, dtype::i64}, {rows_});
    const bool optional = kind_.base != "W8A8_MIX";
    f_.check_scale(need(".weight_scale", float_dtypes, {rows_, 1}, optional));
    f_.check_zero(need(".weight_offset", float_dtypes, {rows_, 1}, optional), "AV1-value", "static W8A8 has no term for a weight offset");
    if (!deq) return;
    if (run_ != dtype::f64) {  // f64: MindIE, which takes both
      const dtype wanted = run_ == dtype::bf16 ? dtype::f32 : dtype::i64;
      if (deq->info.dtype != wanted)
        f_.add(*deq, "R5",
               "is " + std::string{name_of(deq->info.dtype)} + ", but the model runs in " + std::string{name_of(run_)} + ", which needs " +
                   std::string{name_of(wanted)} + "; the loader casts silently");
    }
    if (deq->info.dtype == dtype::f32) return f_.check_scale(deq);
    for (const double v : f_.values(*deq)) {  // the bits of an f32, with the sign extended
      const bool f32_bits = v >= -2147483648.0 && v <= 2147483647.0;
      const float scale = f32_bits ? std::bit_cast<float>(static_cast<std::int32_t>(v)) : 0.0f;
      if (std::isfinite(scale) && scale > 0) continue;
      return f_.add(*deq, "AV1-value", std::to_string(static_cast<std::int64_t>(v)) + " is not the bit pattern of a positive f32");
    }
  }

  void per_channel(dtype codes) {
    if (!weight(std::array{codes})) return;
    const std::uint64_t groups = scale(".weight_scale", rows_, cols_);
    known(".weight_offset");
    if (groups == 0) return;
    const stored_tensor* offset = need(".weight_offset", float_dtypes, {rows_, groups});
    if (kind_.base != "W8A16") f_.check_zero(offset, "AV1-value", "the kernels of " + type_ + " are symmetric");
    else if (offset && std::ranges::any_of(f_.values(*offset), [](double v) { return v != 0; }))
      f_.refused_by(engine::vllm_ascend, f_.folder().file_of(*offset), offset->info.name, "R7",
                    "is not 0: the kernel adds the offset that the format subtracts");
    if (groups > 1)
      f_.refused_by(engine::vllm_ascend, f_.folder().file_of(*f_.folder().find(name(".weight"))), name(".weight"), "AV1-support",
                    type_ + " per group has no kernel");
  }

  void int4_weights() {
    const stored_tensor* w = weight(std::array{dtype::i8});
    const stored_tensor* s = f_.folder().find(name(".weight_scale"));
    if (!w) return;
    if (!s || s->info.shape.size() != 2 || s->info.shape[1] == 0) return static_cast<void>(scale(".weight_scale", rows_, cols_));
    // Unpacked [N, K], two rows a byte [N/2, K] (groups, also when one group is the whole row), or two columns a byte [N, K/2].
    const std::uint64_t n = s->info.shape[0];
    const bool by_rows = rows_ * 2 == n;
    if (rows_ != n && !by_rows) return f_.add(*w, "AV1-shape", "is " + shape_text(w->info.shape) + " for weight_scale " + shape_text(s->info.shape));
    rows_ = n;
    if (const std::uint64_t groups = scale(".weight_scale", n, cols_)) need(".weight_offset", float_dtypes, {n, groups});
  }

  void int4_weights_int8() {
    const stored_tensor* w = weight(std::array{dtype::i8});
    const stored_tensor* s = f_.folder().find(name(".weight_scale"));
    if (!w) return;
    const bool unpacked = !d_.version_1 && s && !s->info.shape.empty() && s->info.shape[0] == rows_;
    if (!unpacked) rows_ *= 2;
    const bool two_level = f_.folder().find(name(".weight_scale_second")) != nullptr;
    const std::uint64_t groups = scale(".weight_scale", rows_, cols_);
    if (groups)
      f_.check_zero(need(".weight_offset", {dtype::f32, dtype::f16, dtype::bf16, dtype::i64, dtype::i8}, {rows_, groups}), "AV1-value",
                    "int4 codes are symmetric");
    known(".weight_scale_second");
    known(".weight_offset_second");
    if (two_level)
      if (const std::uint64_t seconds = scale(".weight_scale_second", rows_, cols_))
        f_.check_zero(need(".weight_offset_second", {dtype::f32, dtype::f16, dtype::bf16, dtype::i64}, {rows_, seconds}), "AV1-value",
                      "int4 codes are symmetric");
    known(".scale_bias");
    if (unpacked) return;
    // Which name means which layout is decided by substrings of the whole module name, columns first.
    std::uint64_t columns = 0;
    for (std::string_view part : {"down_proj", "o_proj", "w2"}) columns = module_.find(part) != std::string::npos ? 16 : columns;
    for (std::string_view part : {"up_proj", "gate_proj", "q_proj", "k_proj", "v_proj", "w1", "w3"})
      columns = module_.find(part) != std::string::npos ? 1 : columns;
    if (columns == 0) {
      if (f_.need_any_shape(name(".scale_bias"), float_dtypes))
        f_.warn({}, name(".scale_bias"), "AV1-shape", "has no defined layout for a layer of this name");
      return;
    }
    if (const stored_tensor* b = need(".scale_bias", float_dtypes, {rows_, columns}))
      if (std::ranges::any_of(f_.values(*b), [](double v) { return !std::isfinite(v); })) f_.add(*b, "AV1-value", "is not finite");
  }

  void microscaled() {
    const bool fp8 = kind_.base == "W8A8_MXFP8";
    if (!weight(std::array{fp8 ? dtype::f8_e4m3 : dtype::u8})) return;
    if (!fp8) cols_ *= 2;
    f_.check_scale(need(".weight_scale", {dtype::u8, dtype::f8_e8m0}, {rows_, (cols_ + 31) / 32}));
    if (!kind_.base.ends_with("DUALSCALE")) return;
    known(".weight_dual_scale");
    const stored_tensor* dual = f_.need_any_shape(name(".weight_dual_scale"), std::array{dtype::f32});
    if (dual && (dual->info.shape.size() != 3 || dual->info.shape[0] != rows_ || dual->info.shape[1] == 0 || dual->info.shape[2] != 1))
      f_.add(*dual, "AV1-shape", "is " + shape_text(dual->info.shape) + ", not [" + std::to_string(rows_) + ", blocks, 1]");
    else f_.check_scale(dual);
  }

  void compressed() {
    f_.need_any_shape(name(".weight"), std::array{dtype::i8});
    known(".index");
    f_.need_any_shape(name(".index"), std::array{dtype::i8});
    const stored_tensor* info = need(".info", {dtype::i64}, {5});
    if (info) {
      const auto v = f_.values(*info);
      if (v[0] != 8 || v[1] != 8 || !(v[2] > 0) || !(v[3] > 0)) return f_.add(*info, "AV1-value", "must be [8, 8, K, N, 1]");
      cols_ = static_cast<std::uint64_t>(v[2]);
      rows_ = static_cast<std::uint64_t>(v[3]);
    }
    for (const char* suffix : {".input_scale", ".input_offset", ".quant_bias", ".deq_scale"}) known(suffix);
    if (kind_.base == "W8A8SC")
      for (const char* suffix : {".input_scale", ".input_offset", ".quant_bias", ".deq_scale"})
        if (!f_.folder().find(name(suffix))) f_.add({}, name(suffix), "AV1-missing", "is not stored");
  }

  /// FlatQuant's transforms, SVD's low-rank pair, rotations and key-value scales.
  void wrappers() {
    for (const char* suffix :
         {".div.mul_scale", ".heads_rotation", ".kronecker_rotation_m", ".kronecker_rotation_n", ".kv_cache_scale", ".kv_cache_offset"})
      known(suffix);
    if (kind_.wrapper == "SVD") {
      known(".svd_lowrank_l1");
      known(".svd_lowrank_l2");
      const stored_tensor* l1 = f_.need_any_shape(name(".svd_lowrank_l1"), float_dtypes);
      if (l1 && cols_ && (l1->info.shape.size() != 2 || l1->info.shape[1] != cols_))
        f_.add(*l1, "AV1-shape", "is " + shape_text(l1->info.shape) + ", not [rank, " + std::to_string(cols_) + "]");
      else if (l1 && cols_) need(".svd_lowrank_l2", float_dtypes, {rows_, l1->info.shape[0]});
    }
    if (kind_.wrapper != "FLATQUANT" || cols_ == 0) return;
    std::array<std::uint64_t, 2> sides{};
    for (std::size_t i = 0; i < 2; ++i) {
      const char* suffix = i == 0 ? ".left_trans" : ".right_trans";
      known(suffix);
      const stored_tensor* t = f_.folder().find(name(suffix));
      if (!t) continue;
      if (t->info.shape.size() == 2 && t->info.shape[0] == t->info.shape[1]) sides[i] = t->info.shape[0];
      else f_.add(*t, "AV1-shape", "is " + shape_text(t->info.shape) + ", not a square");
    }
    const auto [left, right] = sides;
    const bool fits = left && right ? left * right == cols_ : left ? cols_ % left == 0 : right ? cols_ % right == 0 : true;
    if (!fits)
      f_.add({}, name(".left_trans"), "AV1-shape",
             "transforms of " + std::to_string(left) + " and " + std::to_string(right) + " do not make up " + std::to_string(cols_) + " inputs");
    else if (kronecker_split(cols_) != std::pair{left, right})
      f_.refused_by(engine::vllm_ascend, {}, name(".left_trans"), "AV1-support",
                    "transforms of " + std::to_string(left) + " and " + std::to_string(right) + " (0: none), but " +
                        std::to_string(kronecker_split(cols_).first) + " and " + std::to_string(kronecker_split(cols_).second) + " are expected");
    f_.check_scale(need(".clip_ratio", float_dtypes, {1}, true));
  }

  void bias() {
    if (rows_) need(".bias", float_dtypes, {rows_}, true);
  }

  /// Every tensor of the module is one that the type knows, and has the entry of the type.
  void leftovers() {
    for (const stored_tensor& t : f_.folder().starting_with(module_ + ".")) {
      const std::string suffix = t.info.name.substr(module_.size());
      if (!known_.contains(suffix)) {
        // A suffix with another dot is a module inside this one.
        if (suffix.find('.', 1) == std::string::npos) f_.add(t, "AV1-unknown", type_ + " has no such tensor: loaders refuse it");
        continue;
      }
      const std::string* entry = d_.type_of(t.info.name);
      if (!entry || *entry == type_) continue;
      const bool plain = *entry == "FLOAT" || *entry == "FLOAT_FLATQUANT";
      const bool other = (suffix == ".bias" && plain) || (suffix.starts_with(".svd_") && plain) || suffix.starts_with(".kv_cache_") ||
                         suffix.ends_with("mul_scale") || suffix.find("rotation") != std::string::npos;
      if (!other) f_.add(f_.folder().description_file(), t.info.name, "AV1-entry", "says " + *entry + ", but the weight is " + type_);
    }
  }

  findings& f_;
  const ascend_description& d_;
  const std::string &module_, &type_;
  ascend_type kind_;
  dtype run_;
  std::uint64_t rows_ = 0, cols_ = 0;  // N and K, once known
  std::set<std::string> known_;
};

QLIB_INLINE void verify_ascend_linear(findings& f, const ascend_description& d, const std::string& module, const std::string& type, dtype run_dtype) {
  ascend_linear{f, d, module, type, run_dtype}.verify();
}

}  // namespace qlib::inline v0::detail
