/// Binary files of what a calibration pass knows: little endian, bit by bit what was written.
#pragma once
#include <qlib/io/checksum.hpp>
#include <qlib/io/mmap_file.hpp>
#include <qlib/io/output_file.hpp>
#include <qlib/pipeline/calibration.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include <sys/stat.h>

namespace qlib::inline v0::detail {

inline constexpr std::uint32_t calibration_layout = 2;  // to be raised with every change of a `fields` below

/// T as an archive sees it: a reader fills it.
template <class A, class T>
using archived = std::conditional_t<A::reads, T, const T>;

/// Adds up the size and the checksum of what it is given, and writes it if there is a file.
class archive_writer {
 public:
  static constexpr bool reads = false;

  archive_writer() = default;
  explicit archive_writer(const output_file& to) : to_{&to} { pending_.reserve(block); }

  std::uint64_t size() const { return size_; }
  std::uint64_t checksum() const { return sum_.value(); }

  template <class... T>
  void operator()(const T&... values) {
    (put(values), ...);
  }

  /// Writes what is held back. The first error of all writes.
  status finish() {
    flush();
    return outcome_;
  }

 private:
  static constexpr std::size_t block = std::size_t{1} << 20;

  void bytes(std::span<const std::byte> all) {
    sum_.update(all);
    size_ += all.size();
    if (!to_) return;
    while (!all.empty()) {
      const std::size_t n = std::min(all.size(), block - pending_.size());
      pending_.insert(pending_.end(), all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n));
      all = all.subspan(n);
      if (pending_.size() == block) flush();
    }
  }
  void flush() {
    if (to_ && outcome_) outcome_ = to_->write_at(written_, std::span<const std::byte>{pending_});
    written_ += pending_.size();
    pending_.clear();
  }

  template <class T>
  void put(const T& value) {
    if constexpr (std::is_same_v<T, bool>) put(static_cast<std::uint8_t>(value));
    else if constexpr (std::is_arithmetic_v<T>) bytes(std::as_bytes(std::span{&value, 1}));
    else fields(*this, value);
  }
  void put(const std::string& text) { put_all(text); }
  template <class T>
  void put(const std::vector<T>& values) {
    put_all(values);
  }
  template <class T>
  void put_all(const T& values) {
    put(std::uint64_t{values.size()});
    if constexpr (std::is_arithmetic_v<typename T::value_type>) bytes(std::as_bytes(std::span{values}));
    else
      for (const auto& v : values) put(v);
  }
  template <class T, std::size_t N>
  void put(const std::array<T, N>& values) {
    bytes(std::as_bytes(std::span{values}));
  }
  /// Of known size: without its count.
  void put(std::span<const float> values) { bytes(std::as_bytes(values)); }
  template <class A, class B>
  void put(const std::pair<A, B>& both) {
    (*this)(both.first, both.second);
  }
  template <class K, class V, class C>
  void put(const std::map<K, V, C>& values) {
    put_all(values);
  }
  template <class T>
  void put(const std::optional<T>& value) {
    put(value.has_value());
    if (value) put(*value);
  }
  template <class... T>
  void put(const std::variant<T...>& value) {
    put(static_cast<std::uint8_t>(value.index()));
    std::visit(*this, value);
  }

  checksum64 sum_;
  const output_file* to_ = nullptr;
  std::vector<std::byte> pending_;
  std::uint64_t size_ = 0, written_ = 0;
  status outcome_;
};

/// The same for reading. It trusts nothing: behind the end, or after a value that cannot be, it is broken, and what it filled is worth nothing.
class archive_reader {
 public:
  static constexpr bool reads = true;

  explicit archive_reader(std::span<const std::byte> from) : left_{from} {}

  bool broken() const { return broken_; }
  std::size_t left() const { return left_.size(); }
  void refuse() {
    broken_ = true;
    left_ = {};
  }

  template <class... T>
  void operator()(T&... values) {
    (get(values), ...);
  }

  /// One object for all rotations that are described alike.
  std::shared_ptr<const hadamard_rotation> rotation_by(std::uint64_t size, std::uint64_t block, std::optional<std::uint64_t> seed) {
    // Far beyond any model: a file must not ask for all memory.
    constexpr std::uint64_t largest = std::uint64_t{1} << 22;
    constexpr std::size_t most = 32;
    if (broken_ || size == 0 || size > largest || block == 0) return refuse(), nullptr;
    auto& made = rotations_[{size, block, seed}];
    if (made) return made;
    rotation_options options;
    options.block_size = block;
    options.seed = seed;
    if (rotations_.size() > most || block > size || !has_hadamard(block)) return refuse(), nullptr;
    auto fresh = hadamard_rotation::make(size, options);
    if (!fresh) return refuse(), nullptr;
    made = std::make_shared<const hadamard_rotation>(*std::move(fresh));
    return made;
  }

 private:
  void bytes(std::span<std::byte> to) {
    if (to.size() > left_.size()) return refuse();
    if (!to.empty()) std::memcpy(to.data(), left_.data(), to.size());
    left_ = left_.subspan(to.size());
  }

