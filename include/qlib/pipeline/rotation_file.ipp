#pragma once
#include <qlib/io/output_file.hpp>
#include <qlib/io/safetensors.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/rotate.hpp>
#include <qlib/pipeline/rotation_file.hpp>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace qlib::inline v0 {

QLIB_INLINE result<planned_file> plan_rotation_file(std::string name, std::size_t width) {
  std::array<tensor_info, 1> tensors{tensor_info{.name = "global_rotation", .dtype = dtype::f32, .shape = {width, width}}};
  const auto size = assign_offsets(tensors);
  if (!size) return size.error();
  auto header = serialize_safetensors_header(tensors);
  if (!header) return std::move(header).error();
  planned_file file{.name = std::move(name), .header = *std::move(header)};
  file.bytes = file.header.size() + *size;
  return file;
}

QLIB_INLINE status write_rotation(const planned_rotation& plan, const planned_file& file, const std::string& folder) {
  auto out = output_file::create(folder + "/" + file.name, file.bytes);
  if (!out) return std::move(out).error();
  if (status s = out->write_at(0, std::as_bytes(std::span{file.header})); !s) return s;
  const std::size_t width = plan.stream.width, strip = std::max<std::size_t>(1, (std::size_t{1} << 22) / std::max<std::size_t>(1, width));
  const auto matrix = residual_rotation(plan);
  std::vector<float> values;
  for (std::size_t row = 0; row < width; row += strip) {
    const std::size_t rows = std::min(strip, width - row);
    values.assign(rows * width, 0.0f);  // of the unit matrix, then of it times the rotation
    for (std::size_t r = 0; r < rows; ++r) values[r * width + row + r] = 1.0f;
    matrix->rows({values.data(), rows, width});
    if (status s = out->write_at(file.header.size() + row * width * sizeof(float), std::as_bytes(std::span{values})); !s) return s;
  }
  return out->close();
}

}  // namespace qlib::inline v0
