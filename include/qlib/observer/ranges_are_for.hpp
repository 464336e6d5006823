#pragma once
#include <qlib/core/quant_spec.hpp>

namespace qlib::inline v0 {

/// Tells an observer what its ranges will be solved for, before its `reset`. Only those that search with that arithmetic (mse) ask.
template <class O>
void ranges_are_for(O& observer, const quant_spec& spec) {
  if constexpr (requires { observer.ranges_are_for(spec); }) observer.ranges_are_for(spec);
}

}  // namespace qlib::inline v0
