/// Weights that stand for a model's where only time matters: no byte of the checkpoint is read.
#pragma once
#include <qlib/core/buffer.hpp>
#include <qlib/model/description.hpp>
#include <qlib/model/parameters.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace qlib::inline v0 {

/// Values in [-1, 1), the same in every call.
inline void fill_like_activations(std::span<float> out) {
  std::uint32_t state = 1;
  for (float& v : out) v = static_cast<float>(static_cast<std::int32_t>(state = state * 1664525u + 1013904223u)) * 0x1p-31f;
}

/// Shapes and types of another source, with small values in every matrix and ones in every vector. All matrices share their memory.
class synthetic_parameters final : public parameter_source {
 public:
  /// `like` must outlive it. `experts`: how many rows the router has, and its bias; the shapes of the others are theirs.
  synthetic_parameters(const parameter_source& like, const std::string& router, const std::string& correction_bias, std::size_t experts)
      : like_{&like}, router_{router}, correction_bias_{correction_bias}, experts_{experts} {}

  std::vector<std::string> names() const override { return {}; }
  bool contains(const std::string& name) const override { return like_->contains(name); }
  std::optional<dtype> type(const std::string& name) const override { return like_->type(name); }
  std::string where() const override { return like_->where(); }

  std::optional<std::vector<std::uint64_t>> shape(const std::string& name) const override {
    auto s = like_->shape(name);
    if (s && !s->empty() && !router_.empty()) {
      if (name == router_ + ".weight" || name == router_ + ".bias") s->front() = experts_;
      if (name == correction_bias_) s->back() = experts_;
    }
    return s;
  }

  status read(const std::string& name, matrix_view<float> out, std::size_t = 0) const override {
    const auto s = shape(name);
    const bool vector = !s || s->size() < 2;
    for (std::size_t r = 0; r < out.rows(); ++r)
      for (std::size_t c = 0; c < out.cols(); ++c) out(r, c) = vector ? 1.0f : small(r * out.cols() + c);
    return {};
  }

  result<linear_weight> linear(const std::string& module) const override {
    const auto s = shape(module + ".weight");
    if (!s || s->size() != 2) return error{.where = where(), .subject = module, .problem = "has no shape", .remedy = {}};
    const std::size_t rows = (*s)[0], cols = (*s)[1];
    linear_weight out;
    if (type(module + ".weight") == dtype::bf16) {
      const auto* first = values<bf16>(rows * cols);
      if (!first) return out_of_memory(module);
      out = linear_weight{matrix_view<const bf16>{first, rows, cols}, nullptr};
    } else {
      const auto* first = values<float>(rows * cols);
      if (!first) return out_of_memory(module);
      out = linear_weight{matrix_view<const float>{first, rows, cols}, nullptr};
    }
    if (contains(module + ".bias")) out.bias.assign(rows, 0.0f);
    return out;
  }

 private:
  /// In ±1/32, never 0.
  static float small(std::size_t i) {
    return static_cast<float>(static_cast<std::int32_t>((static_cast<std::uint32_t>(i) * 2654435761u) | 1u)) * 0x1p-36f;
  }

  error out_of_memory(const std::string& module) const {
    return {.kind = error_kind::run_failed, .subject = module, .problem = "out of memory", .remedy = {}};
  }

  /// A pattern of 64 Ki values, repeated. Smaller memory stays until the end: weights that are in use point to it.
  template <class T>
  const T* values(std::size_t count) const {
    std::vector<buffer>& made = std::is_same_v<T, bf16> ? halves_ : floats_;
    const std::size_t bytes = std::max<std::size_t>(count, 1) * sizeof(T), pattern = std::min(bytes, (std::size_t{1} << 16) * sizeof(T));
    if (!made.empty() && made.back().size() >= bytes) return reinterpret_cast<const T*>(made.back().data());
    buffer memory{bytes};
    if (!memory.data()) return nullptr;
    for (std::size_t i = 0; i < pattern / sizeof(T); ++i) {
      T v;
      if constexpr (std::is_same_v<T, bf16>) v = to_bf16(small(i));
      else v = small(i);
      std::memcpy(memory.data() + i * sizeof(T), &v, sizeof v);
    }
    for (std::size_t done = pattern; done < bytes;) {
      const std::size_t n = std::min(done, bytes - done);
      std::memcpy(memory.data() + done, memory.data(), n);
      done += n;
    }
    made.push_back(std::move(memory));
    return reinterpret_cast<const T*>(made.back().data());
  }

  const parameter_source* like_;
  std::string router_, correction_bias_;
  std::size_t experts_;
  mutable std::vector<buffer> halves_, floats_;
};

}  // namespace qlib::inline v0
