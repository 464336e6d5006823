#pragma once
#include <qlib/concepts.hpp>

namespace qlib::inline v0 {

/// What `hold` gives for backends that read the caller's memory.
struct nothing_held {
  explicit constexpr operator bool() const { return false; }
};

/// For several operations that read one matrix: a backend with memory of its own copies x there once. Until the result ends, its operations
/// on x, or on rows of it, read that copy; x must not change or go. The result says whether anything is held: operations do not depend on it.
template <Backend B, Element T>
[[nodiscard]] auto hold(const B& backend, matrix_view<const T> x) {
  if constexpr (requires { backend.hold(x); }) return backend.hold(x);
  else return nothing_held{};
}

}  // namespace qlib::inline v0
