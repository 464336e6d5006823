/// Memory for the rows of activations that a layer works on.
#pragma once
#include <qlib/core/buffer.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/core/status.hpp>
#include <qlib/core/view.hpp>

#include <algorithm>
#include <string>

namespace qlib::inline v0 {

/// A matrix that owns its memory and keeps it when it shrinks. What it holds after `reshape` is undefined.
class activations {
 public:
  status reshape(std::size_t rows, std::size_t cols) {
    const std::size_t bytes = rows * cols * sizeof(float);
    if (bytes > memory_.size()) {
      memory_ = buffer{};
      buffer larger{bytes};
      if (!larger.data())
        return error{.kind = error_kind::run_failed,
                     .subject = "forward pass",
                     .problem = "no memory for " + std::to_string(bytes >> 20) + " MiB of activations",
                     .remedy = "use fewer or shorter samples"};
      memory_ = std::move(larger);
    }
    view_ = {reinterpret_cast<float*>(memory_.data()), rows, cols};
    return {};
  }

  matrix_view<float> view() const { return view_; }
  float* row(std::size_t r) const { return view_.row(r); }

 private:
  buffer memory_;
  matrix_view<float> view_;
};

/// Calls work(first, count) for runs of rows. Each row is one task's, so results never depend on the threads.
template <class Work>
void for_rows(std::size_t rows, std::size_t threads, Work&& work) {
  constexpr std::size_t run = 32;
  parallel_for((rows + run - 1) / run, threads, [&](std::size_t, std::size_t task) {
    work(task * run, std::min(run, rows - task * run));
    return true;
  });
}

}  // namespace qlib::inline v0
