#pragma once
#include <qlib/format/verify_complete.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/module_name.hpp>
#include <qlib/model/parameter_check.hpp>

#include <map>
#include <utility>

namespace qlib::inline v0::detail {

/// A folder as a source of names. Tools store experts under names of their own (LLM-Compressor Mixtral's `w1` as `gate_proj`): what transformers
/// calls the same module is the same.
class stored_weights final : public parameter_source {
 public:
  explicit stored_weights(const weight_folder& folder) : folder_{&folder}, loaded_{loaded_names_of(folder)} {
    for (const stored_tensor& t : folder.tensors()) {
      const std::string& name = t.info.name;
      if (const auto stack = expert_stack_of(name_of_stack(name)); stack && t.info.shape.size() >= 3) {
        for (std::uint64_t e = 0; e < t.info.shape[0]; ++e)
          for (const std::string_view part : {stack->gate_up ? stack->gate : stack->down, stack->gate_up ? stack->up : stack->down})
            add(stack->module(e, part), t);
        continue;
      }
      for (const std::string_view suffix : {".weight", ".weight_packed", ".qweight"})
        if (name.ends_with(suffix)) add(name.substr(0, name.size() - suffix.size()), t);
    }
  }

  std::vector<std::string> names() const override { return names_; }
  bool contains(const std::string& name) const override { return find(name) != nullptr; }
  std::optional<std::vector<std::uint64_t>> shape(const std::string& name) const override {
    const stored_tensor* t = find(name);
    return t ? std::optional{t->info.shape} : std::nullopt;
  }
  std::optional<dtype> type(const std::string& name) const override {
    const stored_tensor* t = find(name);
    return t ? std::optional{t->info.dtype} : std::nullopt;
  }
  status read(const std::string& name, matrix_view<float>, std::size_t) const override { return no_numbers(name); }
  result<linear_weight> linear(const std::string& module) const override { return no_numbers(module); }
  std::string where() const override { return folder_->directory(); }

 private:
  static error no_numbers(const std::string& name) { return {.subject = name, .problem = "only names are known here"}; }

  void add(const std::string& module, const stored_tensor& t) {
    names_.push_back(module + ".weight");
    by_name_.emplace(loaded_.of(module), &t);
  }
  const stored_tensor* find(const std::string& name) const {
    constexpr std::string_view suffix = ".weight";
    if (!name.ends_with(suffix)) return folder_->find(name);
    const auto at = by_name_.find(loaded_.of(std::string_view{name}.substr(0, name.size() - suffix.size())));
    return at == by_name_.end() ? nullptr : at->second;
  }

  const weight_folder* folder_;
  loaded_names loaded_;
  std::vector<std::string> names_;
  std::map<std::string, const stored_tensor*, std::less<>> by_name_;
};

QLIB_INLINE void verify_complete(findings& f) {
  model_description model;
  if (!f.folder().damage().empty() || !read_model_description(f.folder().config_text(), "config.json", model).empty()) return;
  const stored_weights source{f.folder()};
  adopt_names(source, model);
  const std::vector<std::string> absent = absent_weights(model, source);
  constexpr std::size_t most = 8;
  for (std::size_t i = 0; i < absent.size() && i < most; ++i)
    f.add("config.json", absent[i], "FILE-incomplete",
          "is not stored, and " + model.model_type + " with " + std::to_string(model.layers.size()) + " layers needs it" +
              (i + 1 == most && absent.size() > most ? "; so it is with " + std::to_string(absent.size() - most) + " more" : ""));
}

}  // namespace qlib::inline v0::detail
