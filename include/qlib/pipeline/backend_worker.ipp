/// A worker on one backend. Part of run.ipp; a unit that brings another backend includes it too.
#pragma once
#include <qlib/pipeline/chunk_maker.ipp>
#include <qlib/pipeline/chunk_worker.hpp>

#include <utility>

namespace qlib::inline v0::detail {

template <Backend B>
class backend_worker final : public chunk_worker {
 public:
  backend_worker(B backend, const checkpoint& source, const quantization_plan& plan, const calibration* found)
      : backend_{std::move(backend)}, maker_{source, plan, found} {}

  status make(const chunk& c, const emit_function& emit, error_sums* sums) override {
    if (sums) *sums = {};  // of an attempt that was lost
    status made = maker_.make(backend_, c, emit, sums);
    if constexpr (requires {
                    { backend_.finish() } -> std::same_as<status>;
                  })
      if (status s = backend_.finish(); !s) return s;
    return made;
  }
  void release(const chunk& c) override { maker_.release(c); }
  status keep(std::span<const std::byte> bytes) override { return maker_.keep(bytes); }
  bool lost() const override {
    if constexpr (requires { backend_.lost(); }) return backend_.lost();
    else return false;
  }
  std::vector<std::string> take_paths() override {
    std::vector<std::string> out;
    if constexpr (requires { backend_.paths(); }) {
      out = backend_.paths();
      backend_.forget_paths();
    }
    return out;
  }

 private:
  B backend_;
  chunk_maker maker_;
};

}  // namespace qlib::inline v0::detail
