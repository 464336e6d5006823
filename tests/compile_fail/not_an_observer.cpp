// expect: Observer
#include <qlib/quantize.hpp>

struct blind {
  static constexpr std::string_view name = "blind";
  using options = qlib::no_options;
  explicit blind(options = {}) {}
};
auto q = qlib::quantize<blind>(qlib::matrix_view<const float>{}, qlib::int8_per_channel{});
