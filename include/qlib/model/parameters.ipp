#pragma once
#include <qlib/model/parameters.hpp>
#include <qlib/model/stored_rows.hpp>

namespace qlib::inline v0 {

QLIB_INLINE checkpoint_parameters::checkpoint_parameters(const checkpoint& source, const model_layout& layout) : source_{&source} {
  for (const matrix_module& m : layout.matrices) {
    entries_[m.name + ".weight"] = {&m, false, m.weight.tensor};
    if (m.bias) entries_[m.name + ".bias"] = {&m, true, m.bias->tensor};
  }
  for (const std::size_t i : layout.others) entries_[source.tensors()[i].info.name] = {nullptr, false, i};
}

QLIB_INLINE const checkpoint_parameters::entry* checkpoint_parameters::find(const std::string& name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second;
}

QLIB_INLINE std::string checkpoint_parameters::file_of(const entry& e) const { return source_->shards()[source_->tensors()[e.tensor].shard].path(); }

QLIB_INLINE std::vector<std::string> checkpoint_parameters::names() const {
  std::vector<std::string> out;
  for (const auto& [name, e] : entries_) out.push_back(name);
  return out;
}

QLIB_INLINE bool checkpoint_parameters::contains(const std::string& name) const { return find(name) != nullptr; }

QLIB_INLINE std::optional<std::vector<std::uint64_t>> checkpoint_parameters::shape(const std::string& name) const {
  const entry* e = find(name);
  if (!e) return std::nullopt;
  if (!e->module) return source_->tensors()[e->tensor].info.shape;
  if (e->bias) return std::vector<std::uint64_t>{e->module->rows};
  return std::vector<std::uint64_t>{e->module->rows, e->module->cols};
}

QLIB_INLINE std::optional<dtype> checkpoint_parameters::type(const std::string& name) const {
  const entry* e = find(name);
  if (!e) return std::nullopt;
  return e->module && !e->bias ? e->module->type : source_->tensors()[e->tensor].info.dtype;
}

QLIB_INLINE status checkpoint_parameters::read(const std::string& name, matrix_view<float> out, std::size_t first_row) const {
  const entry* e = find(name);
  if (!e) return error{.where = source_->directory(), .subject = name, .problem = "is not in the checkpoint", .remedy = "give the complete model"};
  const stored_tensor& t = source_->tensors()[e->tensor];
  const auto complain = [&](std::string problem) {
    return error{.where = file_of(*e), .subject = name, .problem = std::move(problem), .remedy = "give the float checkpoint of this model"};
  };
  const std::vector<std::uint64_t> extents = *shape(name);
  std::uint64_t rows = 1, cols = 1;
  if (extents.size() > 1) rows = extents[0];
  for (std::size_t i = extents.size() > 1 ? 1 : 0; i < extents.size(); ++i) cols *= extents[i];
  if (out.cols() != cols || first_row + out.rows() > rows)
    return complain("has " + std::to_string(rows) + " rows of " + std::to_string(cols) + "; rows " + std::to_string(first_row) + " to " +
                    std::to_string(first_row + out.rows()) + " of " + std::to_string(out.cols()) + " were asked for");
  matrix_source m{.tensor = e->tensor, .offset = 0, .row_stride = cols};
  if (e->module) {
    m = e->bias ? *e->module->bias : e->module->weight;
    if (e->bias) m.col_stride = m.row_stride;  // a bias is rows x 1, and one row here
  }
  const dtype stored = t.info.dtype;
  if (m.storage == matrix_storage::plain && stored != dtype::f32 && stored != dtype::bf16 && stored != dtype::f16)
    return complain("is " + std::string(name_of(stored)) + ", not a float type");
  load_rows(*source_, m, first_row, out);
  return {};
}

QLIB_INLINE result<linear_weight> checkpoint_parameters::linear(const std::string& module) const {
  const entry* e = find(module + ".weight");
  if (!e || !e->module)
    return error{.where = source_->directory(),
                 .subject = module + ".weight",
                 .problem = "is not a matrix of the checkpoint",
                 .remedy = "give the complete model"};
  const matrix_module& m = *e->module;
  const stored_tensor& t = source_->tensors()[m.weight.tensor];
  const std::uint64_t begin = stored_bytes(*source_, m.weight, m.weight.offset);
  const std::byte* first = source_->bytes(t).data() + begin;
  const bool plain = m.weight.col_stride == 1 && m.weight.storage == matrix_storage::plain &&
                     reinterpret_cast<std::uintptr_t>(first) % (bits_of(t.info.dtype) / 8) == 0;
  const auto give_back = [source = source_, &t, begin,
                          length = stored_bytes(*source_, m.weight, (m.rows - 1) * m.weight.row_stride + (m.cols - 1) * m.weight.col_stride + 1)] {
    source->release(t, begin, length);
  };
  linear_weight out;
  if (plain && t.info.dtype == dtype::bf16) {
    out = linear_weight{matrix_view<const bf16>{reinterpret_cast<const bf16*>(first), m.rows, m.cols, m.weight.row_stride}, give_back};
  } else if (plain && t.info.dtype == dtype::f32) {
    out = linear_weight{matrix_view<const float>{reinterpret_cast<const float*>(first), m.rows, m.cols, m.weight.row_stride}, give_back};
  } else {
    const bool half = m.type == dtype::bf16;
    buffer owned{m.rows * m.cols * (half ? 2 : 4)};
    if (!owned.data())
      return error{
          .kind = error_kind::run_failed, .where = file_of(*e), .subject = module, .problem = "no memory for its weight", .remedy = "free memory"};
    const matrix_view<bf16> narrow{reinterpret_cast<bf16*>(owned.data()), m.rows, m.cols};
    const matrix_view<float> wide{reinterpret_cast<float*>(owned.data()), m.rows, m.cols};
    if (half) load_rows(*source_, m.weight, 0, narrow);
    else load_rows(*source_, m.weight, 0, wide);
    // The copy is all that is read from here on. A transposed expert shares its pages with its neighbours, which read them next.
    if (m.weight.col_stride == 1) give_back();
    if (half) out = linear_weight{matrix_view<const bf16>{narrow}, std::move(owned)};
    else out = linear_weight{matrix_view<const float>{wide}, std::move(owned)};
  }
  if (m.bias) {
    out.bias.resize(m.rows);
    if (status s = read(module + ".bias", matrix_view<float>{out.bias.data(), 1, m.rows}); !s) return s.error();
  }
  return out;
}

}  // namespace qlib::inline v0
