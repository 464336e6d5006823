#pragma once
#include <qlib/backend/device.hpp>
#include <qlib/core/buffer.hpp>
#include <qlib/core/parallel.hpp>
#include <qlib/io/checksum.hpp>
#include <qlib/io/journal.hpp>
#include <qlib/io/output_file.hpp>
#include <qlib/pipeline/chunk.hpp>
#include <qlib/pipeline/compose.hpp>
#include <qlib/pipeline/run.hpp>

#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>
#include <mutex>

#include <unistd.h>

namespace qlib::inline v0 {

namespace detail {

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
    return {count > 0 ? squared / count : 0, norm > 0 ? product / norm : 1, largest};
  }
};

/// Makes the output bytes of one chunk at a time; owns all memory that one thread needs.
class chunk_maker {
 public:
  chunk_maker(const checkpoint& source, const quantization_plan& plan) : source_{source}, plan_{plan} {}

  /// Calls emit(slot, offset within the slot, bytes) for everything the chunk produces.
  template <class B, class Emit>
  status make(const B& backend, const chunk& c, Emit&& emit, error_sums* sums) {
    const work_item& item = plan_.items[c.item];
    if (item.raw) {
      const auto bytes = source_.bytes(source_.tensors()[item.source.tensor]);
      return emit(item.slots[0], std::uint64_t{c.first_row}, bytes.subspan(c.first_row, c.rows));
    }
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
    const stored_tensor& t = source_.tensors()[item.source.tensor];
    const std::uint64_t element = item.raw ? 1 : bits_of(t.info.dtype) / 8;
    if (item.raw) return source_.release(t, c.first_row, c.rows);
    if (item.source.col_stride != 1) return;  // a transposed chunk touches pages all over its tensor: other chunks still need them
    source_.release(t, (item.source.offset + c.first_row * item.source.row_stride) * element, c.rows * item.source.row_stride * element);
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
    if (m.block_scale) return load_block_fp8<T>(item, c, base);
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

  /// DeepSeek-V3's storage: e4m3 codes times a scale for each block; the product is rounded to bf16, as the reference converter does.
  template <Element T>
  matrix_view<const T> load_block_fp8(const work_item& item, const chunk& c, const std::byte* codes) {
    T* out = reinterpret_cast<T*>(room(loaded_, c.rows * item.cols * sizeof(T)));
    if constexpr (std::is_same_v<T, bf16>) {
      const stored_tensor& s = source_.tensors()[*item.source.block_scale];
      const std::byte* scales = source_.bytes(s).data();
      const std::size_t grid_cols = s.info.shape[1];
      for (std::size_t r = 0; r < c.rows; ++r)
        for (std::size_t k = 0; k < item.cols; ++k) {
          const std::size_t at = ((c.first_row + r) / item.source.block_rows) * grid_cols + k / item.source.block_cols;
          float scale;
          if (s.info.dtype == dtype::bf16) {
            bf16 h;
            std::memcpy(&h, scales + at * 2, 2);
            scale = to_float(h);
          } else {
            std::memcpy(&scale, scales + at * 4, 4);
          }
          out[r * item.cols + k] = to_bf16(e4m3_to_float(static_cast<std::uint8_t>(codes[(c.first_row + r) * item.cols + k])) * scale);
        }
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
      default:
        std::memcpy(to, &v, 4);
    }
  }

  template <Element T, class B, class Emit>
  status make_matrix(const B& backend, const work_item& item, const chunk& c, Emit& emit, error_sums* sums) {
    const matrix_view<const T> w = load<T>(item, c);
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

  /// Range, round and pack strip by strip; each stage is visited by itself (registry.hpp).
  template <Element T, class B>
  status quantize_strips(const B& backend, const work_item& item, matrix_view<const T> w, qparams_view q, const packed_layout& layout, std::byte* out,
                         std::size_t first_row) {
    const linear_encoding& e = *item.encoding;
    if (observer_name_ != item.observer.name) {
      observer_ = *registry::observers::find(item.observer.name);
      observer_name_ = item.observer.name;
    }
    if (rounder_name_ != item.rounder.name) {
      rounder_ = *registry::rounders::find(item.rounder.name);
      rounder_name_ = item.rounder.name;
    }
    const auto [multiple, in_place] = std::visit(
        [](const auto& p) {
          return std::pair{std::size_t{p.row_multiple}, bool{p.stores_codes}};
        },
        e.packer);
    const std::size_t step = strip_rows(e.spec, multiple, w.rows(), w.cols(), sizeof(T));
    const std::size_t tile_rows = resolve(e.spec.granularity, w.rows(), w.cols()).rows;
    auto* scratch = in_place ? nullptr : reinterpret_cast<std::int8_t*>(room(codes_, step * w.cols()));
    for (std::size_t r = 0; r < w.rows(); r += step) {
      const std::size_t count = std::min(step, w.rows() - r);
      const auto strip = w.strip(r, count);
      const qparams_view sq = q.strip(r, count, tile_rows);
      const std::span<const range> ranges = std::visit(
          [&](auto& o) {
            o.reset(e.spec.granularity, sq.grid);
            o.observe(backend, strip);
            return std::span<const range>{o.ranges()};
          },
          *observer_);
      for (const range& seen : ranges)
        if (!seen.defined()) {
          error bad = non_finite_error(strip, first_row + r);
          const stored_tensor& t = source_.tensors()[item.source.tensor];
          bad.where = source_.shards()[t.shard].path();
          bad.problem = bad.subject.substr(6) + " is " + bad.problem;  // "weight[17, 3]" -> "[17, 3] is NaN"
          bad.subject = item.name + ".weight";
          return bad;
        }
      solve_qparams(ranges, e.spec, sq);
      std::byte* to = out + r / multiple * layout.row_bytes();
      const matrix_view<std::int8_t> codes{in_place ? reinterpret_cast<std::int8_t*>(to) : scratch, count, w.cols()};
      std::visit([&](const auto& rounder) { rounder.round(backend, strip, e.spec, {}, as_const(sq), codes); }, *rounder_);
      if (!in_place) std::visit([&](const auto& p) { p.pack(backend, e.spec, matrix_view<const std::int8_t>{codes}, to); }, e.packer);
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
        case slot_role::copy:
          break;
      }
      if (!s) return s;
    }
    return {};
  }

  const checkpoint& source_;
  const quantization_plan& plan_;
  std::optional<registry::observers::any> observer_;
  std::optional<registry::rounders::any> rounder_;
  std::string observer_name_, rounder_name_;
  buffer loaded_, packed_, codes_, unpacked_, values_;
  std::vector<float> scales_;
  std::vector<std::int32_t> zero_points_;
  std::vector<std::byte> side_;
};

inline constexpr const char* journal_name = "/.qlib-journal";

/// Whether the run of this plan was killed after its commit: all files are there with their headers.
inline bool is_complete(const quantization_plan& plan, const std::string& folder) {
  std::error_code ec;
  for (const planned_file& f : plan.files) {
    if (std::filesystem::file_size(folder + "/" + f.name, ec) != f.bytes || ec) return false;
    auto file = mmap_file::open(folder + "/" + f.name);
    if (!file || std::memcmp(file->bytes().data(), f.header.data(), f.header.size()) != 0) return false;
  }
  for (const document& d : plan.documents) {
    const auto text = read_text_file(folder + "/" + d.name);
    if (!text || *text != d.text) return false;
  }
  return true;
}

}  // namespace detail

