/// Makes the output bytes of one chunk. Part of run.ipp.
#pragma once
#include <qlib/core/buffer.hpp>
#include <qlib/model/stored_rows.hpp>
#include <qlib/pipeline/calibration.hpp>
#include <qlib/pipeline/chunk.hpp>
#include <qlib/pipeline/compose.hpp>
#include <qlib/pipeline/row_quantizer.hpp>
#include <qlib/pipeline/weight_error.hpp>

#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

namespace qlib::inline v0::detail {

/// Sums for weight_error of one chunk; chunks are added in order, so that the figures do not depend on threads.
struct error_sums {
  double squared = 0, source = 0, result = 0, product = 0, largest = 0, count = 0;

  void add(float x, float y) {
    const double d = static_cast<double>(x) - y;
    squared += d * d;
    source += static_cast<double>(x) * x;
    result += static_cast<double>(y) * y;
    product += static_cast<double>(x) * y;
    largest = std::max(largest, std::abs(d));
    count += 1;
  }
  void add(const error_sums& o) {
    squared += o.squared;
    source += o.source;
    result += o.result;
    product += o.product;
    largest = std::max(largest, o.largest);
    count += o.count;
  }
  weight_error total() const {
    const double norm = std::sqrt(source * result);
    if (count == 0) return {};
    return {squared / count, norm > 0 ? product / norm : 1, largest, std::sqrt(source / count)};
  }
};

/// Makes the output bytes of one chunk at a time; owns all memory that one thread needs.
class chunk_maker {
 public:
  /// `found` holds a value for each of plan.operands; null when there are none. All must outlive it.
  chunk_maker(const checkpoint& source, const quantization_plan& plan, const calibration* found) : source_{source}, plan_{plan}, found_{found} {}

  /// Calls emit(slot, offset within the slot, bytes) for everything the chunk produces.
  template <class B, class Emit>
  status make(const B& backend, const chunk& c, Emit&& emit, error_sums* sums) {
    const work_item& item = plan_.items[c.item];
    if (item.raw) {
      const auto bytes = source_.bytes(source_.tensors()[item.source.tensor]);
      return emit(item.slots[0], std::uint64_t{c.first_row}, bytes.subspan(c.first_row, c.rows));
    }
    if (item.rows == 0 && item.operand) return make_operand(item, emit);
    if (item.vector) return make_vector(item, emit);
    switch (item.type) {
      case dtype::bf16:
        return make_matrix<bf16>(backend, item, c, emit, sums);
      case dtype::f16:
        return make_matrix<f16>(backend, item, c, emit, sums);
      default:
        return make_matrix<float>(backend, item, c, emit, sums);
    }
  }

  /// Copies mapped bytes to memory, as a write would read them; made bytes are in memory already.
  status keep(std::span<const std::byte> bytes) {
    if (bytes.data() != packed_.data() && bytes.size() > side_.size()) std::memcpy(room(loaded_, bytes.size()), bytes.data(), bytes.size());
    return {};
  }

  /// Gives back the source pages of a finished chunk.
  void release(const chunk& c) const {
    const work_item& item = plan_.items[c.item];
    if (c.rows == 0 || !item.in_source) return;
    const stored_tensor& t = source_.tensors()[item.source.tensor];
    if (item.raw) return source_.release(t, c.first_row, c.rows);
    if (item.source.col_stride != 1) return;  // a transposed chunk touches pages all over its tensor: other chunks still need them
    source_.release(t, stored_bytes(source_, item.source, item.source.offset + c.first_row * item.source.row_stride),
                    stored_bytes(source_, item.source, c.rows * item.source.row_stride));
  }

 private:
  std::byte* room(buffer& b, std::size_t bytes) {
    if (b.size() < bytes) b = buffer{bytes};
    return b.data();
  }

