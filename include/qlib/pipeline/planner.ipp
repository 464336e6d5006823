/// Builds a plan. Part of plan.ipp.
#pragma once
#include <qlib/model/parameter_check.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/plan_suppression.hpp>
#include <qlib/pipeline/stage_of.ipp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace qlib::inline v0::detail {

/// Static inputs that LLM-Compressor's memoryless_minmax observes: each sample's range takes the place of the one before.
inline bool keeps_last_sample(const quantization_args& x) { return !x.dynamic && x.observer == "memoryless_minmax"; }

/// The observer of one operand. Ranges of the last sample alone are a peer's defect, and made where that peer is followed.
inline policy_choice observer_as(compat follow, const quantization_args& x, const policy_choice& chosen) {
  if (follow != compat::llmcompressor || !keeps_last_sample(x)) return chosen;
  return {"moving_average", {{"averaging_constant", "1"}}};
}

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

  errors make(quantization_plan& out);

 private:
  void compile_stages();
  /// Which stage takes which matrix; stacked tensors are unpacked when one of their parts is quantized, else kept whole.
  void choose_stages();
  /// Static inputs have a range only where the forward pass goes: it leaves the layers of multi-token prediction and towers out.
  bool is_computed(const matrix_module& m, const scheme& s) const;
  /// Types that are written but that vLLM-Ascend has no scheme for: MindIE, or nobody, loads them.
  void check_engine();
  /// What engines load as one matrix has one type, as `qlib verify` will ask; with --compat, whose tools write mixes too, that is a warning. After
  /// the documents.
  void check_fused();
  /// Names of a list that no module has are slips: the layer that was meant is quantized.
  void check_ignored();
  /// Stages that say the same layers twice: all but the first are without effect there.
  void check_rivals();
  /// Matrices that the recipe's patterns reach and that are not quantized all the same: they are named.
  void note_embeddings();
  void note_tied_head();
  void check_left_out();
  /// No two tensors of the output have one name.
  void check_names();
  /// Tensors that the family's forward pass needs, and that the source does not have.
  void check_complete();
  void choose_attention();
  void choose_rotation();
  /// The head gets a tensor of its own, made from the embedding also where a head is stored: a tied model does not compute with that one.
  void untie();
  /// Stacked experts that are folded are written apart.
  void unpack_folded();
  void choose_suppressions();

  std::string path_of(std::size_t tensor) const;
  void add_slot(work_item& item, output_tensor t, std::string quant_type, std::string source);
  const std::string& name_of_tensor(std::size_t tensor) const;
  void add_raw(std::size_t tensor);
  void add_matrix_copy(std::string name, const matrix_source& from, std::size_t rows, std::size_t cols, bool vector, dtype read_as, dtype write_as);
  /// Gains or a bias that folding changes.
  void add_vector(const matrix_source& from, std::string name, std::size_t length, dtype read_as, dtype write_as);
  void add_everything();
  /// A bias that the checkpoint does not have, in the dtype of the weight beside it.
  void add_made(const std::string& name, std::size_t length);
  void add_float(const matrix_module& m);
  void add_quantized(const matrix_module& m, std::size_t stage_index);

  struct chosen_attention {
    attention_module module;
    std::size_t stage;
    std::vector<attention_encoding> operands;
  };
  void add_attention(const chosen_attention& a);
  /// A tied head has no tensor, but it is a Linear to those who load the model: without this they would expect it quantized. Behind a rotation it
  /// has one, whatever the format: the embedding is rotated alone, the head takes the gains of the final norm too.
  void add_tied_head();
  void check_made_biases();
  void check();
  status finish();

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
  std::vector<std::string_view> transposed_;                         // chosen, but stored [in, out]
  std::map<std::string, std::vector<std::string_view>> embeddings_;  // that a target matches; by the place of the target
  std::string tied_target_;                                          // the target that matches a tied head
  std::vector<std::string> unseen_;                                  // modules with static inputs that the forward pass does not reach
  std::set<std::size_t> unpacked_, whole_;                           // stacked tensors of which a part is quantized; those already copied
  std::vector<chosen_attention> attention_;
  std::optional<checkpoint_parameters> parameters_;  // with what attention and suppression have to know of the model
  std::optional<model_description> model_;
  folded_names folded_;
  std::optional<matrix_module> untied_head_;       // that the source stores
  std::set<std::string, std::less<>> whole_rows_;  // modules whose outputs are rotated
  struct refusal {
    std::size_t error = 0, more = 0;  // index into found_; matrices behind the one that it names
  };
  std::map<std::string, refusal> refusals_;  // of the format, by what it says
};

}  // namespace qlib::inline v0::detail
