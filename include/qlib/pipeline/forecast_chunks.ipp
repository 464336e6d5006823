/// How long making the output's bytes takes. Part of forecast_time.ipp.
#pragma once
#include <qlib/backend/native.hpp>
#include <qlib/core/stopwatch.hpp>
#include <qlib/pipeline/backend_worker.ipp>
#include <qlib/pipeline/forecast_time.hpp>
#include <qlib/pipeline/rotate.hpp>
#include <qlib/suppressor/weight_clip.hpp>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>

namespace qlib::inline v0::detail {

/// Numbers that stand for what calibration will find: they fold and quantize at the same speed.
inline calibration stand_in_for(const forecast_request& r) {
  calibration out;
  for (const calibrated_operand& o : r.plan.operands) {
    const std::size_t n = grid_of(o.spec.granularity, 1, o.channels).tiles();
    out.operands.push_back({.scales = std::vector<float>(n, 1.0f), .zero_points = std::vector<std::int32_t>(o.spec.symmetric ? 0 : n)});
  }
  if (r.plan.rotation && !rotate(*r.plan.rotation, r.parameters, out.folds)) out.folds = {};
  const auto scale = [&](const std::string& module, bool rows) {
    const auto shape = r.parameters.shape(module + ".weight");
    if (!shape || shape->size() != 2) return;
    scaling s;
    (rows ? s.rows : s.columns).assign((*shape)[rows ? 0 : 1], 1.0f);
    out.folds.matrices[module].push_back(std::move(s));
  };
  std::map<std::string_view, const work_item*> items;
  for (const work_item& i : r.plan.items)
    if (i.encoding) items.emplace(i.name, &i);
  const auto clip = [&](const std::string& module) {
    const auto at = items.find(module);
    if (at == items.end() || !can_be_clipped(at->second->encoding->spec)) return;
    const tile shape = at->second->encoding->spec.granularity;
    const std::size_t tiles = grid_of(shape, at->second->rows, at->second->cols).tiles();
    out.folds.matrices[module].push_back(clipping{shape, std::vector<std::uint8_t>(tiles, 1)});
  };
  for (const planned_suppression& p : r.plan.suppressions) {
    for (const std::string& target : p.graph.targets) scale(target, false);
    if (p.graph.kind != subgraph_kind::norm_linear) scale(p.graph.source, true);
    for (const std::string& target : p.clipped) clip(target);
  }
  return out;
}

/// Chunks that take the same time an element.
struct chunk_kind {
  bool encoded, raw, plain, whole;
  dtype type;
  quant_spec spec;
  policy_choice observer, rounder;
  std::size_t packer, steps;
  friend bool operator==(const chunk_kind&, const chunk_kind&) = default;
};

class chunk_forecast {
 public:
  explicit chunk_forecast(const forecast_request& request)
      : request_{request}, found_{stand_in_for(request)}, chunks_{cut_into_chunks(request.plan)} {}

  /// Seconds of one thread for each, when all threads are at work.
  double seconds() {
    double sum = 0;
    std::vector<std::pair<chunk_kind, std::vector<const chunk*>>> kinds;
    for (const chunk& c : chunks_) {
      const chunk_kind kind = kind_of(request_.plan.items[c.item]);
      auto at = std::find_if(kinds.begin(), kinds.end(), [&](const auto& k) { return k.first == kind; });
      if (at == kinds.end()) at = kinds.emplace(kinds.end(), kind, std::vector<const chunk*>{});
      at->second.push_back(&c);
    }
    for (auto& [kind, chunks] : kinds) {
      double all = 0;
      for (const chunk* c : chunks) all += elements(*c);
      sum += all * seconds_an_element(kind, chunks);
    }
    return sum;
  }

 private:
  static constexpr double dear = 0.03;  // seconds of a probe that is not repeated

  double elements(const chunk& c) const {
    const work_item& item = request_.plan.items[c.item];
    return static_cast<double>(c.rows) * static_cast<double>(item.raw ? 1 : std::max<std::size_t>(1, item.cols));
  }

  chunk_kind kind_of(const work_item& item) const {
    chunk_kind k{.encoded = item.encoding.has_value(),
                 .raw = item.raw,
                 .plain = item.source.col_stride == 1 && item.source.storage == matrix_storage::plain,
                 .whole = item.whole || item.vector,
                 .type = item.type,
                 .spec = {},
                 .observer = {},
                 .rounder = {},
                 .packer = 0,
                 .steps = 0};
    constexpr std::string_view tail = ".weight";
    std::string_view module = item.name;
    if (!item.encoding && module.ends_with(tail)) module.remove_suffix(tail.size());
    k.steps = found_.folds.steps(module).size();
    if (!item.encoding) return k;
    k.spec = item.encoding->spec;
    k.observer = item.observer;
    k.rounder = item.rounder;
    k.packer = item.encoding->packer.index();
    return k;
  }

  /// By as many threads as the run has, each with chunks of its own where there are enough.
  double seconds_an_element(const chunk_kind& kind, std::vector<const chunk*>& chunks) {
    const bool cut = !kind.raw && !kind.whole && kind.spec.granularity.rows != 0;  // fewer rows of a chunk are one too
    // The largest chunks stand for the others; of those that cannot be cut the smallest have to.
    std::stable_sort(chunks.begin(), chunks.end(),
                     [&](const chunk* a, const chunk* b) { return cut || kind.raw ? elements(*a) > elements(*b) : elements(*a) < elements(*b); });
    const std::size_t threads = std::clamp<std::size_t>(request_.threads, 1, 16);
    std::vector<chunk> mine;
    for (std::size_t i = 0; i < threads; ++i) mine.push_back(*chunks[i % chunks.size()]);
    if (elements(mine.front()) == 0) return 0;
    std::vector<std::unique_ptr<chunk_worker>> workers;
    for (std::size_t i = 0; i < threads; ++i)
      workers.push_back(std::make_unique<backend_worker<native_backend>>(native_backend{}, request_.source, request_.plan, &found_));
    const auto once = [&](const std::vector<chunk>& some) {
      const stopwatch start;
      parallel_for(threads, threads, [&](std::size_t, std::size_t i) {
        error_sums sums;
        const bool raw = request_.plan.items[some[i].item].raw;
        (void)workers[i]->make(
            some[i], [&](std::size_t, std::uint64_t, std::span<const std::byte> bytes) { return raw ? workers[i]->keep(bytes) : status{}; },
            request_.measure_error ? &sums : nullptr);
        workers[i]->release(some[i]);
        return true;
      });
      return start.seconds();
    };
    std::vector<chunk> few = mine;
    if (cut)
      for (chunk& c : few) c.rows = std::min<std::size_t>(c.rows, 64);
    const auto each = [&](const std::vector<chunk>& some, double seconds) {
      double sum = 0;
      for (const chunk& c : some) sum += elements(c);
      return seconds / sum;
    };
    double seconds = once(few);  // reads what is not in memory
    if (seconds < 10 * dear) seconds = once(few);
    double rate = each(few, seconds);
    if (rate * elements(mine.front()) * static_cast<double>(threads) < dear) {
      once(mine);
      for (int i = 0; i < 2; ++i) rate = i == 0 ? each(mine, once(mine)) : std::min(rate, each(mine, once(mine)));
    }
    return rate * static_cast<double>(threads);
  }

  const forecast_request& request_;
  calibration found_;
  std::vector<chunk> chunks_;
};

}  // namespace qlib::inline v0::detail
