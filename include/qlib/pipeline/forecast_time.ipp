#pragma once
#include <qlib/pipeline/forecast_chunks.ipp>
#include <qlib/pipeline/forecast_layers.ipp>
#include <qlib/pipeline/forecast_searches.ipp>
#include <qlib/pipeline/forecast_time.hpp>

#include <algorithm>

namespace qlib::inline v0 {

namespace detail {

/// The tensors of each file, from the first to the last.
inline std::vector<std::span<const std::byte>> mappings_of(const checkpoint& source) {
  std::vector<std::span<const std::byte>> out(source.shards().size());
  for (const stored_tensor& t : source.tensors()) {
    const std::span<const std::byte> bytes = source.bytes(t);
    std::span<const std::byte>& whole = out[t.shard];
    if (bytes.empty()) continue;
    const std::byte* first = whole.empty() ? bytes.data() : std::min(whole.data(), bytes.data());
    const std::byte* last = std::max(whole.data() + whole.size(), bytes.data() + bytes.size());
    whole = {first, static_cast<std::size_t>(last - first)};
  }
  return out;
}

}  // namespace detail

QLIB_INLINE time_forecast forecast_time(const forecast_request& request) {
  time_forecast out;
  const read_speed source = probe_reads(detail::mappings_of(request.source));
  out.cached_share = source.cached_share;
  if (source.uncached_seconds && *source.uncached_seconds > 0) {
    out.read_bytes_a_second = 1 / *source.uncached_seconds;
    out.reading = static_cast<double>(request.plan.input_bytes) * (1 - source.cached_share) * *source.uncached_seconds;
  }
  if (request.model) {
    const double passes = static_cast<double>(std::max<std::size_t>(1, request.passes));
    out.calibration = passes * detail::layers_forecast{request, source}.seconds();
    out.search = passes * detail::search_forecast{request}.seconds();
  }
  const double threads = static_cast<double>(std::max<std::size_t>(1, request.threads));
  const write_speed target = probe_writes(request.folder, request.plan.output_bytes);
  out.probed_output = !request.folder.empty();
  const double bytes = static_cast<double>(request.plan.output_bytes), copying = bytes * target.cached_seconds;
  out.weights = detail::chunk_forecast{request}.seconds() / threads;
  // A thread that copies makes nothing; the threads of one file copy one after the other; the disk works beside both.
  out.writing = std::max({copying / threads, copying - out.weights, bytes * target.disk_seconds.value_or(0) - out.weights});
  return out;
}

}  // namespace qlib::inline v0
