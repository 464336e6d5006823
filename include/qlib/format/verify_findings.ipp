#pragma once
#include <qlib/format/verify_findings.hpp>
#include <qlib/model/module_name.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace qlib::inline v0::detail {

QLIB_INLINE std::string shape_text(std::span<const std::uint64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

QLIB_INLINE void findings::add(std::string file, std::string tensor, std::string rule, std::string message) {
  out_.violations.push_back({std::move(file), std::move(tensor), std::move(rule), std::move(message)});
}

QLIB_INLINE void findings::warn(std::string file, std::string tensor, std::string rule, std::string message) {
  out_.warnings.push_back({std::move(file), std::move(tensor), std::move(rule), std::move(message)});
}

QLIB_INLINE void findings::refused_by(engine e, std::string file, std::string tensor, std::string rule, std::string message) {
  message = std::string{name_of(e)} + ": " + message;
  if (target_ == e) add(std::move(file), std::move(tensor), std::move(rule), std::move(message));
  else if (!target_) warn(std::move(file), std::move(tensor), std::move(rule), std::move(message));
}

QLIB_INLINE const stored_tensor* findings::need_any_shape(const std::string& name, std::span<const dtype> types) {
  const stored_tensor* t = folder_.find(name);
  if (!t) {
    add({}, name, rule("missing"), "is not stored");
    return nullptr;
  }
  if (std::ranges::find(types, t->info.dtype) != types.end()) return t;
  std::string wanted;
  for (dtype d : types) wanted += (wanted.empty() ? "" : " or ") + std::string{name_of(d)};
  add(*t, rule("dtype"), "is " + std::string{name_of(t->info.dtype)} + ", not " + wanted);
  return nullptr;
}

QLIB_INLINE const stored_tensor* findings::need(const std::string& name, std::span<const dtype> types, const shape_list& shape, bool optional) {
  if (optional && !folder_.find(name)) return nullptr;
  const stored_tensor* t = need_any_shape(name, types);
  if (!t) return nullptr;
  const bool scalar = shape == shape_list{1} && t->info.shape.empty();
  if (t->info.shape == shape || scalar) return t;
  add(*t, rule("shape"), "is " + shape_text(t->info.shape) + ", not " + shape_text(shape));
  return nullptr;
}

template <class Bad>
void findings::check_values(const stored_tensor& t, const std::string& rule, std::string_view wanted, Bad bad) {
  std::uint64_t count = 0, first = 0;
  double example = 0;
  for_each_value(t.info.dtype, folder_.bytes(t), [&](std::size_t i, double v) {
    if (!bad(v)) return;
    if (count++ == 0) {
      first = i;
      example = v;
    }
  });
  folder_.release(t);
  if (count == 0) return;
  shape_list at(t.info.shape.size());
  for (std::size_t d = at.size(); d-- != 0; first /= t.info.shape[d]) at[d] = first % t.info.shape[d];
  std::array<char, 40> number{};
  std::snprintf(number.data(), number.size(), "%.9g", example);
  add(t, rule,
      "element " + shape_text(at) + " is " + number.data() + ", " + std::string{wanted} + " (" + std::to_string(count) + " of " +
          std::to_string(t.info.elements()) + ")");
}

QLIB_INLINE void findings::check_scale(const stored_tensor* t, std::string rule) {
  if (!t) return;
  if (rule.empty()) rule = this->rule("value");
  if (t->info.dtype == dtype::u8 || t->info.dtype == dtype::f8_e8m0) {
    check_values(*t, rule, "which is NaN", [](double v) { return v == 255; });
  } else {
    check_values(*t, rule, "but a scale is finite and greater than 0", [](double v) { return !(std::isfinite(v) && v > 0); });
  }
}

QLIB_INLINE void findings::check_zero(const stored_tensor* t, std::string rule, std::string_view why) {
  if (t) check_values(*t, rule, "but must be 0: " + std::string{why}, [](double v) { return !(v == 0); });
}

QLIB_INLINE void findings::check_whole(const stored_tensor* t, double low, double high, std::string rule) {
  if (!t) return;
  const std::string wanted =
      "but must be a whole number in " + std::to_string(static_cast<long>(low)) + "..." + std::to_string(static_cast<long>(high));
  check_values(*t, rule.empty() ? this->rule("value") : rule, wanted, [=](double v) { return !(v >= low && v <= high && v == std::floor(v)); });
}

QLIB_INLINE std::vector<double> findings::values(const stored_tensor& t) const {
  std::vector<double> out;
  for_each_value(t.info.dtype, folder_.bytes(t), [&](std::size_t, double v) { out.push_back(v); });
  return out;
}

}  // namespace qlib::inline v0::detail
