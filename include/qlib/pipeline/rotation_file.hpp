/// The rotation of the residual stream as a file: what a draft model needs to read the hidden states of a rotated one.
#pragma once
#include <qlib/core/status.hpp>

#include <cstddef>
#include <string>

namespace qlib::inline v0 {

struct planned_file;
struct planned_rotation;

/// One tensor, `global_rotation`, F32 [width, width]: hidden states are those of the source times it.
result<planned_file> plan_rotation_file(std::string name, std::size_t width);

/// Writes `file` below `folder`, strip by strip. Its own folder exists.
status write_rotation(const planned_rotation& plan, const planned_file& file, const std::string& folder);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/pipeline/rotation_file.ipp>
#endif
