/// How well a model predicts, and how far it is from another one.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/format/simulated_linear.hpp>
#include <qlib/linalg/gemm.hpp>
#include <qlib/model/decoder.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// Over all tokens of all samples, natural logarithms, sums in f64.
struct evaluation {
  std::size_t tokens = 0;
  std::optional<double> ppl;            ///< exp of the mean of -log p(next token); none when no sample has two tokens
  std::optional<double> ppl_reference;  ///< these four: none without a reference
  std::optional<double> kl;             ///< mean over tokens of KL(reference ‖ model)
  std::optional<double> top1;           ///< share of tokens with the same most probable next token; ties go to the lowest id
  std::optional<double> max_abs_logit_diff;
};

struct evaluation_options {
  std::size_t threads = 1;
  gemm_options gemm = {};
  inference_phase phase = inference_phase::decode;     ///< of AscendV1's W8A8_MIX
  std::size_t chunk_tokens = 2048;                     ///< rows of a layer computed together
  std::size_t residual_tokens = std::size_t{1} << 16;  ///< tokens whose hidden states are held: weights are read once for as many
  std::string logits_path = {};                        ///< safetensors file for the model's `logits`, F32 [tokens, vocabulary]
  /// Called after each layer (and after the logits, as one more) of each round of residual_tokens.
  std::function<void(std::size_t done, std::size_t all)> progress = {};
};

/// A decoder and what is done to its inputs.
struct evaluated_model {
  const decoder* model = nullptr;
  forward_hook* hook = nullptr;
};

/// One layer after the other over all samples, the reference beside the model; logits are made a few rows at a time and never held.
/// `reference` without a model is left out. Errors: an empty sample or no token at all, vocabularies that differ, logits that are not finite, what
/// the decoders and files say. Results do not depend on `threads`, nor on chunks.
status evaluate(evaluated_model model, evaluated_model reference, std::span<const std::vector<std::int32_t>> samples,
                const evaluation_options& options, evaluation& out);

/// The same for folders: float checkpoints, or quantized ones with the arithmetic of their engine (format/simulated_model.hpp). An empty
/// reference is left out.
errors evaluate(const std::string& model_path, const std::string& reference_path, std::span<const std::vector<std::int32_t>> samples,
                const evaluation_options& options, evaluation& out);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/evaluate.ipp>
#endif
