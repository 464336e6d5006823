// outlier_model FROM TO: writes a checkpoint that computes what FROM computes, with outliers in the inputs of its linears.
#include "../tests/pipeline/outlier_model.hpp"

#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: outlier_model FROM TO\n");
    return 2;
  }
  const qlib::errors found = qlib_test::write_outlier_model(argv[1], argv[2]);
  for (const qlib::error& e : found) std::fprintf(stderr, "outlier_model: %s\n", e.text().c_str());
  return found.empty() ? 0 : 2;
}
