/// Quantizing into a temporary folder, and reading back what a quantized weight stands for.
#pragma once
#include <qlib/backend/scalar.hpp>
#include <qlib/io/safetensors.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/run.hpp>

#include "../io/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace qlib_test {

inline std::string text_of(const qlib::errors& found) {
  std::string text;
  for (const qlib::error& e : found) text += e.text() + "\n";
  return text;
}

/// The elements of a BF16, F16, F32, F8_E4M3 or I8 tensor; exact.
inline std::vector<float> floats_of(qlib::dtype type, std::span<const std::byte> bytes) {
  std::vector<float> out(bytes.size() / (qlib::bits_of(type) / 8));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto load = [&](auto value) {
      std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);
      return value;
    };
    switch (type) {
      case qlib::dtype::bf16:
        out[i] = qlib::to_float(load(qlib::bf16{}));
        break;
      case qlib::dtype::f16:
        out[i] = qlib::to_float(load(qlib::f16{}));
        break;
      case qlib::dtype::f32:
        out[i] = load(float{});
        break;
      case qlib::dtype::f8_e4m3:
        out[i] = qlib::e4m3_to_float(load(std::uint8_t{}));
        break;
      case qlib::dtype::i8:
        out[i] = load(std::int8_t{});
        break;
      default:
        FAIL("no float can be made of " << qlib::name_of(type));
    }
  }
  return out;
}

/// The tensors of one or several safetensors files.
class tensor_set {
 public:
  void open(const std::string& path) {
    qlib::safetensors_file file;
    const qlib::errors found = qlib::safetensors_file::open(path, file);
    REQUIRE_MESSAGE(found.empty(), text_of(found));
    files_.push_back(std::move(file));
    for (const qlib::tensor_info& t : files_.back().tensors()) owner_.emplace(t.name, files_.size() - 1);
  }

  const std::map<std::string, std::size_t>& names() const { return owner_; }
  bool contains(const std::string& name) const { return owner_.count(name) == 1; }
  const qlib::tensor_info& info(const std::string& name) const {
    REQUIRE_MESSAGE(contains(name), "no tensor " << name);
    return *files_[owner_.at(name)].find(name);
  }
  std::span<const std::byte> bytes(const std::string& name) const { return files_[owner_.at(name)].bytes(info(name)); }
  std::vector<float> floats(const std::string& name) const { return floats_of(info(name).dtype, bytes(name)); }
  /// As they are stored.
  template <class T>
  std::vector<T> elements(const std::string& name) const {
    const auto from = bytes(name);
    std::vector<T> out(from.size() / sizeof(T));
    std::memcpy(out.data(), from.data(), from.size());
    return out;
  }

 private:
  std::vector<qlib::safetensors_file> files_;
  std::map<std::string, std::size_t> owner_;
};

/// A checkpoint, the plan of a recipe for it, and the output of that plan.
struct quantized_folder {
  temporary_folder folder;
  qlib::checkpoint source;
  qlib::model_layout layout;
  qlib::quantization_plan plan;
  tensor_set out;

  std::string path(std::string_view name) const { return folder.path("out") + "/" + std::string{name}; }
  std::string read(std::string_view name) const { return folder.read("out/" + std::string{name}); }

  void quantize(const std::string& model_path, const qlib::recipe& recipe, std::string_view format, qlib::compat follow) {
    qlib::errors found = qlib::checkpoint::open(model_path, source);
    REQUIRE_MESSAGE(found.empty(), text_of(found));
    found = qlib::read_model_layout(source, layout);
    REQUIRE_MESSAGE(found.empty(), text_of(found));
    qlib::plan_options options;
    options.format = qlib::registry::formats::find(format).value();
    options.follow = follow;
    found = qlib::make_plan(source, layout, recipe, options, plan);
    REQUIRE_MESSAGE(found.empty(), text_of(found));
    qlib::run_options run;
    run.save_path = folder.path("out");
    run.threads = 2;
    const auto done = qlib::run_plan(source, plan, run);
    REQUIRE_MESSAGE(done, (done ? std::string{} : done.error().text()));
    for (const qlib::planned_file& file : plan.files) out.open(path(file.name));
  }
};

/// What the quantized weight `item` stands for in a checkpoint of the same layout, ours or another tool's: codes, scale of each
/// element's tile, and the product as a reader of the format computes it in f32.
struct decoded_weight {
  std::vector<float> codes, scales, values;
};

/// Zero points of `pack-quantized`: element (r, c) is the 4-bit field r % 8 of word (r / 8, c), less 8.
inline std::vector<float> unpacked_zero_points(std::span<const std::byte> bytes, int num_bits, qlib::grid grid) {
  REQUIRE(num_bits == 4);
  std::vector<float> out(grid.tiles());
  for (std::size_t r = 0; r < grid.rows; ++r)
    for (std::size_t c = 0; c < grid.cols; ++c) {
      std::uint32_t word;
      std::memcpy(&word, bytes.data() + (r / 8 * grid.cols + c) * 4, 4);
      out[r * grid.cols + c] = static_cast<float>((word >> (r % 8 * 4)) & 15u) - 8.0f;
    }
  return out;
}

inline decoded_weight decode(const qlib::quantization_plan& plan, const qlib::work_item& item, const tensor_set& tensors) {
  const qlib::quant_spec& spec = item.encoding->spec;
  const qlib::grid grid = qlib::grid_of(spec.granularity, item.rows, item.cols);
  const qlib::tile tile = qlib::resolve(spec.granularity, item.rows, item.cols);
  std::vector<std::int8_t> codes(item.rows * item.cols);
  std::vector<float> scales, zeros(grid.tiles());
  for (std::size_t s : item.slots) {
    const qlib::output_tensor& t = plan.slots[s].tensor;
    switch (t.role) {
      case qlib::slot_role::codes:
        std::visit(
            [&](const auto& packer) {
              packer.unpack(qlib::scalar_backend{}, spec, tensors.bytes(t.name).data(),
                            qlib::matrix_view<std::int8_t>{codes.data(), item.rows, item.cols});
            },
            item.encoding->packer);
        break;
      case qlib::slot_role::scales:
        scales = tensors.floats(t.name);
        break;
      case qlib::slot_role::zero_points:
      case qlib::slot_role::zeros:
        zeros = tensors.floats(t.name);
        break;
      case qlib::slot_role::packed_zero_points:
        zeros = unpacked_zero_points(tensors.bytes(t.name), spec.num_bits, grid);
        break;
      default:
        break;
    }
  }
  REQUIRE(scales.size() == grid.tiles());
  REQUIRE(zeros.size() == grid.tiles());
  decoded_weight out;
  for (std::size_t r = 0; r < item.rows; ++r)
    for (std::size_t c = 0; c < item.cols; ++c) {
      const std::size_t i = r / tile.rows * grid.cols + c / tile.cols;
      const std::int8_t code = codes[r * item.cols + c];
      const float number = spec.type == qlib::number::floating ? qlib::e4m3_to_float(static_cast<std::uint8_t>(code)) : static_cast<float>(code);
      out.codes.push_back(number);
      out.scales.push_back(scales[i]);
      out.values.push_back((number - zeros[i]) * scales[i]);
    }
  return out;
}

}  // namespace qlib_test
