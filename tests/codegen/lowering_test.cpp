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
  CHECK_FALSE(is_served(FormatId::kIQ3_S));
  CHECK_THROWS_WITH(get_lowering(FormatId::kIQ3_S, make_cuda_target(86)),
                    Catch::Contains("iq3_s") && Catch::Contains("q4_K"));
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
