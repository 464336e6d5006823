/// msModelSlim's recipe language, `apiversion: modelslim_v1`: a list of processors. Built are `linear_quant`, `dynamic_cache`, `fa3_quant`, `group`,
/// `quarot`, and every outlier suppressor by its name in the registry, those that msModelSlim has with its keys, others with all their options.
#pragma once
#include <qlib/recipe/recipe.hpp>
#include <qlib/recipe/yaml_tree.hpp>

namespace qlib::inline v0::detail {

/// Every `linear_quant` becomes one stage with globs, in the order of the file; a `group` is replaced by its configs.
///
/// msModelSlim visits the decoder layers only, so "lm_head" is added to what the stages ignore. `metadata`, `runner` and `dataset`
/// are checked and have no effect on a data-free result.
void read_modelslim(const yaml_reader& in, const yaml_field& document, recipe& out);

}  // namespace qlib::inline v0::detail

#if !defined(QLIB_COMPILED)
#include <qlib/recipe/modelslim.ipp>
#endif
