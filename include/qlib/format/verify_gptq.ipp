#pragma once
#include <qlib/format/verify_gptq.hpp>
#include <qlib/model/module_name.hpp>
#include <qlib/recipe/match.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

namespace qlib::inline v0::detail {

/// quantization_config of GPTQ or AWQ, with what a `dynamic` entry overrides.
struct gptq_config {
  std::uint64_t bits = 4;
  std::int64_t group_size = -1;  ///< -1: one group
  bool symmetric = true, ordered = false /* desc_act */, static_groups = true, lm_head = false, version_2 = false;
  std::vector<std::string> not_converted;  ///< AWQ: substrings of module names

  struct exception {
    pattern_set pattern;
    bool excluded = false;
    std::optional<std::uint64_t> bits;
    std::optional<std::int64_t> group_size;
    std::optional<bool> symmetric;
  };
  std::vector<exception> exceptions;
};

class gptq_verifier {
 public:
  gptq_verifier(findings& f, bool awq) : f_{f}, awq_{awq}, file_{quantization_config_of(f.folder()).file} {}

  void verify() {
    if (!read_config(nlohmann::json::parse(quantization_config_of(f_.folder()).text, nullptr, false))) return;
    std::vector<std::string> floats, quantized;
    for (const stored_tensor& t : f_.folder().tensors()) {
      const std::string& name = t.info.name;
      if (name.ends_with(".qweight")) quantized.push_back(name.substr(0, name.size() - 8));
      else if (name.ends_with(".weight") && t.info.shape.size() == 2) floats.push_back(name.substr(0, name.size() - 7));
      // A tensor without its qweight would go unnoticed below.
      for (std::string_view suffix : {".qzeros", ".scales", ".g_idx"})
        if (name.ends_with(suffix) && !f_.folder().find(name.substr(0, name.size() - suffix.size()) + ".qweight"))
          f_.add(t, f_.rule("missing"), "has no qweight beside it");
    }
    if (quantized.empty()) f_.add(file_, "quantization_config", f_.rule("missing"), "no .qweight is stored: nothing is quantized");
    for (const std::string& m : quantized) {
      if (f_.folder().find(m + ".weight"))
        f_.add(*f_.folder().find(m + ".weight"), f_.rule("unknown"), "is stored beside qweight: loaders refuse it");
      module(m);
    }
    for (const std::string& m : floats) float_module(m);
    std::vector<std::string> all = quantized;
    all.insert(all.end(), floats.begin(), floats.end());
    std::ranges::sort(all);
    for (const fused_group& g : fused_groups(all)) {
      const auto count = std::ranges::count_if(g.members, [&](const std::string& m) { return std::ranges::binary_search(quantized, m); });
      if (count != 0 && static_cast<std::size_t>(count) != g.members.size())
        f_.add(file_, g.name, f_.rule("fused"), "some shards are quantized and some float");
    }
  }

 private:
  template <class T>
  std::optional<T> value(const nlohmann::json& q, const char* key, bool required) {
    const auto it = q.find(key);
    if (it == q.end() || it->is_null()) {
      if (required) f_.add(file_, key, f_.rule("config"), "is missing");
      return std::nullopt;
    }
    const bool fits = std::is_same_v<T, bool> ? it->is_boolean() : it->is_number_integer();
    if (fits) return it->get<T>();
    f_.add(file_, key, f_.rule("config"), "is " + it->dump());
    return std::nullopt;
  }

