#pragma once
#include <qlib/format/verify_findings.hpp>

#include <map>
#include <string>

namespace qlib::inline v0::detail {

/// The string entries of quant_model_description.json: tensor names and the scalar keys.
struct ascend_description {
  std::map<std::string, std::string, std::less<>> entries;  ///< names with a dot: tensors and "<attn>.quant_type"
  std::map<std::string, std::string, std::less<>> keys;     ///< the rest: "model_quant_type", "kv_cache_type", ...
  std::optional<std::uint64_t> group_size;
  bool version_1 = false;  ///< "version" is there

  const std::string* type_of(std::string_view tensor) const {
    const auto it = entries.find(tensor);
    return it == entries.end() ? nullptr : &it->second;
  }
};

/// "W4A4_FLATQUANT_DYNAMIC" is W4A4_DYNAMIC inside a FLATQUANT wrapper; "W8A8" has none.
struct ascend_type {
  std::string base, wrapper;  ///< wrapper: "", "FLATQUANT" or "SVD"
  bool known = false;
};
ascend_type ascend_type_of(std::string_view text);

/// Rules R1 ... R15 and AV1-*: description, index, fused shards, key-value cache.
void verify_ascend_v1(findings& f);

/// The tensors of one quantized linear: names, dtypes, shapes, entries, and the values of the small ones.
void verify_ascend_linear(findings& f, const ascend_description& d, const std::string& module, const std::string& type, dtype run_dtype);

}  // namespace qlib::inline v0::detail

#if !defined(QLIB_COMPILED)
#include <qlib/format/verify_ascend_linear.ipp>
#include <qlib/format/verify_ascend_v1.ipp>
#endif
