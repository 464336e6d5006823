/// How fast the machine can move the bytes of a quantization, and nothing else: the yardstick of every row in bench/.
///
/// A bound reads the source once and writes the output once, with the widest vectors of the CPU, non-temporal stores and a prefetch
/// 4 KiB ahead, without arithmetic (the vectors read are only OR-ed together). Each case is timed in turn with its bound, in one process:
/// absolute times move with the machine's neighbours and clock, the share of the bound hardly does.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bench {

#if defined(__x86_64__)
template <int Reads>
__attribute__((target("avx512f"))) void stream_512(const char* in, std::size_t bytes, char* out) {
  for (std::size_t i = 0; i < bytes; i += 64 * Reads, out += 64) {
    __m512i all = _mm512_loadu_si512(in + i);
    for (int k = 0; k < Reads; ++k) _mm_prefetch(in + i + 64 * k + 4096, _MM_HINT_T0);
    for (int k = 1; k < Reads; ++k) all = _mm512_or_si512(all, _mm512_loadu_si512(in + i + 64 * k));
    _mm512_stream_si512(reinterpret_cast<__m512i*>(out), all);
  }
  _mm_sfence();
}

template <int Reads>
__attribute__((target("avx2"))) void stream_256(const char* in, std::size_t bytes, char* out) {
  for (std::size_t i = 0; i < bytes; i += 32 * Reads, out += 32) {
    __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i));
    for (int k = 0; k < Reads; k += 2) _mm_prefetch(in + i + 32 * k + 4096, _MM_HINT_T0);
    for (int k = 1; k < Reads; ++k) all = _mm256_or_si256(all, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i + 32 * k)));
    _mm256_stream_si256(reinterpret_cast<__m256i*>(out), all);
  }
  _mm_sfence();
}
#endif

/// Reads in[0, bytes) and writes bytes / Reads: 4 for f32 to 8 bits or 16 bits to 4, 8 for f32 to 4 bits, 2 for 16 bits to 8.
/// `bytes` is a multiple of 64 * Reads, `out` is aligned to 64.
template <int Reads>
void move_bytes(const char* in, std::size_t bytes, char* out) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return stream_512<Reads>(in, bytes, out);
  if (__builtin_cpu_supports("avx2")) return stream_256<Reads>(in, bytes, out);
#endif
  for (std::size_t i = 0; i < bytes; i += 64 * Reads, out += 64) {
    std::uint64_t all[8] = {};
    for (int k = 0; k < 8 * Reads; ++k) {
      std::uint64_t word;
      std::memcpy(&word, in + i + 8 * k, 8);
      all[k % 8] |= word;
    }
    std::memcpy(out, all, 64);
  }
}

inline double seconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Wall time of work() in seconds. A run in which the thread was preempted (wall time 3 % above CPU time) is repeated, up to five times.
template <class Work>
double time_of(Work work) {
  double wall = 0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    const double w = seconds(CLOCK_MONOTONIC), c = seconds(CLOCK_THREAD_CPUTIME_ID);
    work();
    wall = seconds(CLOCK_MONOTONIC) - w;
    if (wall <= 1.03 * (seconds(CLOCK_THREAD_CPUTIME_ID) - c)) break;
  }
  return wall;
}

inline double median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

}  // namespace bench
