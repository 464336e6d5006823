/// Which experts a token goes to, and with what weight.
#pragma once
#include <qlib/core/view.hpp>
#include <qlib/model/description.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace qlib::inline v0 {

/// Chooses routing.top_k experts a row, the best first; of equal ones the lowest index. Experts of groups that were not chosen never
/// win. `bias` is empty or has an entry an expert; it changes what is chosen, not the weights.
/// logits: [tokens, experts] f32; chosen and weights: [tokens, top_k].
void route(const router_description& routing, matrix_view<const float> logits, std::span<const float> bias, matrix_view<std::uint32_t> chosen,
           matrix_view<float> weights);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/router.ipp>
#endif
