// outlier_model FROM TO: writes a checkpoint that computes what FROM computes, with outliers in the inputs of its linears.
// outlier_model FROM TO FACTOR: a model like FROM whose residual stream has one channel of FACTOR times the root mean square of an embedding's.
#include "../tests/pipeline/outlier_model.hpp"

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  const float factor = argc == 4 ? std::strtof(argv[3], nullptr) : 0;
  if (argc != 3 && !(factor > 0)) {
    std::fprintf(stderr, "usage: outlier_model FROM TO [FACTOR]\n");
    return 2;
  }
  const qlib::errors found =
      argc == 4 ? qlib_test::write_residual_outlier_model(argv[1], argv[2], factor) : qlib_test::write_outlier_model(argv[1], argv[2]);
  for (const qlib::error& e : found) std::fprintf(stderr, "outlier_model: %s\n", e.text().c_str());
  return found.empty() ? 0 : 2;
}
