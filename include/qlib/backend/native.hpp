#pragma once
#include <qlib/backend/scalar.hpp>

namespace qlib::inline v0 {
using native_backend = scalar_backend;
}  // namespace qlib::inline v0