  /// Rows of the source as T: the mapped bytes themselves where they are aligned and contiguous, else a copy.
  template <Element T>
  matrix_view<const T> load(const work_item& item, const chunk& c) {
    const stored_tensor& t = source_.tensors()[item.source.tensor];
    const std::byte* base = source_.bytes(t).data();
    const matrix_source& m = item.source;
    if (m.storage != matrix_storage::plain) {
      const matrix_view<T> out{reinterpret_cast<T*>(room(loaded_, c.rows * item.cols * sizeof(T))), c.rows, item.cols};
      load_rows(source_, m, c.first_row, out);
      return out;
    }
    const std::byte* first = base + (m.offset + c.first_row * m.row_stride) * sizeof(T);
    if (m.col_stride == 1 && reinterpret_cast<std::uintptr_t>(first) % alignof(T) == 0)
      return {reinterpret_cast<const T*>(first), c.rows, item.cols, m.row_stride};
    T* out = reinterpret_cast<T*>(room(loaded_, c.rows * item.cols * sizeof(T)));
    if (m.col_stride == 1) {
      for (std::size_t r = 0; r < c.rows; ++r) std::memcpy(out + r * item.cols, first + r * m.row_stride * sizeof(T), item.cols * sizeof(T));
    } else {  // columns outside: the source is contiguous along rows
      for (std::size_t k = 0; k < item.cols; ++k)
        for (std::size_t r = 0; r < c.rows; ++r)
          std::memcpy(out + r * item.cols + k, first + (k * m.col_stride + r * m.row_stride) * sizeof(T), sizeof(T));
    }
    return {out, c.rows, item.cols};
  }

  static void store(dtype type, float v, std::byte* to) {
    switch (type) {
      case dtype::bf16: {
        const bf16 h = to_bf16(v);
        std::memcpy(to, &h, 2);
        return;
      }
      case dtype::f16: {
        const f16 h = to_f16(v);
        std::memcpy(to, &h, 2);
        return;
      }
      case dtype::i8: {
        const auto i = static_cast<std::int8_t>(v);
        std::memcpy(to, &i, 1);
        return;
      }
      case dtype::i64: {  // the bits of the f32, as Ascend's kernels take them
        const std::int64_t i = std::bit_cast<std::int32_t>(v);
        std::memcpy(to, &i, 8);
        return;
      }
      default:
        std::memcpy(to, &v, 4);
    }
  }

  /// Gains or a bias: what folding made of them, else as they are stored, else zeros.
  template <class Emit>
  status make_vector(const work_item& item, Emit& emit) {
    const output_tensor& t = plan_.slots[item.slots[0]].tensor;
    const std::size_t element = bits_of(t.type) / 8;
    const std::vector<float>* made = found_ ? found_->folds.vector(item.name) : nullptr;
    side_.resize(item.rows * element);
    for (std::size_t r = 0; r < item.rows; ++r)
      store(t.type, made ? (*made)[r] : item.in_source ? value_at(item.source, item.type, r) : 0.0f, side_.data() + r * element);
    return emit(item.slots[0], std::uint64_t{0}, std::span<const std::byte>{side_});
  }

  template <Element T, class B, class Emit>
  status make_matrix(const B& backend, const work_item& item, const chunk& c, Emit& emit, error_sums* sums) {
    const matrix_view<const T> stored = load<T>(item, c);
    const auto steps = found_ ? found_->folds.steps(module_of(item)) : std::span<const fold_step>{};
    if (steps.empty()) return make_from(backend, item, c, stored, emit, sums);
    // Behind a fold a weight is f32 whatever it was: nothing is rounded between the fold and its codes.
    const matrix_view<float> folded{reinterpret_cast<float*>(room(folded_, stored.size() * sizeof(float))), stored.rows(), stored.cols()};
    backend.to_float(stored, folded);
    fold(steps, folded, c.first_row);
    return make_from(backend, item, c, matrix_view<const float>{folded}, emit, sums);
  }

  /// A quantized linear's item has the name of its module; a float one's the name of its tensor.
  static std::string_view module_of(const work_item& item) {
    constexpr std::string_view tail = ".weight";
    const std::string_view name = item.name;
    return !item.encoding && name.ends_with(tail) ? name.substr(0, name.size() - tail.size()) : name;
  }

