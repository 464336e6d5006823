// The values outside of an interval, for one SIMD target (see highway_lanes-inl.hpp about the guard).
#if defined(QLIB_BACKEND_HIGHWAY_OUTSIDE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QLIB_BACKEND_HIGHWAY_OUTSIDE_INL
#undef QLIB_BACKEND_HIGHWAY_OUTSIDE_INL
#else
#define QLIB_BACKEND_HIGHWAY_OUTSIDE_INL
#endif

#include <qlib/backend/highway_lanes-inl.hpp>

#if QLIB_HIGHWAY_KERNELS
HWY_BEFORE_NAMESPACE();
namespace qlib::inline v0 {
namespace HWY_NAMESPACE {

template <class T>
std::size_t outside(matrix_view<const T> x, range inner, std::span<float> out) {
  const float_tag d;
  const floats low = hn::Set(d, inner.min), high = hn::Set(d, inner.max);
  std::size_t found = 0;
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const T* row = x.row(r);
    std::size_t c = 0;
    const auto keep = [&](floats v, auto inside) {
      const auto wanted = hn::Not(inside);
      if (found + lanes <= out.size()) {
        hn::CompressStore(v, wanted, d, out.data() + found);
        found += hn::CountTrue(d, wanted);
        return;
      }
      if (found >= out.size()) {
        found += hn::CountTrue(d, wanted);
        return;
      }
      HWY_ALIGN float kept[lanes];
      const std::size_t n = hn::CompressStore(v, wanted, d, kept);
      for (std::size_t i = 0; i < n; ++i, ++found)
        if (found < out.size()) out[found] = kept[i];
    };
    const auto inside = [&](floats v) { return hn::And(hn::Ge(v, low), hn::Le(v, high)); };
    for (; c + 4 * lanes <= x.cols(); c += 4 * lanes) {
      for (std::size_t b = 0; b < 4 * lanes * sizeof(T); b += 64)
        hwy::Prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(row + c) + 4096 + b));
      const floats v0 = load_lanes(row + c), v1 = load_lanes(row + c + lanes), v2 = load_lanes(row + c + 2 * lanes),
                   v3 = load_lanes(row + c + 3 * lanes);
      const auto in0 = inside(v0), in1 = inside(v1), in2 = inside(v2), in3 = inside(v3);
      if (HWY_LIKELY(hn::AllTrue(d, hn::And(hn::And(in0, in1), hn::And(in2, in3))))) continue;
      keep(v0, in0);
      keep(v1, in1);
      keep(v2, in2);
      keep(v3, in3);
    }
    const matrix_view<const T> rest{row + c, 1, x.cols() - c};
    found += scalar_backend{}.outside(rest, inner, out.subspan(std::min(found, out.size())));
  }
  return found;
}

}  // namespace HWY_NAMESPACE
}  // namespace qlib::inline v0
HWY_AFTER_NAMESPACE();
#endif  // QLIB_HIGHWAY_KERNELS
#endif  // toggle