  bool read_config(const nlohmann::json& q) {
    if (!q.is_object()) {
      f_.add(file_, "quantization_config", f_.rule("config"), "is not an object");
      return false;
    }
    const bool short_names = awq_ && q.contains("w_bit");
    const auto bits = value<std::int64_t>(q, short_names ? "w_bit" : "bits", true);
    const auto group = value<std::int64_t>(q, awq_ && q.contains("q_group_size") ? "q_group_size" : "group_size", true);
    if (!bits || !group) return false;
    config_.bits = static_cast<std::uint64_t>(*bits);
    config_.group_size = *group;
    const bool width = awq_ ? *bits == 4 : *bits == 2 || *bits == 3 || *bits == 4 || *bits == 8;
    if (!width) f_.add(file_, "bits", f_.rule("config"), std::to_string(*bits) + " bits do not exist in this format");
    if (*group == 0 || *group < -1) f_.add(file_, "group_size", f_.rule("config"), "is " + std::to_string(*group) + ", neither positive nor -1");
    if (!width || *group == 0 || *group < -1) return false;
    if (awq_) {
      config_.symmetric = !value<bool>(q, "zero_point", true).value_or(true);
      if (const auto v = q.find("version"); v != q.end() && v->is_string() && *v != "gemm" && *v != "GEMM")
        f_.add(file_, "version", "AWQ-config", "is " + v->dump() + "; only the layout \"gemm\" is loaded");
    } else {
      config_.ordered = value<bool>(q, "desc_act", true).value_or(false);
      config_.symmetric = value<bool>(q, "sym", false).value_or(true);
      config_.lm_head = value<bool>(q, "lm_head", false).value_or(false);
      config_.static_groups = value<bool>(q, "static_groups", false).value_or(true);
      if (const auto meta = q.find("meta"); meta != q.end() && meta->is_object())
        config_.static_groups = value<bool>(*meta, "static_groups", false).value_or(config_.static_groups);
      const auto layout = q.find("checkpoint_format");
      const bool stated = layout != q.end() && layout->is_string();
      config_.version_2 = stated && *layout == "gptq_v2";
      if (stated && *layout != "gptq_v2" && *layout != "gptq")
        f_.warn(file_, "checkpoint_format", "GPTQ-config", layout->dump() + " is not \"gptq\" or \"gptq_v2\"");
      if (!config_.symmetric && stated && *layout == "gptq" && !(q.contains("meta") && q["meta"].is_object() && q["meta"].contains("quantizer")))
        f_.warn(file_, "sym", "GPTQ-config", "is false: gptqmodel loads that only if meta.quantizer names gptqmodel 0.9 or later");
    }
    if (const auto list = q.find("modules_to_not_convert"); list != q.end() && list->is_array())
      for (const auto& e : *list)
        if (e.is_string()) config_.not_converted.push_back(e.get<std::string>());
    if (const auto dynamic = q.find("dynamic"); dynamic != q.end() && dynamic->is_object())
      for (const auto& [key, e] : dynamic->items()) {
        gptq_config::exception x;
        x.excluded = key.starts_with("-:");
        const std::string regex = "re:" + (key.starts_with("-:") || key.starts_with("+:") ? key.substr(2) : key);
        auto pattern = pattern_set::compile(std::span{&regex, 1}, pattern_syntax::compressed_tensors, "dynamic");
        if (!pattern) {
          f_.add(file_, "dynamic", "GPTQ-config", key + ": " + pattern.error().problem);
          continue;
        }
        x.pattern = *std::move(pattern);
        if (e.is_object()) {
          if (const auto b = value<std::int64_t>(e, "bits", false)) x.bits = static_cast<std::uint64_t>(*b);
          x.group_size = value<std::int64_t>(e, "group_size", false);
          x.symmetric = value<bool>(e, "sym", false);
        }
        config_.exceptions.push_back(std::move(x));
      }
    limits();
    return true;
  }

  /// What vLLM-GCU asks of the whole model.
  void limits() {
    const auto refuse = [&](const char* key, std::string why) { f_.refused_by(engine::vllm_gcu, file_, key, "GCU-config", std::move(why)); };
    const std::int64_t g = config_.group_size;
    if (awq_) {
      if (g != 64) refuse("group_size", "is " + std::to_string(g) + "; AWQ has group 64");
      return;
    }
    if (config_.bits != 4 && config_.bits != 8) refuse("bits", "only 4 and 8 are supported");
    if (config_.bits == 8 && !config_.symmetric) refuse("sym", "8 bit must be symmetric");
    if (g > 0 && g % 64 != 0) refuse("group_size", "is " + std::to_string(g) + ", not a multiple of 64");
    if (g == -1 && config_.bits != 8) refuse("group_size", "-1 works with 8 bit only");
    if (config_.ordered && !config_.static_groups) refuse("desc_act", "needs static_groups: g_idx has to be contiguous");
  }

