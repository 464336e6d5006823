// Each path of each operation does it alone, when those before it are refused, and the chips take the paths that their tables allow.
#include "../conformance/matrices.hpp"
#include "ascend_fake.hpp"

#include <qlib/backend/ascend/self_test.hpp>

#include <doctest/doctest.h>

#include <algorithm>

namespace {

using namespace qlib;
using ascend_test::fake;

/// The report of a self-test: it runs all operations, and compares all results.
ascend::self_test_report report_with(const char* refused, const char* chip = "Ascend910B3", const char* variant = "new") {
  fake f{{{"SOC", chip}}, variant};
  // Two paths may call one op: it is refused to both of them, for each element type.
  std::string faults;
  for (std::string_view rest = refused; !rest.empty();) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    for (int n = 1; n <= 200; ++n)
      faults +=
          (faults.empty() ? "" : ";") + std::string{"aclnn"} + std::string{rest.substr(0, end)} + "GetWorkspaceSize:" + std::to_string(n) + ":561003";
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (!faults.empty()) f.set("FAIL", faults);
  const auto lib = f.load();
  auto r = ascend::self_test(lib, 0);
  REQUIRE_MESSAGE(r, r.error().text());
  CHECK(lib->shutdown());
  return *std::move(r);
}

/// The path that the first operation with this name took.
std::string path_of(const ascend::self_test_report& r, std::string_view operation, std::string_view type) {
  for (const auto& t : r.operations)
    if (t.operation.starts_with(operation) && t.type == type) return t.path;
  return "?";
}

}  // namespace

TEST_CASE("Ascend: each path does its operation when those before it are refused") {
  struct row {
    const char *refused, *operation, *type, *path;
  };
  for (const row& r : {row{"Aminmax", "ranges of rows", "F32", "Amin + Amax"},
                       row{"Aminmax", "ranges of columns", "BF16", "Amin + Amax over rows"},
                       row{"Aminmax Amax", "column_absmax", "F16", "cpu"},
                       row{"AscendQuantV3", "quantize rows", "F32", "AscendQuant, transposed view"},
                       row{"AscendQuantV3", "quantize columns", "F32", "AscendQuant, a scale a column"},
                       row{"AscendQuantV3 AscendQuant", "quantize groups", "BF16", "Mul + Add + Round + Clamp + Cast"},
                       row{"AscendQuantV3 AscendQuant", "quantize columns, zero", "F16", "Mul + Add + Round + Clamp + Cast"},
                       row{"AscendQuantV3 AscendQuant Round", "quantize rows", "F32", "cpu"},
                       row{"Cast", "dequantize", "I8", "cpu"},
                       row{"InplaceMul", "scale_rows", "F32", "Mul"},
                       row{"InplaceMul Mul", "scale_columns", "F32", "cpu"},
                       row{"DynamicQuant", "quantize_per_token", "BF16", "DynamicQuantV2"},
                       row{"DynamicQuant DynamicQuantV2", "quantize_per_token", "F16", "Aminmax; AscendQuantV3; ranges, then quantize; Cast to f32"},
                       row{"QuantMatmulV5", "int8_matmul", "I8", "QuantMatmulV4"},
                       row{"QuantMatmulV5 QuantMatmulV4", "int8_matmul", "I8", "QuantMatmulV3"},
                       row{"QuantMatmulV5 QuantMatmulV4 QuantMatmulV3", "int8_matmul", "I8", "cpu"},
                       row{"WeightQuantBatchMatmulV3", "weight_only_matmul", "BF16", "WeightQuantBatchMatmulV2"},
                       row{"WeightQuantBatchMatmulV3 WeightQuantBatchMatmulV2", "weight_only_matmul, rows", "F16", "AscendAntiQuant + Mm"},
                       row{"WeightQuantBatchMatmulV3 WeightQuantBatchMatmulV2", "weight_only_matmul, groups", "BF16", "AscendAntiQuant + Mm"},
                       row{"WeightQuantBatchMatmulV3 WeightQuantBatchMatmulV2 Mm", "weight_only_matmul", "F32", "cpu"}}) {
    const ascend::self_test_report report = report_with(r.refused);
    INFO(std::string{r.refused}, "\n", to_text(report));
    CHECK(report.passed);
    CHECK(path_of(report, r.operation, r.type) == r.path);
  }
}

