/// A recipe is one value, whatever language it was written in: the program's flags, an LLM-Compressor YAML and a msModelSlim YAML
/// all become the same list of stages.
#pragma once
#include <qlib/core/quant_spec.hpp>
#include <qlib/core/status.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qlib::inline v0 {

enum class strategy { tensor, channel, group, block, token };

/// How one operand of a linear layer is quantized: compressed-tensors' QuantizationArgs, which msModelSlim's QConfig maps onto.
struct quantization_args {
  number type = number::integer;
  int num_bits = 8;
  bool symmetric = true;
  qlib::strategy strategy = qlib::strategy::channel;
  std::size_t group_size = 0;                                           ///< only with strategy group
  std::size_t block_rows = 0, block_cols = 0;                           ///< only with strategy block
  bool dynamic = false;                                                 ///< computed by the engine at run time: nothing is stored
  std::string observer{};                                               ///< as the recipe spells it; empty: the default of the operand
  std::vector<std::pair<std::string, std::string>> observer_options{};  ///< LLM-Compressor's observer_kwargs, as they are written
  friend bool operator==(const quantization_args&, const quantization_args&) = default;
};

/// What a linear layer becomes. Without `weights` it stays float.
struct scheme {
  std::optional<quantization_args> weights, input_activations;
  bool dynamic_prefill = false;  ///< msModelSlim's pd_mix: static inputs while decoding, dynamic per token while prefilling
  std::string format{};          ///< compressed-tensors' container ("pack-quantized", ...); empty: inferred
  friend bool operator==(const scheme&, const scheme&) = default;
};

/// How the patterns of a stage are written.
enum class pattern_syntax {
  compressed_tensors,  ///< exact name, class name ("Linear"), or "re:<python regex>" anchored at the start
  glob,                ///< msModelSlim: wcmatch fnmatch with brace expansion; `*` crosses dots
};

/// A policy by its registry name, with options as they were written.
struct policy_choice {
  std::string name;
  std::vector<std::pair<std::string, std::string>> options;
  friend bool operator==(const policy_choice&, const policy_choice&) = default;
};

/// One step of a recipe: which modules, and what is done to their weights.
struct stage {
  std::string name;  ///< where it was written, for messages: "group_0", "process[1] linear_quant", "--quant_type w8a8_dynamic"
  pattern_syntax syntax = pattern_syntax::compressed_tensors;
  std::vector<std::string> targets;
  std::vector<std::string> ignore;
  std::vector<std::pair<std::string, std::string>> spelled{};  ///< patterns of `ignore` that were translated, and what the user had written
  qlib::scheme scheme;
  policy_choice observer{"minmax", {}};
  policy_choice rounder{"rtn", {}};
  policy_choice input_observer{"minmax", {}};  ///< of static input_activations
  std::string where;                           ///< file and line, for errors
};

/// One step of a recipe about attention: keys and values are kept quantized, or attention itself computes on codes.
struct attention_stage {
  enum class operands {
    cache,      ///< keys and values (compressed-tensors' kv_cache_scheme, msModelSlim's dynamic_cache)
    attention,  ///< queries, keys and values, a scale a head (msModelSlim's fa3_quant)
  };
  std::string name;
  operands what = operands::cache;
  pattern_syntax syntax = pattern_syntax::compressed_tensors;
  std::vector<std::string> targets;  ///< of attention modules; with globs also of their k_proj and v_proj
  std::vector<std::string> ignore;
  quantization_args args;
  policy_choice observer{"minmax", {}}, value_observer{"minmax", {}};  ///< of queries and keys, and of values
  std::string where;
};

/// A pair of LLM-Compressor's `mappings`: a layer whose output is divided, and the layers that read it.
struct smoothing_mapping {
  std::vector<std::string> smooth, balance;  ///< patterns
  std::string hook;                          ///< activation_hook_target, below the module around `balance`; empty: none
  std::string name, where;                   ///< "AWQModifier.mappings[0]"; file and line
};

/// One step of a recipe that moves outliers from inputs into weights, before anything is quantized.
struct suppression_stage {
  std::string name;
  policy_choice suppressor;
  bool norm_linear = true, ov = true, up_down = true;  ///< which kinds of sub-graphs (model/subgraph.hpp)
  bool query_key = false;
  bool experts = true;  ///< a norm in front of experts too: one scale for all that read it
  pattern_syntax syntax = pattern_syntax::compressed_tensors;
  std::vector<std::string> targets;  ///< of the sub-graphs' sources: norms, up and value projections; of keys: attention modules; empty: all
  std::vector<std::string> ignore;
  std::vector<smoothing_mapping> mappings;    ///< if there are any, they choose, and `targets` has their smooth layers
  std::optional<qlib::scheme> searched = {};  ///< what the recipe wants a search to quantize to; what linears will be decides
  bool searches_inputs = false;               ///< `searched` is about inputs too
  std::string where;
};

/// A Hadamard rotation of the whole model, folded into its weights, before everything else: QuaRot, SpinQuant's fixed rotations.
struct rotation_stage {
  std::string name;
  bool residual = true;        ///< R1: the residual stream
  bool heads = true;           ///< R2: values within each head
  std::size_t block_size = 0;  ///< of the residual rotation; 0: one block
  std::uint64_t seed = 1234;
  bool random_signs = true;  ///< columns change sign by the seed
  bool stored = false;       ///< the residual rotation is a file of the result, where the format has one
  bool strict_heads =
      false;  ///< heads that have no Hadamard matrix, or that block_size does not divide, are errors; else the former stay as they are
  std::string where;
};

/// How the result is stored.
struct save_options {
  std::string format;            ///< "ascend_v1", "compressed_tensors"; empty: the caller decides
  std::uint64_t part_bytes = 0;  ///< largest shard; 0: the format's default
  bool single_file = false;      ///< msModelSlim's part_file_size 0
};

struct recipe {
  std::optional<rotation_stage> rotation;      ///< first of all
  std::vector<suppression_stage> suppression;  ///< in the order in which they are solved
  std::vector<stage> stages;
  std::vector<attention_stage> attention;
  save_options save;
  std::string source;  ///< "modelslim_v1", "llmcompressor" or "flags"
};

}  // namespace qlib::inline v0
