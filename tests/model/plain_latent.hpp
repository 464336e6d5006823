/// The operands of absorbed latent attention by definition: f64, one product after the other, from the checkpoint's weights.
#pragma once
#include "golden_family.hpp"

namespace qlib_test {

/// A tensor as f64 with its extents; a vector is one row.
struct plain_matrix {
  std::size_t rows = 0, cols = 0;
  std::vector<double> values;

  const double* row(std::size_t r) const { return values.data() + r * cols; }
};

inline plain_matrix plain_tensor(const qlib::parameter_source& source, const std::string& name) {
  const auto shape = source.shape(name);
  REQUIRE_MESSAGE(shape, name);
  plain_matrix m;
  m.rows = shape->size() == 2 ? (*shape)[0] : 1;
  m.cols = shape->back();
  std::vector<float> values(m.rows * m.cols);
  REQUIRE(source.read(name, {values.data(), m.rows, m.cols}));
  m.values.assign(values.begin(), values.end());
  return m;
}

inline plain_matrix plain_norm(plain_matrix x, const plain_matrix& gain, double eps, std::size_t width) {
  plain_matrix y{x.rows, width, std::vector<double>(x.rows * width)};
  for (std::size_t r = 0; r < x.rows; ++r) {
    double squares = 0;
    for (std::size_t c = 0; c < width; ++c) squares += x.row(r)[c] * x.row(r)[c];
    for (std::size_t c = 0; c < width; ++c)
      y.values[r * width + c] = x.row(r)[c] / std::sqrt(squares / static_cast<double>(width) + eps) * gain.values[c];
  }
  return y;
}

inline plain_matrix plain_product(const plain_matrix& x, const plain_matrix& w) {
  REQUIRE(x.cols == w.cols);
  plain_matrix y{x.rows, w.rows, std::vector<double>(x.rows * w.rows)};
  for (std::size_t r = 0; r < x.rows; ++r)
    for (std::size_t n = 0; n < w.rows; ++n)
      for (std::size_t c = 0; c < x.cols; ++c) y.values[r * w.rows + n] += x.row(r)[c] * w.row(n)[c];
  return y;
}

struct plain_operands {
  plain_matrix query;   ///< [tokens, heads * kv_rank]
  plain_matrix latent;  ///< [tokens, kv_rank]
};

/// hidden: [tokens, hidden_size], what layer `layer` reads.
inline plain_operands plain_latent(const qlib::model_description& model, const qlib::parameter_source& source, std::size_t layer,
                                   const std::vector<float>& hidden) {
  const qlib::attention_description& a = model.attention;
  const qlib::latent_attention& l = *a.latent;
  const std::string prefix = model.layers[layer].prefix, attn = prefix + "self_attn.";
  const auto tensor = [&](const std::string& name) { return plain_tensor(source, name + ".weight"); };
  plain_matrix x{hidden.size() / model.hidden_size, model.hidden_size, {hidden.begin(), hidden.end()}};
  x = plain_norm(x, tensor(prefix + model.input_norm), model.eps, x.cols);
  plain_matrix q;
  if (l.query_rank)
    q = plain_product(plain_norm(plain_product(x, tensor(attn + "q_a_proj")), tensor(attn + "q_a_layernorm"), l.eps, l.query_rank),
                      tensor(attn + "q_b_proj"));
  else q = plain_product(x, tensor(attn + "q_proj"));
  plain_operands out;
  out.latent = plain_norm(plain_product(x, tensor(attn + "kv_a_proj_with_mqa")), tensor(attn + "kv_a_layernorm"), l.eps, l.kv_rank);
  const plain_matrix b = tensor(attn + "kv_b_proj");
  out.query = {x.rows, a.heads * l.kv_rank, std::vector<double>(x.rows * a.heads * l.kv_rank)};
  for (std::size_t t = 0; t < x.rows; ++t)
    for (std::size_t h = 0; h < a.heads; ++h)
      for (std::size_t d = 0; d < l.nope_dim; ++d)
        for (std::size_t c = 0; c < l.kv_rank; ++c)
          out.query.values[(t * a.heads + h) * l.kv_rank + c] += q.row(t)[h * a.head_dim + d] * b.row(h * (l.nope_dim + a.value_dim) + d)[c];
  return out;
}

inline std::vector<float> floats_of(const plain_matrix& m) { return {m.values.begin(), m.values.end()}; }

}  // namespace qlib_test
