/// A checkpoint folder, float or quantized, ready for a decoder.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/format/simulated_linear.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/forward_hook.hpp>
#include <qlib/model/parameters.hpp>

#include <cstddef>
#include <memory>
#include <string>

namespace qlib::inline v0 {

struct simulation_options {
  inference_phase phase = inference_phase::decode;  ///< of AscendV1's W8A8_MIX
  std::size_t threads = 1;
};

/// What `decoder::create` and `decoder::run_layer` take, with the files behind it.
class simulated_model {
 public:
  simulated_model();
  simulated_model(simulated_model&&) noexcept;
  simulated_model& operator=(simulated_model&&) noexcept;
  ~simulated_model();

  /// Reads headers, config.json and scales of activations. Float checkpoints (block-fp8 too), AscendV1 and compressed-tensors; other formats
  /// are an error. All problems are returned together; `out` changes only when there is none.
  static errors open(const std::string& directory, const simulation_options& options, simulated_model& out);

  /// "float", "ascend_v1", "mindie", "compressed_tensors", "fp8".
  const std::string& format() const;
  const model_description& description() const;
  const parameter_source& parameters() const;
  forward_hook& hook();

 private:
  struct parts;
  std::unique_ptr<parts> parts_;
};

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/format/simulated_model.ipp>
#endif