QLIB_INLINE std::string work_folder_of(const std::string& save_path) {
  std::string path = save_path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path + ".qlib-partial";
}

QLIB_INLINE errors check_target(const quantization_plan& plan, const run_options& options) {
  namespace fs = std::filesystem;
  errors found;
  std::error_code ec;
  const fs::path target{options.save_path};
  const fs::file_status status_of_target = fs::status(target, ec);
  if (fs::exists(status_of_target)) {
    if (!fs::is_directory(status_of_target))
      found.push_back({.where = options.save_path, .problem = "exists and is not a directory", .remedy = "choose another --save_path"});
    else if (!fs::is_empty(target, ec) && !options.overwrite && !(options.resume && detail::is_complete(plan, options.save_path)))
      found.push_back(
          {.where = options.save_path, .problem = "is not empty", .remedy = "choose another --save_path, or replace it with --overwrite"});
  }
  const std::string work = work_folder_of(options.save_path);
  if (!options.resume && fs::exists(work, ec) && !options.overwrite)
    found.push_back({.where = work, .problem = "an interrupted run is here", .remedy = "continue it with --resume, or discard it with --overwrite"});
  fs::path parent = target.parent_path().empty() ? fs::path{"."} : target.parent_path();
  while (!fs::exists(parent, ec) && parent.has_parent_path() && parent != parent.parent_path()) parent = parent.parent_path();
  const bool writable = ::access(parent.c_str(), W_OK) == 0;
  if (!fs::is_directory(parent, ec))
    found.push_back({.where = parent.string(), .problem = "is not a directory", .remedy = "choose another --save_path"});
  else if (!writable)
    found.push_back({.where = parent.string(), .problem = "is not writable", .remedy = "choose another --save_path or change its permissions"});
  else if (status space = require_free_space(parent.string(), options.resume && fs::exists(work, ec) ? 0 : plan.output_bytes); !space)
    found.push_back(space.error());
  return found;
}

