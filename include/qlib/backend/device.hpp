#pragma once
#include <qlib/backend/ascend/device_list.hpp>
#include <qlib/backend/native.hpp>

#include <string>
#include <string_view>

namespace qlib::inline v0 {

/// The backend of a `--device` that is a CPU: "cpu" is the best that this CPU runs, "cpu:<isa>" one by name. Errors list the choices, NPUs too,
/// which pipeline/ascend/npu_workers.hpp opens.
///
/// A template because native_backend is another type header-only than compiled, and a program may hold units of both kinds.
template <class Native = native_backend>
result<Native> backend_for_device(std::string_view device) {
  if (device == "cpu") return Native{};
  if (ascend::names_npus(device))
    return error{.where = "--device", .subject = std::string{device}, .problem = "is no CPU", .remedy = "npu_devices::open gives its workers"};
  if (!device.starts_with("cpu:"))
    return error{
        .where = "--device", .subject = std::string{device}, .problem = "is not a device", .remedy = "use cpu, cpu:<isa>, npu or npu:0,1,2,3"};
  const std::string_view isa = device.substr(4);
#if defined(QLIB_COMPILED)
  auto kernels = kernels_for(isa);
  if (!kernels) return std::move(kernels).error();
  return Native{**kernels};
#else
  if (isa == "scalar") return Native{};
  return error{.where = "--device", .subject = std::string{device}, .problem = "only the scalar kernels are built", .remedy = "link qlib::compiled"};
#endif
}

}  // namespace qlib::inline v0