  bool not_converted(const std::string& m) const {
    return std::ranges::any_of(config_.not_converted, [&](const std::string& part) { return m.find(part) != std::string::npos; });
  }

  void float_module(const std::string& m) {
    if (class_by_name(m) != module_class::linear || !in_decoder_layer(m)) return;
    for (const gptq_config::exception& x : config_.exceptions)
      if (x.excluded && x.pattern.matches(m, "Linear")) return;
    if (not_converted(m)) return;
    if (awq_) f_.add(file_, m, "AWQ-ignore", "is float, but modules_to_not_convert does not name it");
    else f_.warn(file_, m, "GPTQ-float", "is float, but no \"-:\" pattern of dynamic excludes it: engines expect qweight");
  }

  void module(const std::string& m) {
    std::uint64_t bits = config_.bits;
    std::int64_t group = config_.group_size;
    bool symmetric = config_.symmetric;
    for (const gptq_config::exception& x : config_.exceptions) {
      if (!x.pattern.matches(m, "Linear")) continue;
      if (x.excluded) return f_.add(file_, m, "GPTQ-config", "is quantized, but dynamic excludes it");
      bits = x.bits.value_or(bits);
      group = x.group_size.value_or(group);
      symmetric = x.symmetric.value_or(symmetric);
      break;
    }
    if (awq_ && not_converted(m)) f_.add(file_, m, "AWQ-ignore", "is quantized, but modules_to_not_convert names it");
    if (!awq_ && class_by_name(m) == module_class::head && !config_.lm_head) f_.add(file_, m, "GPTQ-config", "is quantized, but lm_head is not true");

    const stored_tensor* w = f_.need_any_shape(m + ".qweight", std::array{dtype::i32});
    const stored_tensor* s = f_.need_any_shape(m + ".scales", float_dtypes);
    if (!w || !s) return;
    if (w->info.shape.size() != 2 || w->info.elements() == 0)
      return f_.add(*w, f_.rule("shape"), "is " + shape_text(w->info.shape) + ", not a matrix");
    const std::uint64_t k = awq_ ? w->info.shape[0] : w->info.shape[0] * 32 / bits, n = awq_ ? w->info.shape[1] * 8 : w->info.shape[1];
    const std::uint64_t g = group == -1 ? k : static_cast<std::uint64_t>(group);
    if (k % g != 0) return f_.add(*w, f_.rule("shape"), std::to_string(k) + " inputs are no multiple of group_size " + std::to_string(g));
    if (n * bits % 32 != 0) return f_.add(*w, f_.rule("shape"), std::to_string(n) + " outputs do not fill the words of qzeros");
    f_.check_scale(f_.need(m + ".scales", float_dtypes, {k / g, n}));
    const stored_tensor* zeros = f_.need(m + ".qzeros", {dtype::i32}, {k / g, n * bits / 32});
    if (zeros && !awq_ && symmetric) check_zeros(*zeros, bits);
    f_.need(m + ".bias", float_dtypes, {n}, true);
    group_index(m, k, g);
    gcu_limits(m, k, n, bits);
    for (const stored_tensor& t : f_.folder().starting_with(m + ".")) {
      const std::string suffix = t.info.name.substr(m.size());
      const bool known = suffix == ".qweight" || suffix == ".qzeros" || suffix == ".scales" || suffix == ".bias" || (suffix == ".g_idx" && !awq_) ||
                         suffix == ".weight";
      if (!known && suffix.find('.', 1) == std::string::npos) f_.add(t, f_.rule("unknown"), "is no tensor of this format");
    }
  }