QLIB_INLINE result<run_report> run_plan(const checkpoint& source, const quantization_plan& plan, const run_options& options) {
  namespace fs = std::filesystem;
  const std::string work = work_folder_of(options.save_path);
  std::error_code ec;
  if (options.resume && !fs::exists(work + detail::journal_name, ec) && detail::is_complete(plan, options.save_path)) {
    fs::remove(options.save_path + detail::journal_name, ec);
    run_report nothing_left;
    nothing_left.chunks = nothing_left.resumed_chunks = cut_into_chunks(plan).size();
    return nothing_left;
  }
  const auto device = backend_for_device(options.device);
  if (!device) return device.error();
  const native_backend& backend = *device;
  const auto failed = [&](std::string what, const std::error_code& why) {
    return error{.kind = error_kind::run_failed,
                 .where = work,
                 .problem = std::move(what) + ": " + why.message(),
                 .remedy = "mend it and rerun with --resume"};
  };
  if (!options.resume) fs::remove_all(work, ec);
  fs::create_directories(work, ec);
  if (ec) return failed("cannot create the work folder", ec);
  auto log = journal::open(work + detail::journal_name, plan.fingerprint, options.resume);
  if (!log) return std::move(log).error();

  std::vector<output_file> files;
  for (const planned_file& f : plan.files) {
    auto file = output_file::create(work + "/" + f.name, f.bytes);
    if (!file) return std::move(file).error();
    if (status s = file->write_at(0, std::as_bytes(std::span{f.header})); !s) return std::move(s).error();
    files.push_back(*std::move(file));
  }

  const std::vector<chunk> chunks = cut_into_chunks(plan);
  std::vector<char> done(chunks.size());
  run_report report;
  report.chunks = chunks.size();
  if (!options.measure_error)  // figures cover all chunks: a resumed run that wants them makes all again
    for (const journal::entry& e : log->finished())
      if (e.item < done.size()) {
        done[e.item] = 1;
        ++report.resumed_chunks;
      }

  std::vector<std::size_t> left(plan.items.size());
  for (const chunk& c : chunks) ++left[c.item];
  std::vector<detail::error_sums> sums(options.measure_error ? chunks.size() : 0);
  progress state;
  state.items = plan.items.size();
  state.input_bytes = plan.input_bytes;
  std::mutex mutex;
  std::optional<error> first_error;
  const std::size_t threads = std::max<std::size_t>(1, std::min(options.threads, chunks.size()));
  std::deque<detail::chunk_maker> makers;  // not a vector: they own buffers and stay where they are
  for (std::size_t i = 0; i < threads; ++i) makers.emplace_back(source, plan);

  const bool complete = parallel_for(chunks.size(), threads, [&](std::size_t worker, std::size_t task) {
    const chunk& c = chunks[task];
    const work_item& item = plan.items[c.item];
    if (!done[task]) {
      const auto emit = [&](std::size_t slot, std::uint64_t offset, std::span<const std::byte> bytes) -> status {
        if (options.discard_output) return makers[worker].keep(bytes);
        return files[plan.slots[slot].file].write_at(plan.slots[slot].offset + offset, bytes);
      };
      status s = makers[worker].make(backend, c, emit, options.measure_error ? &sums[task] : nullptr);
      makers[worker].release(c);
      if (s) s = log->append({task, 0});
      if (!s) {
        const std::lock_guard lock{mutex};
        if (!first_error) first_error = std::move(s).error();
        return false;
      }
    }
    const std::lock_guard lock{mutex};
    state.input_bytes_done += item.raw ? c.rows : c.rows * item.cols * bits_of(item.type) / 8;
    state.item = item.name;
    state.item_finished = --left[c.item] == 0;
    if (state.item_finished) ++state.items_done;
    if (options.on_progress) options.on_progress(state);
    return true;
  });
  if (!complete) {
    if (first_error->kind == error_kind::invalid_input) fs::remove_all(work, ec);
    return *std::move(first_error);
  }

  if (options.discard_output) {
    fs::remove_all(work, ec);
    return report;
  }
  std::size_t at = 0;
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    detail::error_sums total;
    for (; at < chunks.size() && chunks[at].item == i; ++at)
      if (options.measure_error) total.add(sums[at]);
    if (plan.items[i].encoding) report.layers.push_back({plan.items[i].name, plan.items[i].encoding->quant_type, total.total()});
  }

  for (output_file& f : files) {
    if (status s = f.close(); !s) return std::move(s).error();
  }
  for (const std::string& name : options.copied_files) {
    fs::copy_file(fs::path{source.directory()} / name, fs::path{work} / name, fs::copy_options::overwrite_existing, ec);
    if (ec) return failed("cannot copy " + name, ec);
    report.files.push_back(name);
  }
  for (const document& d : plan.documents) {
    auto file = output_file::create(work + "/" + d.name, d.text.size());
    if (!file) return std::move(file).error();
    if (status s = file->write_at(0, std::as_bytes(std::span{d.text})); !s) return std::move(s).error();
    if (status s = file->close(); !s) return std::move(s).error();
    report.files.push_back(d.name);
  }
  for (const planned_file& f : plan.files) report.files.push_back(f.name);

  const std::string target = options.save_path;
  const std::string old = work + ".old";
  if (fs::exists(target, ec) && !fs::is_empty(target, ec)) fs::rename(target, old, ec);
  if (ec) return failed("cannot move the old " + target + " away", ec);
  fs::rename(work, target, ec);
  if (ec) return failed("cannot rename to " + target, ec);
  // The journal goes last: killed before the rename, the folder can be resumed; killed after it, the result is complete.
  fs::remove(target + detail::journal_name, ec);
  fs::remove_all(old, ec);
  return report;
}

}  // namespace qlib::inline v0
