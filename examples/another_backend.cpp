// The backend is one more policy. Every backend gives the bytes of the scalar one, which is the specification.
#include <qlib/quantize.hpp>

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

template <class Packer, class Spec>
bool same_bytes(qlib::matrix_view<const float> weight, const Spec& spec) {
  using namespace qlib;
  const auto a = quantize<minmax_observer, rtn_rounder, Packer, no_suppressor, scalar_backend>(weight, spec);
  const auto b = quantize<minmax_observer, rtn_rounder, Packer, no_suppressor, native_backend>(weight, spec);
  const bool same = a && b && std::ranges::equal(a->bytes(), b->bytes()) && std::ranges::equal(a->scales(), b->scales());
  std::printf("%-15.*s %s\n", static_cast<int>(Packer::name.size()), Packer::name.data(), same ? "equal" : "DIFFERENT");
  return same;
}

int main() {
  std::mt19937 random{1};
  std::vector<float> w(256 * 512);
  for (float& x : w) x = static_cast<float>(random()) / 4294967296.0f - 0.5f;
  const qlib::matrix_view<const float> weight{w.data(), 256, 512};
  bool all = same_bytes<qlib::int8_packer>(weight, qlib::int8_per_channel{});
  all &= same_bytes<qlib::int4_rows_packer>(weight, qlib::int4_per_channel{});
  all &= same_bytes<qlib::pack_quantized_packer>(weight, qlib::int4_per_group{});
  all &= same_bytes<qlib::fp8_packer>(weight, qlib::fp8_per_channel{});
  return all ? 0 : 1;
}
