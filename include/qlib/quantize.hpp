/// The core of qlib: quantize a matrix with policies chosen at compile time. No JSON, YAML, Eigen or file in it.
///
///     auto q = qlib::quantize(weight, qlib::int8_per_channel{});
///     if (!q) return report(q.error());
///     write(q->bytes(), q->scales());
#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/observer/minmax.hpp>
#include <qlib/packer/fp8.hpp>
#include <qlib/packer/int4_columns.hpp>
#include <qlib/packer/int4_rows.hpp>
#include <qlib/packer/int8.hpp>
#include <qlib/packer/pack_quantized.hpp>
#include <qlib/pipeline/compose.hpp>
#include <qlib/rounder/rtn.hpp>
#include <qlib/suppressor/fold.hpp>
#include <qlib/suppressor/none.hpp>

namespace qlib::inline v0 {

/// A quantized weight: packed codes, scales and zero points in one allocation.
class quantized_matrix {
 public:
  quantized_matrix(const quant_spec& spec, packed_layout layout, grid g)
      : spec_{spec},
        layout_{layout},
        grid_{g},
        memory_{aligned(layout.bytes()) + g.tiles() * (spec.symmetric || spec.type == number::floating ? 4 : 8)} {}

  const quant_spec& spec() const { return spec_; }
  /// Dtype and shape of `bytes()`.
  packed_layout layout() const { return layout_; }
  /// The packed weight, as the format stores it.
  std::span<const std::byte> bytes() const { return {memory_.data(), layout_.bytes()}; }
  /// The codes, [rows, cols]: only where the layout has one code a byte (int8_packer, fp8_packer), else empty.
  matrix_view<const std::int8_t> codes() const {
    if (layout_.type != dtype::i8 && layout_.type != dtype::f8_e4m3) return {};
    return {reinterpret_cast<const std::int8_t*>(memory_.data()), layout_.rows, layout_.cols};
  }
  std::span<const float> scales() const { return {params().scales}; }
  /// Empty for symmetric specs.
  std::span<const std::int32_t> zero_points() const { return {params().zero_points}; }
  /// The shape of `scales()`.
  qlib::grid scale_grid() const { return grid_; }
  const_qparams_view qparams() const { return as_const(params()); }

  std::byte* data() { return memory_.data(); }
  qparams_view params() const {
    auto* scales = reinterpret_cast<float*>(memory_.data() + aligned(layout_.bytes()));
    const bool zeros = !spec_.symmetric && spec_.type == number::integer;
    return {grid_, {scales, grid_.tiles()}, {reinterpret_cast<std::int32_t*>(scales + grid_.tiles()), zeros ? grid_.tiles() : 0}};
  }
  bool allocated() const { return memory_.data() != nullptr || memory_.size() == 0; }

  /// What the suppressor did to the weight's columns: the product is what it was when inputs are divided by its scale [in_features].
  const transform& suppression() const { return suppression_; }
  void set_suppression(transform t) { suppression_ = std::move(t); }

