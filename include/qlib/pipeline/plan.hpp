/// The whole output, decided before the first weight byte is read: every tensor's name, dtype, shape, file and offset, the work that
/// makes it, and every error that metadata can show.
#pragma once
#include <qlib/format/ascend_v1.hpp>
#include <qlib/format/compressed_tensors.hpp>
#include <qlib/format/format.hpp>
#include <qlib/io/checkpoint.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/modules.hpp>
#include <qlib/model/residual_stream.hpp>
#include <qlib/model/subgraph.hpp>
#include <qlib/recipe/recipe.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

namespace registry {
using formats = type_list<ascend_v1_format, compressed_tensors_format>;
}

/// A tensor of the output at its final place.
struct output_slot {
  output_tensor tensor;      ///< whole name
  std::string quant_type;    ///< as the description has it
  std::string source;        ///< the source tensor it is made from
  std::size_t file = 0;      ///< index into quantization_plan::files
  std::uint64_t offset = 0;  ///< absolute, in the file
  std::uint64_t bytes = 0;
};

/// What calibration has to find the parameters of.
struct calibrated_operand {
  std::string name;  ///< of a linear's input: the module; of attention: the module and ".query", ".key" or ".value"
  quant_spec spec;   ///< its granularity is over [tokens, channels]
  std::size_t channels = 0;
  policy_choice observer;
};

/// A sub-graph that the recipe rescales, and how.
struct planned_suppression {
  std::size_t layer = 0;
  subgraph graph;
  policy_choice suppressor;
  bool shift = false;                     ///< biases may take the middle of each channel
  std::string where;                      ///< in the recipe
  std::vector<std::string> clipped = {};  ///< targets whose weights are clipped behind it: quantized, and neither queries nor keys
};

/// The basis of the residual stream, and of values within heads, that the recipe changes.
struct planned_rotation {
  residual_stream stream;
  rotation_stage how;
};

/// What one source matrix or tensor becomes, or, with neither rows nor encoding, where an operand of attention is stored.
struct work_item {
  std::string name;                         ///< module, or tensor for copies
  std::optional<linear_encoding> encoding;  ///< empty: copied
  matrix_source source;
  dtype type = dtype::f32;  ///< what the matrix is read as; for raw copies the tensor's own
  std::size_t rows = 0, cols = 0;
  bool raw = false;                         ///< the bytes of the whole source tensor, unchanged
  std::optional<std::size_t> operand = {};  ///< index into quantization_plan::operands
  std::optional<matrix_source> bias = {};   ///< that quant_bias is made from
  dtype bias_type = dtype::f32;             ///< as it is stored in the source
  std::optional<quant_spec> input = {};     ///< how its input is quantized, static or per token
  bool vector = false;                      ///< gains or a bias, [rows], that folding replaces
  bool in_source = true;                    ///< false: only folding makes it
  bool whole = false;                       ///< rows cannot be made apart
  std::vector<std::size_t> slots;           ///< indices into quantization_plan::slots
  policy_choice observer, rounder;
};

struct planned_file {
  std::string name;
  std::string header;       ///< safetensors header with its length prefix
  std::uint64_t bytes = 0;  ///< of the file
};

struct quantization_plan {
  std::string model_type, format;
  compat follow = compat::none;
  std::vector<work_item> items;  ///< in model order
  std::vector<output_slot> slots;
  std::vector<calibrated_operand> operands;       ///< empty: no calibration data are needed
  std::optional<planned_rotation> rotation;       ///< first
  std::vector<planned_suppression> suppressions;  ///< by layer; of one layer in the order in which they are solved
  std::vector<planned_file> files;
  std::optional<planned_file> rotation_file;  ///< of the residual stream, in a folder below: for draft models that read its hidden states
  std::vector<document> documents;            ///< config.json, description, index
  std::vector<std::string> warnings;
  std::uint64_t input_bytes = 0, output_bytes = 0;
  std::size_t quantized = 0, floats = 0;  ///< matrices
  std::uint64_t fingerprint = 0;          ///< of everything above and of the source files: a journal belongs to one plan
};

struct plan_options {
  registry::formats::any format{ascend_v1_format{}};
  compat follow = compat::none;
  std::optional<std::uint64_t> part_bytes = {};  ///< largest file; 0: one file
  const model_description* model = nullptr;      ///< needed by recipes with static activations or a quantized cache
};

/// Plans the quantization of `source` by `r`. Reads metadata only. Returns all errors at once; `out` changes only when there is none.
errors make_plan(const checkpoint& source, const model_layout& layout, const recipe& r, const plan_options& options, quantization_plan& out);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/plan.ipp>
#endif
