/// What a quantized checkpoint cost and kept, as plain data: the source of report.json, report.html and the text on the terminal.
#pragma once
#include <qlib/core/range.hpp>
#include <qlib/pipeline/magnitude_histogram.hpp>
#include <qlib/pipeline/suppression_report.hpp>
#include <qlib/pipeline/weight_error.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

struct reported_layer {
  std::string name, quant_type;
  std::optional<weight_error> error;  ///< none: not measured
  std::uint64_t bytes_before = 0;     ///< of the weight in the source; 0: not known
  std::uint64_t bytes_after = 0;      ///< of codes, scales and all else that the module stores
  std::string path = {};              ///< what ran where, of devices
};

/// A calibrated activation.
struct reported_operand {
  std::string name, observer;
  std::size_t tokens = 0;
  range seen = range::undefined();     ///< of everything that passed
  range covered = range::undefined();  ///< what codes can express; the widest over channels
  double range_score = 0;
  std::optional<float> scale;  ///< of operands with a single one
  std::int32_t zero_point = 0;
  std::optional<magnitude_histogram> histogram;
};

struct reported_calibration {
  std::string file, products;
  std::size_t samples = 0, tokens = 0, truncated = 0, dropped_tokens = 0;
  double seconds = 0;
  std::vector<reported_operand> operands;
};

/// What `qlib eval --json` prints.
struct reported_evaluation {
  std::size_t tokens = 0;
  std::optional<double> ppl, ppl_reference, kl, top1, max_abs_logit_diff;
};

struct accuracy_report {
  std::string model;  ///< name of the folder
  std::string model_type, quant_type, format;
  double seconds = 0;  ///< of the run; 0: not known, as for the next
  std::uint64_t peak_rss_bytes = 0;
  std::uint64_t input_bytes = 0, output_bytes = 0;  ///< of all tensors; input 0: not known
  std::size_t quantized = 0, floats = 0;            ///< layers that are quantized; tensors that are not
  std::optional<reported_calibration> calibration;
  std::optional<reported_evaluation> evaluation;
  std::vector<suppression_report> subgraphs;  ///< that outlier suppression rescaled, or left
  std::vector<reported_layer> layers;         ///< the quantized ones, in model order
  std::vector<std::string> files, warnings;
};

}  // namespace qlib::inline v0
