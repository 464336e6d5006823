#pragma once
#include <qlib/model/linear_group.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/rotate.hpp>

namespace qlib::inline v0 {

namespace detail {

/// The plan has checked that there is one.
inline std::shared_ptr<const hadamard_rotation> hadamard_of(std::size_t size, std::size_t block, const rotation_stage& how, std::uint64_t salt) {
  rotation_options options;
  options.block_size = block;
  if (how.random_signs) options.seed = how.seed + salt;
  auto made = hadamard_rotation::make(size, options);
  return std::make_shared<const hadamard_rotation>(*std::move(made));
}

/// The bias of a linear whose outputs are rotated.
inline status rotate_bias(const parameter_source& source, const std::string& module, const rotation& r, model_folds& out) {
  const std::string name = module + ".bias";
  if (!source.contains(name)) return {};
  std::vector<float> bias;
  if (const std::vector<float>* before = out.vector(name)) bias = *before;
  else if (status s = read_constants(source, name, 0, bias); !s) return s;
  fold(r, {bias.data(), bias.size(), 1});
  out.vectors[name] = std::move(bias);
  return {};
}

}  // namespace detail

QLIB_INLINE std::shared_ptr<const hadamard_rotation> residual_rotation(const planned_rotation& plan) {
  return detail::hadamard_of(plan.stream.width, plan.how.block_size, plan.how, 0);
}

QLIB_INLINE status rotate(const planned_rotation& plan, const parameter_source& source, model_folds& out) {
  const residual_stream& stream = plan.stream;
  if (plan.how.residual) {
    const auto matrix = residual_rotation(plan);
    for (const residual_stream::norm& n : stream.norms) {
      const std::string name = n.name + ".weight";
      std::vector<float> gain;
      if (status s = read_constants(source, name, n.one_plus ? 1.0f : 0.0f, gain); !s) return s;
      for (const std::string& reader : n.readers) {
        out.matrices[reader].push_back(scaling{gain, {}});
        out.matrices[reader].push_back(rotation{matrix});
      }
      out.vectors[name].assign(stream.width, n.one_plus ? 0.0f : 1.0f);
    }
    out.matrices[stream.embedding].push_back(rotation{matrix});
    for (const std::string& writer : stream.writers) {
      const rotation r{matrix, true};
      out.matrices[writer].push_back(r);
      if (status s = detail::rotate_bias(source, writer, r, out); !s) return s;
    }
  }
  if (!plan.how.heads) return {};
  for (const residual_stream::values& v : stream.heads) {
    const auto shape = source.shape(v.graph.targets.front() + ".weight");
    rotation of_source{detail::hadamard_of(v.graph.channels.rows, v.head_dim, plan.how, 1), true};
    for (std::size_t run = 0; run < v.graph.channels.count; ++run)
      of_source.runs.emplace_back(v.graph.channels.first + run * v.graph.channels.stride, v.graph.channels.rows);
    out.matrices[v.graph.source].push_back(of_source);
    if (status s = detail::rotate_bias(source, v.graph.source, of_source, out); !s) return s;
    out.matrices[v.graph.targets.front()].push_back(rotation{detail::hadamard_of((*shape)[1], v.head_dim, plan.how, 1)});
  }
  return {};
}

}  // namespace qlib::inline v0
