// Eigen's product for gemm_bench, in a unit of its own: Eigen chooses its instruction set at compile time (-march=native here), and shares
// no inline code with the other units this way.
#include <Eigen/Core>

#include <cstddef>

void eigen_multiply(const float* x, const float* w, float* y, std::size_t m, std::size_t n, std::size_t k, std::size_t threads) {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto index = [](std::size_t i) { return static_cast<Eigen::Index>(i); };
  Eigen::setNbThreads(static_cast<int>(threads));
  Eigen::Map<matrix>{y, index(m), index(n)}.noalias() =
      Eigen::Map<const matrix>{x, index(m), index(k)} * Eigen::Map<const matrix>{w, index(n), index(k)}.transpose();
}
