#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace qlib::inline v0 {

/// A 64-bit checksum of a stream of bytes, to recognise torn or stale output. Not cryptographic.
///
/// Four independent lanes of 8 bytes, so that the multiplications overlap; every step is a bijection of its lane, so a change
/// within one 8-byte word always changes the result. However the stream is cut into chunks, the value is the same. The value is
/// stored in journals: changing the function means a new journal version.
class checksum64 {
 public:
  void update(std::span<const std::byte> bytes) {
    const std::byte* p = bytes.data();
    std::size_t n = bytes.size();
    total_ += n;
    if (pending_ != 0) {
      const std::size_t taken = std::min(n, block - pending_);
      if (taken != 0) std::memcpy(tail_.data() + pending_, p, taken);
      pending_ += taken;
      p += taken;
      n -= taken;
      if (pending_ < block) return;
      absorb(tail_.data(), 1);
      pending_ = 0;
    }
    absorb(p, n / block);
    pending_ = n % block;
    if (pending_ != 0) std::memcpy(tail_.data(), p + (n - pending_), pending_);
  }

  /// The checksum of everything so far; more may follow.
  std::uint64_t value() const {
    std::uint64_t h = total_;
    for (std::uint64_t lane : lanes_) h = mix(h, lane);
    for (std::size_t at = 0; at < pending_; at += 8) {  // zero padding is unambiguous: the length is mixed in
      std::uint64_t word = 0;
      std::memcpy(&word, tail_.data() + at, std::min<std::size_t>(8, pending_ - at));
      h = mix(h, word);
    }
    h = (h ^ (h >> 32)) * multiplier;
    h = (h ^ (h >> 29)) * multiplier;
    return h ^ (h >> 32);
  }

 private:
  static constexpr std::size_t block = 32;
  // Odd, hence bijections modulo 2^64.
  static constexpr std::uint64_t multiplier = 0xd1342543de82ef95u, word_multiplier = 0x9e3779b97f4a7c15u;

  // The word is multiplied too: with one multiplication its top bit would change one bit of the state, which one flipped bit in the
  // next word of the lane could undo.
  static constexpr std::uint64_t mix(std::uint64_t state, std::uint64_t word) { return std::rotl(state ^ (word * word_multiplier), 29) * multiplier; }

  void absorb(const std::byte* p, std::size_t blocks) {
    std::uint64_t a = lanes_[0], b = lanes_[1], c = lanes_[2], d = lanes_[3];
    for (; blocks != 0; --blocks, p += block) {
      std::uint64_t w[4];
      std::memcpy(w, p, block);
      a = mix(a, w[0]);
      b = mix(b, w[1]);
      c = mix(c, w[2]);
      d = mix(d, w[3]);
    }
    lanes_ = {a, b, c, d};
  }

  std::array<std::uint64_t, 4> lanes_{0x243f6a8885a308d3u, 0x13198a2e03707344u, 0xa4093822299f31d0u, 0x082efa98ec4e6c89u};  // pi
  std::array<std::byte, block> tail_{};
  std::size_t pending_ = 0;
  std::uint64_t total_ = 0;
};

/// The checksum of one piece of memory.
inline std::uint64_t checksum_of(std::span<const std::byte> bytes) {
  checksum64 sum;
  sum.update(bytes);
  return sum.value();
}

}  // namespace qlib::inline v0
