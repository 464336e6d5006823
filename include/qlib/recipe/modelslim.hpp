/// msModelSlim's recipe language, `apiversion: modelslim_v1`: a list of processors, of which `linear_quant` and `group` are built.
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
