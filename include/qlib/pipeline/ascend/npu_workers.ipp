#pragma once
#include <qlib/backend/ascend/ascend_backend.hpp>
#include <qlib/backend/ascend/device_list.hpp>
#include <qlib/backend/ascend/self_test.hpp>
#include <qlib/pipeline/ascend/npu_workers.hpp>
#include <qlib/pipeline/backend_worker.ipp>

#include <memory>

namespace qlib::inline v0 {

struct npu_devices::state {
  std::shared_ptr<ascend::library> library;
  std::vector<int> ids;
  std::function<void(std::string_view)> log;
};

namespace detail {

inline result<std::shared_ptr<ascend::library>> open_devices(const std::vector<int>& ids) {
  auto library = ascend::library::open();
  if (!library) return std::move(library).error();
  auto shared = std::make_shared<ascend::library>(*std::move(library));
  if (status s = shared->check_devices(ids); !s) {
    (void)shared->shutdown();
    return std::move(s).error();
  }
  return shared;
}

}  // namespace detail

QLIB_INLINE result<npu_devices> npu_devices::open(std::string_view devices, std::function<void(std::string_view)> log) {
  auto ids = ascend::parse_devices(devices);
  if (!ids) return std::move(ids).error();
  auto library = detail::open_devices(*ids);
  if (!library) return std::move(library).error();
  npu_devices out;
  out.state_ = std::make_shared<state>(state{*std::move(library), *std::move(ids), std::move(log)});
  return out;
}

QLIB_INLINE worker_factory npu_devices::workers() const {
  return [s = state_](const checkpoint& source, const quantization_plan& plan,
                      const calibration* found) -> result<std::vector<std::unique_ptr<chunk_worker>>> {
    ascend::lane_options options;
    options.log = [](void* context, std::string_view line) {
      if (const auto* to = static_cast<state*>(context); to->log) to->log(line);
    };
    options.log_context = s.get();
    constexpr std::size_t lanes_per_device = 3;
    auto lanes = open_lanes(s->library, s->ids, lanes_per_device, options);
    if (!lanes) return std::move(lanes).error();
    std::vector<std::unique_ptr<chunk_worker>> out;
    for (ascend_backend& lane : *lanes) out.push_back(std::make_unique<detail::backend_worker<ascend_backend>>(std::move(lane), source, plan, found));
    return out;
  };
}

QLIB_INLINE std::string npu_devices::soc() const { return state_->library->soc(); }
QLIB_INLINE std::size_t npu_devices::size() const { return state_->ids.size(); }
QLIB_INLINE status npu_devices::shutdown() { return state_->library->shutdown(); }

QLIB_INLINE result<npu_self_test> test_npu_devices(std::string_view devices) {
  const auto ids = ascend::parse_devices(devices);
  if (!ids) return ids.error();
  auto library = detail::open_devices(*ids);
  if (!library) return std::move(library).error();
  npu_self_test out{.text = {}, .json = "[", .passed = true};
  for (const int id : *ids) {
    const auto report = ascend::self_test(*library, id);
    if (!report) return report.error();
    out.text += (out.text.empty() ? "" : "\n") + to_text(*report);
    out.json += (out.json.size() > 1 ? "," : "") + to_json(*report);
    out.passed = out.passed && report->passed;
  }
  out.json += "]";
  if (status s = (*library)->shutdown(); !s) return std::move(s).error();
  return out;
}

QLIB_INLINE npu_presence find_npu() {
  auto library = ascend::library::open();
  if (!library) {
    error e = std::move(library).error();
    e.where.clear();  // the line begins with it
    return {false, e.text()};
  }
  const std::string text = (library->soc().empty() ? std::string{"unknown chip"} : library->soc()) + ", " + std::to_string(library->device_count()) +
                           (library->device_count() == 1 ? " device" : " devices");
  const bool any = library->device_count() > 0;
  (void)library->shutdown();
  return {any, text};
}

}  // namespace qlib::inline v0
