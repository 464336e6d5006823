// Elements of strided views.
#include <algorithm>
#include <cmath>
#include <limits>

#include "half.hpp"
#include "ledger.hpp"
#include "tensor.hpp"

namespace fake_acl {
namespace {

int64_t product(const std::vector<int64_t>& dims) {
  int64_t n = 1;
  for (const int64_t d : dims) n *= d;
  return n;
}

/// f(logical index, element offset) in row-major order.
template <class F>
void for_each_element(const view& v, F f) {
  const int64_t count = v.count();
  if (count == 0) return;
  const size_t rank = v.dims.size();
  const int64_t inner = rank == 0 ? 1 : v.dims[rank - 1];
  const int64_t step = rank == 0 ? 0 : v.strides[rank - 1];
  std::vector<int64_t> at(rank, 0);
  for (int64_t done = 0; done < count; done += inner) {
    int64_t place = v.offset;
    for (size_t d = 0; d + 1 < rank; ++d) place += at[d] * v.strides[d];
    for (int64_t i = 0; i < inner; ++i) f(done + i, place + i * step);
    for (size_t d = rank == 0 ? 0 : rank - 1; d-- > 0;) {
      if (++at[d] < v.dims[d]) break;
      at[d] = 0;
    }
  }
}

template <class T>
T read(const view& v, int64_t place) {
  T x;
  std::memcpy(&x, v.base + static_cast<size_t>(place) * sizeof(T), sizeof(T));
  return x;
}

template <class T>
void write(const view& v, int64_t place, T x) {
  std::memcpy(v.base + static_cast<size_t>(place) * sizeof(T), &x, sizeof(T));
}

template <class Number>
Number load(const view& v, int64_t place) {
  switch (v.type) {
    case dtype::f32:
      return static_cast<Number>(read<float>(v, place));
    case dtype::f16:
      return static_cast<Number>(from_f16(read<uint16_t>(v, place)));
    case dtype::bf16:
      return static_cast<Number>(from_bf16(read<uint16_t>(v, place)));
    case dtype::i8:
      return static_cast<Number>(read<int8_t>(v, place));
    case dtype::u8:
    case dtype::boolean:
      return static_cast<Number>(read<uint8_t>(v, place));
    case dtype::i16:
      return static_cast<Number>(read<int16_t>(v, place));
    case dtype::u16:
      return static_cast<Number>(read<uint16_t>(v, place));
    case dtype::i32:
      return static_cast<Number>(read<int32_t>(v, place));
    case dtype::u32:
      return static_cast<Number>(read<uint32_t>(v, place));
    case dtype::i64:
      return static_cast<Number>(read<int64_t>(v, place));
    case dtype::u64:
      return static_cast<Number>(read<uint64_t>(v, place));
    case dtype::f64:
      return static_cast<Number>(read<double>(v, place));
    case dtype::i4: {
      const auto byte = static_cast<unsigned>(v.base[place / 2]);
      const unsigned nibble = place % 2 == 0 ? byte & 15u : byte >> 4;
      return static_cast<Number>(static_cast<int>(nibble ^ 8u) - 8);
    }
    default:
      return Number{};
  }
}

template <class T, class Number>
T saturate(Number x) {
  if (std::isnan(x)) return 0;
  if (x <= static_cast<Number>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  if (x >= static_cast<Number>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  return static_cast<T>(x);
}

template <class Number>
void store(const view& v, int64_t place, Number x) {
  switch (v.type) {
    case dtype::f32:
      write(v, place, static_cast<float>(x));
      break;
    case dtype::f16:
      write(v, place, to_f16(static_cast<float>(x)));
      break;
    case dtype::bf16:
      write(v, place, to_bf16(static_cast<float>(x)));
      break;
    case dtype::i8:
      write(v, place, saturate<int8_t>(x));
      break;
    case dtype::u8:
      write(v, place, saturate<uint8_t>(x));
      break;
    case dtype::boolean:
      write(v, place, static_cast<uint8_t>(x != 0));
      break;
    case dtype::i16:
      write(v, place, saturate<int16_t>(x));
      break;
    case dtype::u16:
      write(v, place, saturate<uint16_t>(x));
      break;
    case dtype::i32:
      write(v, place, saturate<int32_t>(x));
      break;
    case dtype::u32:
      write(v, place, saturate<uint32_t>(x));
      break;
    case dtype::i64:
      write(v, place, saturate<int64_t>(x));
      break;
    case dtype::u64:
      write(v, place, saturate<uint64_t>(x));
      break;
    case dtype::f64:
      write(v, place, static_cast<double>(x));
      break;
    case dtype::i4: {
      const auto code = static_cast<unsigned>(std::clamp<int>(saturate<int8_t>(x), -8, 7)) & 15u;
      const auto byte = static_cast<unsigned>(v.base[place / 2]);
      v.base[place / 2] = static_cast<std::byte>(place % 2 == 0 ? (byte & 0xF0u) | code : (byte & 15u) | code << 4);
      break;
    }
    default:
      break;
  }
}

}  // namespace

int64_t view::count() const { return product(dims); }
int64_t tensor::count() const { return product(dims); }

std::string tensor::describe() const {
  std::string text = "tensor [";
  for (size_t i = 0; i < dims.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(dims[i]);
  return text + "] of dtype " + std::to_string(type);
}

std::vector<float> load_floats(const view& v) {
  std::vector<float> out(static_cast<size_t>(v.count()));
  for_each_element(v, [&](int64_t i, int64_t place) { out[static_cast<size_t>(i)] = load<float>(v, place); });
  return out;
}

std::vector<double> load_numbers(const view& v) {
  std::vector<double> out(static_cast<size_t>(v.count()));
  for_each_element(v, [&](int64_t i, int64_t place) { out[static_cast<size_t>(i)] = load<double>(v, place); });
  return out;
}

std::vector<uint64_t> load_bits64(const view& v) {
  std::vector<uint64_t> out(static_cast<size_t>(v.count()));
  for_each_element(v, [&](int64_t i, int64_t place) { out[static_cast<size_t>(i)] = read<uint64_t>(v, place); });
  return out;
}

void store_floats(const view& v, std::span<const float> values) {
  for_each_element(v, [&](int64_t i, int64_t place) { store(v, place, values[static_cast<size_t>(i)]); });
}

void store_numbers(const view& v, std::span<const double> values) {
  for_each_element(v, [&](int64_t i, int64_t place) { store(v, place, values[static_cast<size_t>(i)]); });
}

void store_bits64(const view& v, std::span<const uint64_t> values) {
  for_each_element(v, [&](int64_t i, int64_t place) { write(v, place, values[static_cast<size_t>(i)]); });
}

int resolve(const world& w, const tensor& t, int device, bool writes, view& out, std::vector<use>& uses) {
  const std::string name = t.describe();
  if (t.data == nullptr) return violate(name + " has no memory");
  const auto memory = w.memory.find(t.data);
  if (memory == nullptr) return violate(name + (was_device_memory(t.data) ? " lies in memory that was freed" : " does not lie in device memory"));
  if (memory->device != device) return violate(name + " lies in memory of " + (memory->device == host ? "the host" : "another device"));
  if (reinterpret_cast<uintptr_t>(t.data) % 32 != 0) return violate(name + " is not aligned to 32 bytes");
  const auto begin = static_cast<size_t>(static_cast<const std::byte*>(t.data) - memory->handed);
  const auto bytes_for = [&](int64_t elements) { return (static_cast<uint64_t>(elements) * static_cast<uint64_t>(bits_of(t.type)) + 7) / 8; };
  const int64_t stored = product(t.storage);
  if (bytes_for(stored) > memory->size - begin) {
    return violate(name + " overruns its memory: " + std::to_string(bytes_for(stored)) + " bytes of storage at " + std::to_string(begin) + " of " +
                   std::to_string(memory->size));
  }
  int64_t first = t.offset;
  int64_t last = t.offset;
  for (size_t d = 0; d < t.rank(); ++d) (t.strides[d] < 0 ? first : last) += (t.dims[d] - 1) * t.strides[d];
  if (t.format == format::fractal_nz) first = 0, last = stored - 1;  // blocks, whatever the view says
  if (t.count() > 0 && (first < 0 || last >= stored)) return violate(name + " reaches outside its storage");
  out = view{t.dims, t.strides, t.offset, t.type, t.format, t.storage, memory->backing + begin};
  if (t.count() > 0) {
    const size_t low = static_cast<size_t>(first) * static_cast<size_t>(bits_of(t.type)) / 8;
    uses.push_back({memory, begin + low, begin + bytes_for(last + 1), writes});
  }
  return 0;
}

}  // namespace fake_acl
