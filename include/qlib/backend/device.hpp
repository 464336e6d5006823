#pragma once
#include <qlib/backend/native.hpp>

#include <string>
#include <string_view>

namespace qlib::inline v0 {

/// The backend of a `--device`: "cpu" is the best that this CPU runs, "cpu:<isa>" one by name. Errors list the choices.
inline result<native_backend> backend_for_device(std::string_view device) {
  if (device == "cpu") return native_backend{};
  if (!device.starts_with("cpu:"))
    return error{.where = "--device", .subject = std::string{device}, .problem = "is not built", .remedy = "use cpu or cpu:<isa>"};
  const std::string_view isa = device.substr(4);
#if defined(QLIB_COMPILED)
  auto kernels = kernels_for(isa);
  if (!kernels) return std::move(kernels).error();
  return native_backend{**kernels};
#else
  if (isa == "scalar") return native_backend{};
  return error{.where = "--device", .subject = std::string{device}, .problem = "only the scalar kernels are built", .remedy = "link qlib::compiled"};
#endif
}

}  // namespace qlib::inline v0
