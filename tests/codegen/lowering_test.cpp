// How each target converts each format.
#include "codegen/lowering.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/support/kernel_cases.h"

namespace ktjit::codegen {

TEST_CASE("e4m3 and e5m2 use the hardware from sm_89 up, and software below") {
  for (const CudaFacts& facts : all_cuda_facts()) {
    const Target target = make_cuda_target(facts.sm);
    for (FormatId format : {FormatId::kFp8E4M3, FormatId::kFp8E5M2}) {
      const Lowering lowering = get_lowering(format, target);
      INFO(target.name() << " " << get_format(format).name << ": " << lowering.summary);
      CHECK((lowering.kind == LoweringKind::kHardware) == (facts.sm >= 89));
      CHECK((lowering.summary.find("software, exact") == 0) == (facts.sm < 89));
      CHECK(lowering.instructions_per_4 > 0);
      CHECK_FALSE(lowering.reason.empty());
    }
    CHECK(get_lowering(FormatId::kFp8E4B15, target).kind == LoweringKind::kSoftware);
  }
}

TEST_CASE("sm_61 avoids f16 arithmetic") {
  CHECK(get_lowering(FormatId::kFp8E4M3, make_cuda_target(61)).routine == "fp8_e4m3_f32");
  CHECK(get_lowering(FormatId::kFp8E4M3, make_cuda_target(60)).routine == "fp8_e4m3_f16x2");
}

TEST_CASE("a format without kernels is refused by name, with the ones that have some") {
  CHECK_FALSE(is_served(FormatId::kC64));
  CHECK_THROWS_WITH(get_lowering(FormatId::kC64, make_cuda_target(86)),
                    Catch::Contains("c64") && Catch::Contains("q4_K"));
}

TEST_CASE("a scan for NaN codes allows shorter routines, and says so") {
  for (int sm : {61, 86}) {
    const Lowering any = get_lowering(FormatId::kFp8E4M3, make_cuda_target(sm));
    const Lowering finite = get_lowering(FormatId::kFp8E4M3, make_cuda_target(sm), true);
    CHECK(finite.routine == any.routine + "_finite");
    CHECK(finite.instructions_per_4 < any.instructions_per_4);
    CHECK_THAT(finite.summary, Catch::Contains("no NaN codes (scanned)"));
  }
  CHECK(get_lowering(FormatId::kFp8E5M2, make_cuda_target(86), true).routine == "fp8_e5m2_f16x2");
  CHECK(get_lowering(FormatId::kFp8E4M3, make_cuda_target(89), true).routine == "fp8_e4m3_cvt");
}

TEST_CASE("FP4 says where the hardware has a conversion that isn't used") {
  const auto reason = [](const Target& target) {
    return get_lowering(FormatId::kMxfp4, target).reason;
  };
  CHECK(reason(make_cuda_target(86)) == "no cvt from e2m1");
  CHECK(reason(make_cuda_target(120)) == "no cvt from e2m1");
  CHECK(reason(make_cuda_target(120, "a")) == "its cvt from e2m1 is not used yet");
}

TEST_CASE("every served format has a lowering on every target") {
  for (FormatId format : test::served_formats()) {
    for (const CudaFacts& facts : all_cuda_facts()) {
      CHECK_FALSE(get_lowering(format, make_cuda_target(facts.sm)).summary.empty());
    }
    CHECK_FALSE(get_lowering(format, test::avx2_target()).summary.empty());
  }
}

}  // namespace ktjit::codegen