  template <Element T, class B, class Emit>
  status make_from(const B& backend, const work_item& item, const chunk& c, matrix_view<const T> w, Emit& emit, error_sums* sums) {
    if (!item.encoding) {
      const output_slot& slot = plan_.slots[item.slots[0]];
      const std::size_t element = bits_of(slot.tensor.type) / 8;
      std::byte* out = room(packed_, w.size() * element);
      for (std::size_t r = 0; r < w.rows(); ++r)
        for (std::size_t k = 0; k < w.cols(); ++k) store(slot.tensor.type, to_float(w(r, k)), out + (r * w.cols() + k) * element);
      return emit(item.slots[0], std::uint64_t{c.first_row * item.cols * element}, std::span<const std::byte>{out, w.size() * element});
    }
    const linear_encoding& e = *item.encoding;
    const tile shape = resolve(e.spec.granularity, item.rows, item.cols);
    const grid g{(c.rows + shape.rows - 1) / shape.rows, (item.cols + shape.cols - 1) / shape.cols};
    const bool zeros = !e.spec.symmetric && e.spec.type == number::integer;
    scales_.resize(g.tiles());
    zero_points_.resize(zeros ? g.tiles() : 0);
    const qparams_view q{g, scales_, zero_points_};
    const packed_layout layout = std::visit([&](const auto& p) { return p.layout(e.spec, c.rows, item.cols); }, e.packer);
    std::byte* out = room(packed_, layout.bytes());

    if (status s = quantize_strips(backend, item, w, q, layout, out, c.first_row); !s) return s;
    if (sums) measure<T>(backend, e, w, q, out, *sums);
    return emit_slots(item, c, q, {out, layout.bytes()}, layout, emit);
  }

  /// Range, round and pack strip by strip.
  template <Element T, class B>
  status quantize_strips(const B& backend, const work_item& item, matrix_view<const T> w, qparams_view q, const packed_layout& layout, std::byte* out,
                         std::size_t first_row) {
    const linear_encoding& e = *item.encoding;
    rows_.choose(item.observer, item.rounder);
    const auto [multiple, in_place] = std::visit(
        [](const auto& p) {
          return std::pair{std::size_t{p.row_multiple}, bool{p.stores_codes}};
        },
        e.packer);
    std::size_t strip_bytes = 16 << 10;
    if constexpr (requires { B::preferred_bytes; }) strip_bytes = B::preferred_bytes;  // a device: each call costs a round trip
    const std::size_t step = strip_rows(e.spec, multiple, w.rows(), w.cols(), sizeof(T), strip_bytes);
    const std::size_t tile_rows = resolve(e.spec.granularity, w.rows(), w.cols()).rows;
    auto* scratch = in_place ? nullptr : reinterpret_cast<std::int8_t*>(room(codes_, step * w.cols()));
    for (std::size_t r = 0; r < w.rows(); r += step) {
      const std::size_t count = std::min(step, w.rows() - r);
      const auto strip = w.strip(r, count);
      const qparams_view sq = q.strip(r, count, tile_rows);
      std::byte* to = out + r / multiple * layout.row_bytes();
      const matrix_view<std::int8_t> codes{in_place ? reinterpret_cast<std::int8_t*>(to) : scratch, count, w.cols()};
      const bool finite =
          in_place ? rows_.quantize(backend, strip, e.spec, sq, codes) : rows_.quantize(backend, strip, e.spec, sq, e.packer, codes, to);
      if (!finite) {
        error bad = non_finite_error(strip, first_row + r);
        const stored_tensor& t = source_.tensors()[item.source.tensor];
        bad.where = source_.shards()[t.shard].path();
        bad.problem = bad.subject.substr(6) + " is " + bad.problem;  // "weight[17, 3]" -> "[17, 3] is NaN"
        bad.subject = item.name + ".weight";
        return bad;
      }
    }
    return {};
  }

