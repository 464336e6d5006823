/// The lists of policies: the only place where a policy has to be named a second time. A policy that is listed here is tested by
/// tests/conformance/ and named in errors; a suppressor is also known to flags and recipes by its name. What peers call one of theirs beside that
/// (letters, modifiers, keys of options) is data of recipe/.
#pragma once
#include <qlib/observer/auto_mixed.hpp>
#include <qlib/observer/histogram.hpp>
#include <qlib/observer/minmax.hpp>
#include <qlib/observer/moving_average.hpp>
#include <qlib/observer/mse.hpp>
#include <qlib/observer/percentile.hpp>
#include <qlib/observer/recall_window.hpp>
#include <qlib/packer/fp8.hpp>
#include <qlib/packer/int4_columns.hpp>
#include <qlib/packer/int4_rows.hpp>
#include <qlib/packer/int8.hpp>
#include <qlib/packer/pack_quantized.hpp>
#include <qlib/rounder/rtn.hpp>
#include <qlib/suppressor/awq.hpp>
#include <qlib/suppressor/cbq_mask.hpp>
#include <qlib/suppressor/flex_awq_ssz.hpp>
#include <qlib/suppressor/flex_smooth.hpp>
#include <qlib/suppressor/iterative_smooth.hpp>
#include <qlib/suppressor/kv_smooth.hpp>
#include <qlib/suppressor/none.hpp>
#include <qlib/suppressor/outlier_suppression_lite.hpp>
#include <qlib/suppressor/smooth_quant.hpp>
#include <qlib/suppressor/threshold_smooth.hpp>

#include <optional>
#include <string_view>
#include <variant>
#include <vector>

namespace qlib::inline v0 {

template <class... Ts>
struct type_list {
  /// One of the types, chosen at run time. Stages are visited one at a time: a visit over several variants at once would compile
  /// the product of them (65 s and 4 MB where the sum takes 0.8 s and 20 KB).
  using any = std::variant<Ts...>;

  static std::vector<std::string_view> names() { return {Ts::name...}; }

  /// The policy with this name, default options; nothing if there is none.
  static std::optional<any> find(std::string_view name) {
    std::optional<any> found;
    (void)((Ts::name == name && (found.emplace(std::in_place_type<Ts>), true)) || ...);
    return found;
  }
};

namespace registry {
using observers = type_list<minmax_observer, moving_average_observer, histogram_observer, percentile_observer, mse_observer, recall_window_observer,
                            auto_mixed_observer>;
using suppressors = type_list<no_suppressor, smooth_quant, threshold_smooth, awq, iterative_smooth, cbq_mask, flex_smooth, flex_awq_ssz,
                              outlier_suppression_lite, kv_smooth>;
using rounders = type_list<rtn_rounder>;
using packers = type_list<int8_packer, int4_rows_packer, int4_columns_packer, pack_quantized_packer, fp8_packer>;
}  // namespace registry

}  // namespace qlib::inline v0
