/// What the checks of all formats share: how a finding is recorded, and the questions asked of one tensor.
#pragma once
#include <qlib/core/convert.hpp>
#include <qlib/format/fused_groups.hpp>
#include <qlib/format/verify.hpp>
#include <qlib/format/weight_folder.hpp>
#include <qlib/model/module_class.hpp>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0::detail {

using shape_list = std::vector<std::uint64_t>;
using dtype_list = std::initializer_list<dtype>;

inline constexpr dtype float_dtypes[]{dtype::f32, dtype::f16, dtype::bf16};

/// Calls f(index, value) for each element of a tensor of at most 64-bit numbers; other dtypes give nothing.
template <class F>
void for_each_value(dtype type, std::span<const std::byte> bytes, F&& f) {
  const auto all = [&](auto sample, auto widen) {
    const std::size_t n = bytes.size() / sizeof sample;
    for (std::size_t i = 0; i < n; ++i) {
      std::memcpy(&sample, bytes.data() + i * sizeof sample, sizeof sample);
      f(i, widen(sample));
    }
  };
  const auto number = [](auto v) { return static_cast<double>(v); };
  switch (type) {
    case dtype::f32:
      return all(float{}, number);
    case dtype::f64:
      return all(double{}, number);
    case dtype::bf16:
      return all(bf16{}, [](bf16 v) { return static_cast<double>(to_float(v)); });
    case dtype::f16:
      return all(f16{}, [](f16 v) { return static_cast<double>(to_float(v)); });
    case dtype::f8_e4m3:
      return all(std::uint8_t{}, [](std::uint8_t v) { return static_cast<double>(e4m3_to_float(v)); });
    case dtype::i8:
      return all(std::int8_t{}, number);
    case dtype::u8:
      return all(std::uint8_t{}, number);
    case dtype::f8_e8m0:
      return all(std::uint8_t{}, number);  // the exponent's byte
    case dtype::i16:
      return all(std::int16_t{}, number);
    case dtype::i32:
      return all(std::int32_t{}, number);
    case dtype::i64:
      return all(std::int64_t{}, number);
    default:
      return;
  }
}

std::string shape_text(std::span<const std::uint64_t> shape);

/// Collects what is found in one folder for one engine.
class findings {
 public:
  /// `prefix` starts the names of the general rules: "CT" gives CT-missing, CT-dtype, CT-shape, CT-value.
  findings(const weight_folder& folder, std::optional<engine> target, std::string prefix, verification& out)
      : folder_{folder}, target_{target}, prefix_{std::move(prefix)}, out_{out} {}

  /// Violations so far: what depends on a sound part is not checked after a broken one.
  std::size_t count() const { return out_.violations.size(); }

  const weight_folder& folder() const { return folder_; }
  std::optional<engine> target() const { return target_; }
  bool for_engine(engine e) const { return target_ == e; }
  std::string rule(std::string_view tail) const { return prefix_ + "-" + std::string{tail}; }

  void add(std::string file, std::string tensor, std::string rule, std::string message);
  void warn(std::string file, std::string tensor, std::string rule, std::string message);
  void add(const stored_tensor& t, std::string rule, std::string message) {
    add(folder_.file_of(t), t.info.name, std::move(rule), std::move(message));
  }

  /// Sound, but `e` refuses it or reads it wrongly: a violation for that engine, a warning when no engine was named, else nothing.
  void refused_by(engine e, std::string file, std::string tensor, std::string rule, std::string message);

  /// The tensor, if it is there with one of these dtypes and exactly this shape ([1] also takes a scalar); else a violation
  /// and null. An absent optional one is null alone.
  const stored_tensor* need(const std::string& name, std::span<const dtype> types, const shape_list& shape, bool optional = false);
  const stored_tensor* need(const std::string& name, dtype_list types, const shape_list& shape, bool optional = false) {
    return need(name, std::span{types.begin(), types.size()}, shape, optional);
  }

  /// Existence and dtype alone.
  const stored_tensor* need_any_shape(const std::string& name, std::span<const dtype> types);

  /// Every value is finite and greater than 0. E8M0 bytes: not 255, which is NaN. Null is ignored.
  void check_scale(const stored_tensor* t, std::string rule = {});
  /// Every value is 0. `why` completes "is not zero: ...".
  void check_zero(const stored_tensor* t, std::string rule, std::string_view why);
  /// Every value is a whole number in [low, high].
  void check_whole(const stored_tensor* t, double low, double high, std::string rule = {});

  /// The values of a small tensor.
  std::vector<double> values(const stored_tensor& t) const;

 private:
  template <class Bad>
  void check_values(const stored_tensor& t, const std::string& rule, std::string_view wanted, Bad bad);

  const weight_folder& folder_;
  std::optional<engine> target_;
  std::string prefix_;
  verification& out_;
};

/// nn.Linear to those who load a module of this name: heads and routers too.
inline bool is_linear_name(std::string_view module) {
  const module_class c = class_by_name(module);
  return c == module_class::linear || c == module_class::head || c == module_class::router;
}

}  // namespace qlib::inline v0::detail

#if !defined(QLIB_COMPILED)
#include <qlib/format/verify_findings.ipp>
#endif