  template <Element T, class B>
  void measure(const B& backend, const linear_encoding& e, matrix_view<const T> w, qparams_view q, const std::byte* packed, error_sums& sums) {
    auto* codes = reinterpret_cast<std::int8_t*>(room(unpacked_, w.size()));
    const matrix_view<std::int8_t> view{codes, w.rows(), w.cols()};
    std::visit([&](const auto& p) { p.unpack(backend, e.spec, packed, view); }, e.packer);
    auto* values = reinterpret_cast<float*>(room(values_, w.size() * sizeof(float)));
    const matrix_view<float> back{values, w.rows(), w.cols()};
    backend.dequantize(matrix_view<const std::int8_t>{view}, e.spec, as_const(q), back);
    for (std::size_t r = 0; r < w.rows(); ++r)
      for (std::size_t k = 0; k < w.cols(); ++k) sums.add(to_float(w(r, k)), back(r, k));
  }

  template <class Emit>
  status emit_slots(const work_item& item, const chunk& c, qparams_view q, std::span<const std::byte> packed, const packed_layout& layout,
                    Emit& emit) {
    const quant_spec& spec = item.encoding->spec;
    const std::size_t tile_rows = resolve(spec.granularity, item.rows, item.cols).rows;
    const std::size_t first_tile_row = c.first_row / tile_rows;
    for (std::size_t slot : item.slots) {
      const output_tensor& t = plan_.slots[slot].tensor;
      const std::size_t element = bits_of(t.type) / 8;
      status s;
      switch (t.role) {
        case slot_role::codes: {
          const std::size_t multiple = c.rows == layout.rows ? 1 : c.rows / layout.rows;
          s = emit(slot, std::uint64_t{c.first_row / multiple * layout.row_bytes()}, packed);
          break;
        }
        case slot_role::scales:
        case slot_role::zero_points:
        case slot_role::zeros: {
          side_.resize(q.grid.tiles() * element);
          for (std::size_t i = 0; i < q.grid.tiles(); ++i)
            store(t.type,
                  t.role == slot_role::scales  ? q.scales[i]
                  : t.role == slot_role::zeros ? 0.0f
                                               : static_cast<float>(q.zero_points[i]),
                  side_.data() + i * element);
          s = emit(slot, std::uint64_t{first_tile_row * q.grid.cols * element}, std::span<const std::byte>{side_});
          break;
        }
        case slot_role::packed_zero_points: {
          const std::size_t words = (q.grid.rows * static_cast<std::size_t>(spec.num_bits) + 31) / 32;
          side_.resize(words * q.grid.cols * 4);
          pack_zero_points(matrix_view<const std::int32_t>{q.zero_points.data(), q.grid.rows, q.grid.cols}, spec.num_bits,
                           matrix_view<std::uint32_t>{reinterpret_cast<std::uint32_t*>(side_.data()), words, q.grid.cols});
          s = emit(slot, std::uint64_t{first_tile_row * static_cast<std::size_t>(spec.num_bits) / 32 * q.grid.cols * 4},
                   std::span<const std::byte>{side_});
          break;
        }
        case slot_role::weight_shape: {
          if (c.first_row != 0) break;
          const std::int64_t shape[2] = {static_cast<std::int64_t>(item.rows), static_cast<std::int64_t>(item.cols)};
          s = emit(slot, std::uint64_t{0}, std::as_bytes(std::span{shape}));
          break;
        }
        case slot_role::operand_scales:
        case slot_role::operand_zero_points:
          if (c.first_row == 0) s = emit_operand(slot, *item.operand, emit);
          break;
        case slot_role::deq_scales: {
          const float input_scale = found_->operands[*item.operand].scales[0];
          side_.resize(c.rows * element);
          for (std::size_t r = 0; r < c.rows; ++r) store(t.type, deq_scale(spec, input_scale, q.scales[r]), side_.data() + r * element);
          s = emit(slot, std::uint64_t{c.first_row * element}, std::span<const std::byte>{side_});
          break;
        }
        case slot_role::quant_bias:
          s = emit(slot, std::uint64_t{c.first_row * element}, quant_bias(item, c, as_const(q), reinterpret_cast<const std::int8_t*>(packed.data())));
          break;
        case slot_role::copy:
          break;
      }
      if (!s) return s;
    }
    return {};
  }

