/// The checks that readers of quantized folders share.
#pragma once
#include <qlib/format/simulated_linear.hpp>

#include <initializer_list>
#include <set>
#include <string>
#include <vector>

namespace qlib::inline v0::detail {

/// Finds tensors, checks their dtypes and shapes, and remembers which were taken.
class simulated_reader {
 public:
  explicit simulated_reader(const weight_folder& folder) : folder_{folder} {}

  const weight_folder& folder() const { return folder_; }
  errors take_errors() { return std::move(found_); }
  bool taken(const stored_tensor& t) const { return taken_.contains(&t); }
  void take(const stored_tensor* t) {
    if (t) taken_.insert(t);
  }

  void fault(const std::string& where, const std::string& subject, std::string problem, std::string remedy) {
    found_.push_back({.where = folder_.directory() + "/" + where, .subject = subject, .problem = std::move(problem), .remedy = std::move(remedy)});
  }

  /// Null when absent.
  const stored_tensor* optional(const std::string& name) {
    const stored_tensor* t = folder_.find(name);
    take(t);
    return t;
  }

  /// Null, with an error, when it is absent or has another dtype.
  const stored_tensor* required(const std::string& name, std::initializer_list<dtype> types) {
    const stored_tensor* t = optional(name);
    if (!t) {
      fault("", name, "is missing", "the checkpoint is incomplete: run `qlib verify` on it");
      return nullptr;
    }
    std::string allowed;
    for (const dtype d : types) {
      if (t->info.dtype == d) return t;
      allowed += (allowed.empty() ? "" : " or ") + std::string{name_of(d)};
    }
    fault(folder_.file_of(*t), name, "is " + std::string{name_of(t->info.dtype)} + ", not " + allowed, "run `qlib verify` on the checkpoint");
    return nullptr;
  }

  bool has_shape(const stored_tensor& t, const std::vector<std::uint64_t>& shape) {
    if (t.info.shape == shape) return true;
    const auto text = [](const std::vector<std::uint64_t>& v) {
      std::string s = "[";
      for (const std::uint64_t d : v) s += (s.size() > 1 ? ", " : "") + std::to_string(d);
      return s + "]";
    };
    fault(folder_.file_of(t), t.info.name, "is " + text(t.info.shape) + ", not " + text(shape), "run `qlib verify` on the checkpoint");
    return false;
  }

 private:
  const weight_folder& folder_;
  std::set<const stored_tensor*> taken_;
  errors found_;
};

inline constexpr std::initializer_list<dtype> float_types{dtype::f32, dtype::bf16, dtype::f16};

}  // namespace qlib::inline v0::detail