  template <class T>
  void get(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      std::uint8_t byte = 0;
      get(byte);
      if (byte > 1) refuse();
      value = byte == 1;
    } else if constexpr (std::is_arithmetic_v<T>) {
      bytes(std::as_writable_bytes(std::span{&value, 1}));
    } else {
      fields(*this, value);
    }
  }
  std::uint64_t count() {
    std::uint64_t n = 0;
    get(n);
    return broken_ ? 0 : n;
  }
  template <class T>
  void get_numbers(T& values) {
    const std::uint64_t n = count();
    if (n > left_.size() / sizeof(typename T::value_type)) return refuse();
    values.resize(n);
    bytes(std::as_writable_bytes(std::span{values}));
  }
  void get(std::string& text) { get_numbers(text); }
  template <class T>
  void get(std::vector<T>& values) {
    if constexpr (std::is_arithmetic_v<T>) {
      get_numbers(values);
    } else {  // one at a time: a wrong count ends where the bytes end
      values.clear();
      for (std::uint64_t n = count(); n != 0 && !broken_; --n) get(values.emplace_back());
    }
  }
  template <class T, std::size_t N>
  void get(std::array<T, N>& values) {
    bytes(std::as_writable_bytes(std::span{values}));
  }
  void get(std::span<float>& values) { bytes(std::as_writable_bytes(values)); }
  template <class A, class B>
  void get(std::pair<A, B>& both) {
    (*this)(both.first, both.second);
  }
  template <class K, class V, class C>
  void get(std::map<K, V, C>& values) {
    values.clear();
    for (std::uint64_t n = count(); n != 0 && !broken_; --n) {
      std::pair<K, V> entry;
      get(entry);
      if (!values.insert(std::move(entry)).second) refuse();
    }
  }
  template <class T>
  void get(std::optional<T>& value) {
    bool has = false;
    get(has);
    value.reset();
    if (has) get(value.emplace());
  }
  template <class... T>
  void get(std::variant<T...>& value) {
    std::uint8_t index = 0, at = 0;
    get(index);
    if (index >= sizeof...(T)) return refuse();
    ((at++ == index ? get(value.template emplace<T>()) : void()), ...);
  }

  std::span<const std::byte> left_;
  bool broken_ = false;
  std::map<std::tuple<std::uint64_t, std::uint64_t, std::optional<std::uint64_t>>, std::shared_ptr<const hadamard_rotation>> rotations_;
};

// Each struct once, for both directions.

template <class A>
void fields(A& archive, archived<A, range>& r) {
  archive(r.min, r.max);
}

template <class A>
void fields(A& archive, archived<A, magnitude_histogram>& h) {
  archive(h.below, h.negative, h.positive);
}

template <class A>
void fields(A& archive, archived<A, operand_parameters>& p) {
  archive(p.scales, p.zero_points, p.seen, p.range_score, p.tokens, p.histogram);
}

template <class A>
void fields(A& archive, archived<A, scaling>& s) {
  archive(s.columns, s.rows);
}

template <class A>
void fields(A& archive, archived<A, rotation>& r) {
  std::uint64_t size = 0, block = 0;
  std::optional<std::uint64_t> seed;
  if constexpr (!A::reads) size = r.by->size(), block = r.by->block_size(), seed = r.by->seed();
  archive(size, block, seed, r.outputs, r.runs);
  if constexpr (A::reads) r.by = archive.rotation_by(size, block, seed);
}

template <class A>
void fields(A& archive, archived<A, clipping>& c) {
  archive(c.shape.rows, c.shape.cols, c.steps);
}

template <class A>
void fields(A& archive, archived<A, model_folds>& f) {
  archive(f.matrices, f.vectors);
}

template <class A>
void fields(A& archive, archived<A, suppression_report>& r) {
  archive(r.source, r.kind, r.suppressor, r.error_before, r.error_after, r.kept, r.dead, r.unseen, r.limited, r.limited_channels, r.smallest, r.largest,
          r.tiles, r.clipped, r.clip_error_before, r.clip_error_after);
}

template <class A>
void fields(A& archive, archived<A, calibration>& c) {
  archive(c.operands, c.folds, c.suppressions, c.samples, c.tokens, c.products, c.warnings, c.floats);
}

using archive_magic = std::array<char, 8>;

template <class... T>
void whole_archive(archive_writer& archive, const archive_magic& magic, std::uint64_t key, const T&... content) {
  archive(magic, calibration_layout, key, content...);
  archive(archive.checksum());
}

/// Written beside `path` and renamed.
template <class... T>
status store_archive(const std::string& path, const archive_magic& magic, std::uint64_t key, const T&... content) {
  archive_writer counted;
  whole_archive(counted, magic, key, content...);
  auto file = output_file::create(unfinished_name(path), counted.size());
  if (!file) return std::move(file).error();
  archive_writer written{*file};
  whole_archive(written, magic, key, content...);
  if (status s = written.finish(); !s) return s;
  return put_in_place(*std::move(file), path);
}

/// False if there is no such file, it belongs to another key or layout, or is damaged.
template <class... T>
result<bool> load_archive(const std::string& path, const archive_magic& magic, std::uint64_t key, T&... content) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 && (errno == ENOENT || errno == ENOTDIR)) return false;
  auto file = mmap_file::open(path);
  if (!file) return std::move(file).error();
  std::uint64_t sum = 0, key_of_file = 0;
  archive_magic magic_of_file{};
  std::uint32_t layout = 0;
  const std::span<const std::byte> all = file->bytes();
  if (all.size() < sizeof magic + sizeof layout + sizeof key + sizeof sum) return false;
  const auto checked = all.first(all.size() - sizeof sum);
  std::memcpy(&sum, all.data() + checked.size(), sizeof sum);
  archive_reader archive{checked};
  archive(magic_of_file, layout, key_of_file);
  if (magic_of_file != magic || layout != calibration_layout || key_of_file != key || sum != checksum_of(checked)) return false;
  archive(content...);
  return !archive.broken() && archive.left() == 0;
}

}  // namespace qlib::inline v0::detail
