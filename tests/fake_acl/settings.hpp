#pragma once
// What the environment, or control.hpp, asks for.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fake_acl {

/// The n-th call of a function ("*": any, "task": a task of a device) fails with a code.
struct fault {
  std::string function;
  uint64_t nth = 0;
  int code = 0;
};

struct settings {
  std::string soc = "Ascend910B3";
  std::vector<int> devices{0};   ///< physical id of each logical device
  uint64_t memory = 2ull << 30;  ///< bytes a device
  std::vector<fault> faults;
  std::map<int, uint64_t> lost;  ///< logical device: the task at which it is lost, from 1
  uint64_t copy_ns_per_kib = 0;
  uint64_t compute_ns_per_kib = 0;  ///< of the bytes that the operands' views cover
  uint64_t task_us = 0;
  bool torch_histc = false;  ///< Histc computes bins as torch.histc does, to the last bit
  bool static_f16 = false;   ///< AscendQuant and AscendQuantV3 compute in fp16, ties away from zero
  bool abort = false;
  std::string report;  ///< file that gets the report when the process ends
};

/// Overrides by key, without the prefix QLIB_FAKE_ACL_.
using overrides = std::map<std::string, std::string>;

bool known_setting(const std::string& key);

/// Environment, then overrides. False and the offending key and value in `problem` if one cannot be read.
bool read_settings(const overrides& more, settings& out, std::string& problem);

}  // namespace fake_acl
