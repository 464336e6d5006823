#pragma once
#include "stream.hpp"

namespace fake_acl {

struct event : object {
  const char* kind() const override { return "event"; }
  int device = 0;
  bool orders = true;  ///< may be waited for by a stream
  bool times = true;
  std::shared_ptr<mark> last;  ///< of the last record
};

}  // namespace fake_acl
