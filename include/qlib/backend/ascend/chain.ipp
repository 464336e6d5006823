#pragma once
#include <qlib/backend/ascend/chain.hpp>

namespace qlib::inline v0::ascend {

QLIB_INLINE std::optional<bool> prove_path(lane& l, const chain& c, path p, failure& why) {
  capability& known = l.known();
  if (const std::optional<bool> works = known.verdict(p, c.type)) return works;
  const std::lock_guard lock{known.testing()};
  if (const std::optional<bool> works = known.verdict(p, c.type)) return works;  // another lane tested it meanwhile
  bool equal = false;
  const attempt a = c.test(l, p, c.type, equal);
  if (a.error) {
    why = a.error;
    recover(l, c, p, a.error);
    return std::nullopt;
  }
  if (!equal)
    l.log(l.name() + ": " + std::string{name_of(c.operation)} + ": " + std::string{name_of(p)} +
          " does not give the scalar backend's result: it is not used");
  known.set_verdict(p, c.type, equal);
  return equal;
}

QLIB_INLINE path choose_path(lane& l, const chain& c) {
  for (const path p : c.paths) {
    if (!has_functions(p, l.api()) || !is_allowed(p, l.known().family(), c.type) || l.known().refuses(p, c.type, c.width)) continue;
    failure why;
    const std::optional<bool> works = prove_path(l, c, p, why);
    if (l.lost()) return path::cpu;
    if (works && *works) return p;
  }
  return path::cpu;
}

QLIB_INLINE bool recover(lane& l, const chain& c, path tried, const failure& f) {
  if (!f.refused && f.kind != failure_class::out_of_memory) {
    l.lose(f);
    return false;
  }
  l.drain();
  if (l.lost()) return false;
  if (f.kind == failure_class::out_of_memory) return l.shrink();
  capability& known = l.known();
  const bool one_width = known.verdict(tried, c.type).value_or(false) && known.add_refused(tried, c.type, c.width);
  if (!one_width) known.set_verdict(tried, c.type, false);
  l.log(l.name() + ": " + std::string{name_of(c.operation)} + ": " + f.line() + ": " + std::string{name_of(tried)} + " is not used " +
        (one_width ? "for rows of " + std::to_string(c.width) : "any more"));
  return true;
}

}  // namespace qlib::inline v0::ascend