TEST_CASE("Ascend: 310P multiplies codes by each version of the op, and by the CPU at last") {
  struct row {
    const char *refused, *path;
  };
  for (const row& r :
       {row{"QuantMatmulV5", "QuantMatmulV4 to f16, FRACTAL_NZ"}, row{"QuantMatmulV5 QuantMatmulV4", "QuantMatmulV3 to f16, 64-bit scale"},
        row{"QuantMatmulV5 QuantMatmulV4 QuantMatmulV3", "cpu"}}) {
    const ascend::self_test_report report = report_with(r.refused, "Ascend310P3");
    INFO(std::string{r.refused}, "\n", to_text(report));
    CHECK(report.passed);
    CHECK(path_of(report, "int8_matmul", "I8") == r.path);
  }
}

TEST_CASE("Ascend: each chip takes the paths of its table") {
  struct row {
    const char *chip, *variant, *quantize, *per_token, *product, *weight_only;
  };
  for (const row& r :
       {row{"Ascend910B3", "new", "AscendQuantV3", "DynamicQuant", "QuantMatmulV5", "WeightQuantBatchMatmulV3"},
        row{"Ascend910_9391", "new", "AscendQuantV3", "DynamicQuant", "QuantMatmulV5", "WeightQuantBatchMatmulV3"},
        row{"Ascend950PR_9589", "new", "AscendQuantV3", "DynamicQuant", "QuantMatmulV5", "WeightQuantBatchMatmulV3"},
        row{"Ascend310P3", "new", "AscendQuantV3, transposed view", "DynamicQuant", "QuantMatmulV5 to f16, FRACTAL_NZ", "WeightQuantBatchMatmulV2"},
        row{"Ascend910A", "new", "Mul + Add + Round + Clamp + Cast", "DynamicQuant", "cpu", "cpu"},
        row{"Ascend310B1", "new", "cpu", "cpu; cpu; ranges, then quantize", "cpu", "cpu"},
        row{"Ascend910B3", "old", "AscendQuant, transposed view", "DynamicQuant", "QuantMatmulV4", "WeightQuantBatchMatmulV2"},
        row{"Ascend310P3", "old", "AscendQuant, transposed view", "DynamicQuant", "QuantMatmulV4 to f16, FRACTAL_NZ", "WeightQuantBatchMatmulV2"}}) {
    const ascend::self_test_report report = report_with("", r.chip, r.variant);
    INFO(std::string{r.variant}, "\n", to_text(report));
    CHECK(report.passed);
    CHECK(path_of(report, "quantize rows", "F32") == r.quantize);
    CHECK(path_of(report, "quantize_per_token", "F16") == r.per_token);
    CHECK(path_of(report, "int8_matmul", "I8") == r.product);
    CHECK(path_of(report, "weight_only_matmul", "F16") == r.weight_only);
    CHECK(path_of(report, "histogram", "F32") == "cpu");  // the fake's bins are not torch's to the last bit
  }
}

TEST_CASE("Ascend: 310P quantizes by the CPU where its quantizing ops are refused: Round is not documented for it") {
  const ascend::self_test_report report = report_with("AscendQuantV3 AscendQuant", "Ascend310P3");
  INFO(to_text(report));
  CHECK(report.passed);
  CHECK(path_of(report, "quantize rows", "F32") == "cpu");
  const auto elementwise =
      std::find_if(report.paths.begin(), report.paths.end(), [](const auto& t) { return t.path.starts_with("Mul + Add + Round"); });
  REQUIRE(elementwise != report.paths.end());
  CHECK(elementwise->outcome == "not for this chip");
}

TEST_CASE("Ascend: AscendAntiQuant works on every chip that has it") {
  for (const char* chip : {"Ascend910B3", "Ascend910_9391", "Ascend310P3"}) {
    const ascend::self_test_report report = report_with("WeightQuantBatchMatmulV3 WeightQuantBatchMatmulV2", chip);
    INFO(chip, "\n", to_text(report));
    CHECK(report.passed);
    CHECK(path_of(report, "weight_only_matmul, rows", "F16") == "AscendAntiQuant + Mm");
    CHECK(path_of(report, "weight_only_matmul, groups", "F16") == "AscendAntiQuant + Mm");
    CHECK(path_of(report, "weight_only_matmul, groups", "BF16") == "AscendAntiQuant + Mm");
  }
}