  /// Scales or zero points of a calibrated operand.
  template <class Emit>
  status emit_operand(std::size_t slot, std::size_t operand, Emit& emit) {
    const output_tensor& t = plan_.slots[slot].tensor;
    const operand_parameters& o = found_->operands[operand];
    const std::size_t element = bits_of(t.type) / 8;
    side_.resize(o.scales.size() * element);
    for (std::size_t i = 0; i < o.scales.size(); ++i)
      store(t.type,
            t.role == slot_role::operand_scales ? o.scales[i]
            : o.zero_points.empty()             ? 0.0f
                                                : static_cast<float>(o.zero_points[i]),
            side_.data() + i * element);
    return emit(slot, std::uint64_t{0}, std::span<const std::byte>{side_});
  }

  template <class Emit>
  status make_operand(const work_item& item, Emit& emit) {
    for (std::size_t slot : item.slots)
      if (status s = emit_operand(slot, *item.operand, emit); !s) return s;
    return {};
  }

  /// Input scale times weight scale: what the kernel multiplies its sums by.
  static float deq_scale(const quant_spec& spec, float input_scale, float weight_scale) {
    return round_to(spec.arithmetic, input_scale * weight_scale);
  }

  /// round(bias / deq_scale - input_offset * sum of the row's codes), i32 [rows]: what the kernel adds to its sums. Computed in f64, where it
  /// is exact up to the division; --compat msmodelslim computes in f32 as that tool does.
  std::span<const std::byte> quant_bias(const work_item& item, const chunk& c, const_qparams_view q, const std::int8_t* codes) {
    const operand_parameters& o = found_->operands[*item.operand];
    const quant_spec& spec = item.encoding->spec;
    const std::int32_t zero_point = o.zero_points.empty() ? 0 : o.zero_points[0];
    const std::vector<float>* folded_bias = found_->folds.vector(item.name + ".bias");
    side_.resize(c.rows * 4);
    for (std::size_t r = 0; r < c.rows; ++r) {
      std::int64_t sum = 0;
      for (std::size_t k = 0; k < item.cols; ++k) sum += codes[r * item.cols + k];
      const float bias = folded_bias ? (*folded_bias)[c.first_row + r] : item.bias ? value_at(*item.bias, item.bias_type, c.first_row + r) : 0.0f;
      const float deq = deq_scale(spec, o.scales[0], q.scales[r]);
      const double exact = plan_.follow == compat::msmodelslim
                               ? std::nearbyint(round_to(spec.arithmetic, bias / deq) - static_cast<float>(zero_point) * static_cast<float>(sum))
                               : std::nearbyint(static_cast<double>(bias) / deq - static_cast<double>(zero_point) * static_cast<double>(sum));
      const auto value = static_cast<std::int32_t>(std::clamp(exact, -2147483648.0, 2147483647.0));
      std::memcpy(side_.data() + r * 4, &value, 4);
    }
    return side_;
  }

  /// Element `row` of a stored vector.
  float value_at(const matrix_source& from, dtype type, std::size_t row) const {
    const std::byte* base = source_.bytes(source_.tensors()[from.tensor]).data();
    const std::byte* at = base + (from.offset + row * std::max<std::uint64_t>(1, from.row_stride)) * (bits_of(type) / 8);
    const auto load = [&]<class T>(T) {
      T v;
      std::memcpy(&v, at, sizeof v);
      return to_float(v);
    };
    return type == dtype::bf16 ? load(bf16{}) : type == dtype::f16 ? load(f16{}) : load(float{});
  }

  const checkpoint& source_;
  const quantization_plan& plan_;
  const calibration* found_;
  row_quantizer rows_;
  buffer loaded_, folded_, packed_, codes_, unpacked_, values_;
  std::vector<float> scales_;
  std::vector<std::int32_t> zero_points_;
  std::vector<std::byte> side_;
};

}  // namespace qlib::inline v0::detail