  /// Symmetric weights have the middle of the range as their zero; the first layout stores it less 1.
  void check_zeros(const stored_tensor& t, std::uint64_t bits) {
    if (32 % bits != 0) return;  // fields of 3 bits straddle words
    const std::uint32_t field = (std::uint32_t{1} << (bits - 1)) - (config_.version_2 ? 0 : 1);
    std::uint32_t word = 0;
    for (std::uint64_t i = 0; i < 32; i += bits) word |= field << i;
    const std::vector<double> all = f_.values(t);
    const auto at = std::ranges::find_if(all, [&](double v) { return static_cast<std::uint32_t>(static_cast<std::int64_t>(v)) != word; });
    if (at == all.end()) return;
    f_.add(t, "GPTQ-zeros",
           "word " + std::to_string(at - all.begin()) + " is not " + std::to_string(field) + " in every field, as symmetric weights have it" +
               (config_.version_2 ? "" : " (the zero less 1)"));
  }

  void group_index(const std::string& m, std::uint64_t k, std::uint64_t g) {
    if (awq_) return;
    const stored_tensor* t = f_.need(m + ".g_idx", {dtype::i32}, {k}, true);
    if (!t) {
      if (config_.ordered && !f_.folder().find(m + ".g_idx")) f_.add({}, m + ".g_idx", "GPTQ-g_idx", "is not stored, but desc_act is true");
      if (is_expert(m) && !f_.folder().find(m + ".g_idx"))
        f_.refused_by(engine::vllm_gcu, file_, m + ".g_idx", "GCU-g_idx", "is not stored: parameters of experts stay uninitialized");
      return;
    }
    const std::vector<double> all = f_.values(*t);
    bool in_range = true, in_order = true, contiguous = true;
    std::set<double> done;
    for (std::size_t i = 0; i < all.size(); ++i) {
      in_range = in_range && all[i] >= 0 && all[i] < static_cast<double>(k / g);
      in_order = in_order && all[i] == static_cast<double>(i / g);
      if (i != 0 && all[i] != all[i - 1]) contiguous = done.insert(all[i - 1]).second && !done.contains(all[i]) && contiguous;
    }
    if (!in_range) f_.add(*t, "GPTQ-g_idx", "names a group outside of 0..." + std::to_string(k / g - 1));
    else if (!in_order && !config_.ordered) f_.add(*t, "GPTQ-g_idx", "is not i / " + std::to_string(g) + ", but desc_act is false");
    if (!contiguous) f_.refused_by(engine::vllm_gcu, f_.folder().file_of(*t), t->info.name, "GCU-g_idx", "is not contiguous");
  }

  void gcu_limits(const std::string& m, std::uint64_t k, std::uint64_t n, std::uint64_t bits) {
    if (bits == 4 && k % 64 != 0)
      f_.refused_by(engine::vllm_gcu, {}, m + ".qweight", "GCU-shape", std::to_string(k) + " inputs are no multiple of 64");
    if (n % 8 != 0) f_.refused_by(engine::vllm_gcu, {}, m + ".qweight", "GCU-shape", std::to_string(n) + " outputs are no multiple of 8");
  }

  findings& f_;
  bool awq_;
  std::string file_;
  gptq_config config_;
};

QLIB_INLINE void verify_gptq(findings& f, const std::string& format) { gptq_verifier{f, format == "awq"}.verify(); }

QLIB_INLINE void verify_gcu_w8a8(findings& f) {
  const found_config found = quantization_config_of(f.folder());
  if (const auto q = nlohmann::json::parse(found.text, nullptr, false); q.is_object() && !q.contains("group_size"))
    f.add(found.file, "group_size", "GCU-config", "is missing");
  for (const stored_tensor& t : f.folder().tensors()) {
    if (t.info.dtype != dtype::i8 || !t.info.name.ends_with(".weight") || t.info.shape.size() != 2) continue;
    const std::string m = t.info.name.substr(0, t.info.name.size() - 7);
    f.check_scale(f.need(m + ".out_scales", {dtype::f32}, {t.info.shape[0]}));
    const stored_tensor* in = f.folder().find(m + ".in_scales");
    const bool one = in && in->info.elements() == 1;
    f.check_scale(f.need(m + ".in_scales", float_dtypes, one ? in->info.shape : shape_list{t.info.shape[1]}));
  }
}

}  // namespace qlib::inline v0::detail