 private:
  static constexpr std::size_t aligned(std::size_t n) { return (n + 63) / 64 * 64; }
  quant_spec spec_;
  packed_layout layout_;
  qlib::grid grid_;
  buffer memory_;
  transform suppression_;
};

namespace detail {

[[gnu::cold]] inline error out_of_memory() {
  return {.kind = error_kind::run_failed, .subject = "quantize", .problem = "out of memory", .remedy = {}};
}

[[gnu::cold]] inline error indivisible(std::size_t cols, std::size_t group_size) {
  error e{.subject = "weight", .problem = "in_features ", .remedy = "choose a group_size that divides it"};
  e.problem += std::to_string(cols);
  e.problem += " is not a multiple of group_size ";
  e.problem += std::to_string(group_size);
  return e;
}

/// The first statistic of the inputs that a policy needs and `stats` does not have for every column, as an error.
inline status check_statistics(needs wanted, const statistics_view& stats, std::size_t cols, std::string_view policy) {
  const auto lacks = [&](needs one, std::size_t size) { return includes(wanted, one) && size != cols; };
  const char* missing = lacks(needs::column_absmax, stats.column_absmax.size()) ? "column_absmax"
                        : lacks(needs::column_range, stats.column_min.size()) || lacks(needs::column_range, stats.column_max.size())
                            ? "column_min and column_max"
                        : lacks(needs::column_mean, stats.column_mean.size()) ? "column_mean"
                        : lacks(needs::inputs, stats.inputs.cols())           ? "inputs"
                                                                              : nullptr;
  if (missing == nullptr) return {};
  return error{.subject = "statistics",
               .problem = std::string{policy} + " needs " + missing + " of " + std::to_string(cols) + " columns",
               .remedy = "collect them with channel_statistics (observer/channel_statistics.hpp)"};
}

}  // namespace detail

/// Quantizes `weight` [out_features, in_features], f32, bf16 or f16.
///
/// `spec` is a type such as int8_per_channel (wrong combinations then fail to compile) or a quant_spec made at run time (then they
/// are errors). Throws nothing of its own; allocates once, twice where codes are packed. A suppressor solves from `stats` of the inputs and
/// changes an f32 copy of the weight: the result says what its inputs must be divided by. Errors: a NaN or infinity (names row and column), a
/// group size that does not divide, a packer that cannot store the spec, statistics that the suppressor needs and that are missing.
template <Observer O = minmax_observer, Rounder R = rtn_rounder, Packer P = int8_packer, OutlierSuppressor S = no_suppressor,
          Backend B = native_backend, class T, class Spec>
requires std::convertible_to<const Spec&, quant_spec> result<quantized_matrix> quantize(matrix_view<T> weight, const Spec& spec_like,
                                                                                        const statistics_view& stats = {}) {
  using E = std::remove_const_t<T>;
  static_assert(Element<E>, "quantize needs float, qlib::bf16 or qlib::f16 elements");
  if constexpr (StaticSpec<Spec> && requires { P::template check<Spec>(); }) P::template check<Spec>();
  const quant_spec spec = spec_like;
  pipeline<O, S, R, P, B> stages{};
  if (status s = stages.packer.accepts(spec, weight.rows(), weight.cols()); !s) return std::move(s).error();
  if (spec.granularity.rows == 1 && spec.granularity.cols > 1 && weight.cols() % spec.granularity.cols != 0)
    return detail::indivisible(weight.cols(), spec.granularity.cols);
  quantized_matrix out{spec, stages.packer.layout(spec, weight.rows(), weight.cols()), grid_of(spec.granularity, weight.rows(), weight.cols())};
  buffer scratch{P::stores_codes ? 0 : strip_rows(spec, P::row_multiple, weight.rows(), weight.cols(), sizeof(E)) * weight.cols()};
  if (!out.allocated() || (scratch.size() > 0 && scratch.data() == nullptr)) return detail::out_of_memory();
  const auto run = [&]<class V>(matrix_view<const V> w) { return stages.run(w, spec, stats, out.params(), scratch.data(), out.data()); };
  status done;
  if constexpr (std::is_same_v<S, no_suppressor>) {
    done = run(matrix_view<const E>{weight});
  } else {
    if (status s = detail::check_statistics(S::needs, stats, weight.cols(), S::name); !s) return std::move(s).error();
    buffer memory{weight.size() * sizeof(float)};
    if (memory.data() == nullptr && memory.size() > 0) return detail::out_of_memory();
    const matrix_view<float> folded{reinterpret_cast<float*>(memory.data()), weight.rows(), weight.cols()};
    stages.backend.to_float(matrix_view<const E>{weight}, folded);
    out.set_suppression(stages.suppress(folded, spec, stats));
    fold_into_reader(out.suppression(), {}, folded);
    done = run(matrix_view<const float>{folded});
  }
  if (!done) return std::move(done).error();
  return out;
}

}  // namespace qlib::inline v0
