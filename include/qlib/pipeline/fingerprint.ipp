/// What a journal belongs to: everything that decides the bytes of a run. Part of plan.ipp and run.ipp.
#pragma once
#include <qlib/io/checksum.hpp>
#include <qlib/pipeline/calibration.hpp>
#include <qlib/pipeline/plan.hpp>

#include <filesystem>
#include <string>
#include <string_view>

namespace qlib::inline v0::detail {

inline void add_text(checksum64& sum, std::string_view text) {
  const std::uint64_t n = text.size();
  sum.update(std::as_bytes(std::span{&n, 1}));
  sum.update(std::as_bytes(std::span{text}));
}

/// Of a plan whatever its source is called.
inline checksum64 sum_of(const quantization_plan& plan, compat follow) {
  checksum64 sum;
  const auto add = [&](std::string_view text) { add_text(sum, text); };
  for (const planned_file& f : plan.files) add(f.name), add(f.header);
  if (plan.rotation_file) add(plan.rotation_file->name), add(plan.rotation_file->header);
  for (const document& d : plan.documents) add(d.name), add(d.text);
  const auto add_policy = [&](const policy_choice& p) {
    add(p.name);
    for (const auto& [key, value] : p.options) add(key), add(value);
  };
  for (const work_item& i : plan.items) add(i.name), add_policy(i.observer), add_policy(i.rounder);
  for (const calibrated_operand& o : plan.operands) add(o.name), add_policy(o.observer);
  if (plan.rotation)
    add(std::to_string(plan.rotation->how.block_size) + "," + std::to_string(plan.rotation->how.seed) + "," +
        std::to_string(plan.rotation->how.random_signs) + std::to_string(plan.rotation->how.residual) + std::to_string(plan.rotation->how.heads));
  for (const planned_suppression& p : plan.suppressions) add(p.graph.source), add_policy(p.suppressor);
  add(std::to_string(static_cast<int>(follow)));
  return sum;
}

inline std::uint64_t digest_of(const quantization_plan& plan, compat follow) { return sum_of(plan, follow).value(); }

inline std::uint64_t fingerprint_of(const quantization_plan& plan, const checkpoint& source, compat follow) {
  checksum64 sum = sum_of(plan, follow);
  const auto add = [&](std::string_view text) { add_text(sum, text); };
  for (const safetensors_file& s : source.shards()) {
    std::error_code ignored;
    add(s.path());
    add(std::to_string(std::filesystem::file_size(s.path(), ignored)));
    add(std::to_string(std::filesystem::last_write_time(s.path(), ignored).time_since_epoch().count()));
  }
  return sum.value();
}

/// A journal belongs to one plan and to what calibration found for it.
inline std::uint64_t fingerprint_of(const quantization_plan& plan, const calibration* found) {
  if (!found) return plan.fingerprint;
  checksum64 sum;
  sum.update(std::as_bytes(std::span{&plan.fingerprint, 1}));
  for (const operand_parameters& o : found->operands) {
    sum.update(std::as_bytes(std::span{o.scales}));
    sum.update(std::as_bytes(std::span{o.zero_points}));
  }
  for (const auto& [name, steps] : found->folds.matrices) {
    sum.update(std::as_bytes(std::span{name}));
    for (const fold_step& step : steps)  // rotations are the plan's
      if (const auto* s = std::get_if<scaling>(&step))
        sum.update(std::as_bytes(std::span{s->columns})), sum.update(std::as_bytes(std::span{s->rows}));
      else if (const auto* c = std::get_if<clipping>(&step)) sum.update(std::as_bytes(std::span{c->steps}));
  }
  for (const auto& [name, values] : found->folds.vectors) {
    sum.update(std::as_bytes(std::span{name}));
    sum.update(std::as_bytes(std::span{values}));
  }
  return sum.value();
}

}  // namespace qlib::inline v0::detail
