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
  CHECK(get_lowering(FormatId::kFp8E4M3Fnuz, make_cuda_target(61)).routine == "fp8_e4m3fnuz_f32");
  CHECK(get_lowering(FormatId::kFp8E5M2Fnuz, make_cuda_target(61)).routine == "fp8_e5m2fnuz_f32");
}

TEST_CASE(
    "the fnuz formats are decoded in software everywhere, e5m2fnuz through bf16 where it is") {
  for (const CudaFacts& facts : all_cuda_facts()) {
    const Target target = make_native_cuda_target(facts.sm);
    for (FormatId format : {FormatId::kFp8E4M3Fnuz, FormatId::kFp8E5M2Fnuz}) {
      const Lowering lowering = get_lowering(format, target);
      INFO(target.name() << " " << get_format(format).name << ": " << lowering.summary);
      CHECK(lowering.kind == LoweringKind::kSoftware);
      CHECK_THAT(lowering.reason, Catch::StartsWith("no GPU has a cvt from e"));
    }
    const std::string routine = get_lowering(FormatId::kFp8E5M2Fnuz, target).routine;
    CHECK(routine == (facts.sm >= 80 ? "fp8_e5m2fnuz_bf16x2" : "fp8_e5m2fnuz_f32"));
  }
  CHECK_THAT(get_lowering(FormatId::kFp8E5M2Fnuz, make_cuda_target(75)).reason,
             Catch::EndsWith("no bf16 arithmetic"));
}

TEST_CASE("a format that nothing computes with is refused by name") {
  CHECK_FALSE(is_served(FormatId::kC64));
  CHECK_THROWS_WITH(get_lowering(FormatId::kC64, make_cuda_target(86)),
                    Catch::Contains("c64") && Catch::Contains("any but bool"));
}

TEST_CASE("a scan for NaN codes allows shorter routines, and says so") {
  for (int sm : {61, 86}) {
    const Lowering any = get_lowering(FormatId::kFp8E4M3, make_cuda_target(sm));
    const Lowering finite = get_lowering(FormatId::kFp8E4M3, make_cuda_target(sm), true);
    CHECK(finite.routine == any.routine + "_finite");
    CHECK(finite.instructions_per_4 < any.instructions_per_4);
    CHECK_THAT(finite.summary, Catch::Contains("no NaN codes (scanned)"));
    for (FormatId format : {FormatId::kFp8E4M3Fnuz, FormatId::kFp8E5M2Fnuz}) {
      const Lowering fnuz = get_lowering(format, make_cuda_target(sm), true);
      CHECK(fnuz.routine == get_lowering(format, make_cuda_target(sm)).routine + "_finite");
      CHECK_THAT(fnuz.summary, Catch::Contains("no NaN codes (scanned)"));
    }
  }
  CHECK(get_lowering(FormatId::kFp8E5M2, make_cuda_target(86), true).routine == "fp8_e5m2_f16x2");
  CHECK(get_lowering(FormatId::kFp8E4M3, make_cuda_target(89), true).routine == "fp8_e4m3_cvt");
}

TEST_CASE(
    "FP4 and FP6 use the hardware on Blackwell's targets with a suffix, and software elsewhere") {
  const std::pair<FormatId, std::string> formats[] = {{FormatId::kMxfp4, "e2m1"},
                                                      {FormatId::kNvfp4, "e2m1"},
                                                      {FormatId::kMxfp6E2M3, "e2m3"},
                                                      {FormatId::kMxfp6E3M2, "e3m2"}};
  for (const auto& [format, element] : formats) {
    INFO(get_format(format).name);
    for (const auto& [sm, suffix] : {std::pair{100, "a"},
                                     {100, "f"},
                                     {103, "a"},
                                     {110, "a"},
                                     {120, "a"},
                                     {120, "f"},
                                     {121, "a"}}) {
      const Lowering lowering = get_lowering(format, make_cuda_target(sm, suffix));
      CHECK(lowering.kind == LoweringKind::kHardware);
      CHECK(lowering.reason == "has a cvt from " + element);
      CHECK(lowering.summary == "hardware cvt to f16x2, and of the block's scale");
    }
    for (const Target& target : {make_cuda_target(61), make_cuda_target(86),
                                 make_cuda_target(90, "a"), make_cuda_target(120)}) {
      const Lowering lowering = get_lowering(format, target);
      CHECK(lowering.kind == LoweringKind::kSoftware);
      CHECK(lowering.reason == "no cvt from " + element);
      CHECK_THAT(lowering.summary, Catch::StartsWith("software, exact: "));
      CHECK(lowering.instructions_per_4 >
            get_lowering(format, make_cuda_target(120, "a")).instructions_per_4);
    }
  }
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
