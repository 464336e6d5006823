/// The float forward pass of a decoder, one layer at a time.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/core/view.hpp>
#include <qlib/linalg/gemm.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/forward_hook.hpp>
#include <qlib/model/parameters.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace qlib::inline v0 {

struct decoder_options {
  gemm_options gemm = {};  ///< its threads are set from the ones here
  std::size_t threads = 1;
  std::size_t chunk_tokens = 2048;  ///< rows computed together: whole samples, at least one
};

/// Runs any family that a model_description describes. Hidden states are f32 [tokens, hidden_size], samples one after the other.
///
/// Weights are read when their layer runs and given back after it: one dense layer, or one expert, is resident at a time. Neither
/// `threads` nor `chunk_tokens` changes a bit of the result, as far as the products keep to that.
class decoder {
 public:
  decoder() = default;

  /// Checks that every tensor is there with the right shape, and that every tensor of the text decoder is known. Other towers,
  /// layers behind the last one (multi-token prediction) and rotary buffers may stand beside it. All problems are returned together;
  /// `out` changes only when there is none. `source` must outlive `out`.
  static errors create(model_description description, const parameter_source& source, const decoder_options& options, decoder& out);

  /// Names as this checkpoint has them.
  const model_description& description() const { return model_; }
  std::size_t layers() const { return model_.layers.size(); }

  /// hidden: [ids, hidden_size]. rows_of_sample: the first row of each sample, then their sum; empty: one sample. It matters where positions are
  /// embedded.
  status embed(std::span<const std::int32_t> ids, matrix_view<float> hidden, std::span<const std::size_t> rows_of_sample = {}) const;

  /// hidden: all samples, in place. rows_of_sample: the first row of each, then hidden.rows().
  status run_layer(std::size_t layer, matrix_view<float> hidden, std::span<const std::size_t> rows_of_sample, forward_hook& hook) const;

  /// Final norm, head, softcap. hidden: any rows; out: [rows, vocabulary].
  status logits(matrix_view<const float> hidden, matrix_view<float> out, forward_hook& hook) const;

  /// Most bytes that run_layer takes beside `hidden`: resident weights and activations. `use`: what the hook asks of latent attention.
  std::uint64_t peak_bytes(std::size_t layer, std::size_t tokens, std::size_t longest_sample, latent_use use = latent_use::expanded) const;

  /// Floating-point operations of run_layer; experts count as routing.top_k of them a token.
  double flops(std::size_t layer, std::span<const std::size_t> rows_of_sample) const;

  /// The same model with weights from another source, which must have the same tensors (folded ones, say) and outlive it.
  decoder with(const parameter_source& source) const {
    decoder out = *this;
    out.source_ = &source;
    return out;
  }
  /// Another model with the same options; `description` and `source` must belong together: nothing is checked.
  decoder with(model_description description, const parameter_source& source) const {
    decoder out = with(source);
    out.model_ = std::move(description);
    return out;
  }
  const parameter_source& source() const { return *source_; }
  const gemm& products() const { return products_; }
  const decoder_options& options() const { return options_; }

  /// What the products run on, for the report.
  std::string_view gemm_name() const { return products_.name(); }

 private:
  model_description model_;
  const parameter_source* source_ = nullptr;
  decoder_options options_;
  gemm products_, one_thread_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/decoder.ipp>
#endif
