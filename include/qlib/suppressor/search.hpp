#pragma once
#include <qlib/suppressor/output_error.hpp>

#include <utility>

namespace qlib::inline v0 {

/// The best of some transforms by output_error, the identity among them: a transform wins only if it is strictly better than all before.
class transform_search {
 public:
  /// What `group` and `stats` point to must outlive it.
  transform_search(const smoothing_group& group, const statistics_view& stats) : error_{group, stats}, lowest_{error_.of({})} {}

  /// Returns the error of `t`.
  double offer(transform t) {
    const double e = error_.of(t);
    if (e < lowest_) {
      lowest_ = e;
      best_ = std::move(t);
    }
    return e;
  }

  double error_of(const transform& t) { return error_.of(t); }
  double lowest() const { return lowest_; }
  transform best() && { return std::move(best_); }

 private:
  output_error error_;
  double lowest_;
  transform best_;
};

}  // namespace qlib::inline v0
