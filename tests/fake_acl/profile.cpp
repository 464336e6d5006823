#include "profile.hpp"

namespace fake_acl {
namespace {

bool starts(const std::string& name, const char* prefix) { return name.rfind(prefix, 0) == 0; }

unsigned family_of(const std::string& name, bool& known) {
  known = true;
  if (starts(name, "Ascend310P")) return family::p310;
  if (starts(name, "Ascend310B")) return family::b310;
  if (starts(name, "Ascend950")) return family::a950;
  if (starts(name, "Ascend910_93")) return family::a2;
  if (starts(name, "Ascend910B") && name.size() > 10 && name[10] >= '1' && name[10] <= '4') return family::a2;
  if (name == "Ascend910" || name == "Ascend910A" || name == "Ascend910B" || starts(name, "Ascend910Pro")) return family::gen1;
  known = false;
  return family::a2;
}

}  // namespace

soc_profile profile_of(const std::string& soc) {
  soc_profile p;
  p.name = soc;
  p.family = family_of(soc, p.known);
  switch (p.family) {
    case family::gen1:
      p.arch = 1001, p.ai_cores = 32, p.cube_cores = 0, p.vector_cores = 0, p.ub_bytes = 262144, p.max_streams = 2048, p.bf16 = false;
      break;
    case family::p310:
      p.arch = 2002, p.ai_cores = 8, p.cube_cores = 0, p.vector_cores = 7, p.ub_bytes = 262144, p.max_streams = 1024, p.bf16 = false, p.hbm = false;
      break;
    case family::b310:
      p.arch = 3002, p.ai_cores = 1, p.cube_cores = 1, p.vector_cores = 1, p.ub_bytes = 253952, p.max_streams = 512, p.hbm = false;
      break;
    case family::a950:
      p.arch = 3510, p.ai_cores = 32, p.cube_cores = 32, p.vector_cores = 64, p.ub_bytes = 253952;
      break;
    default:
      if (p.known && (starts(soc, "Ascend910B1") || starts(soc, "Ascend910B2") || starts(soc, "Ascend910_939") || starts(soc, "Ascend910_938"))) {
        p.ai_cores = p.cube_cores = 24, p.vector_cores = 48;
      }
  }
  return p;
}

}  // namespace fake_acl
