// Names of targets, what they are refused for, and the fact table against itself.
#include "core/target.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <string>

#include "core/error.h"

namespace ktjit {
namespace {

const std::vector<std::string> kHostFeatures = {"fma", "avx2", "f16c"};

Target parse(std::string_view name) { return parse_target(name, kHostFeatures); }

std::string refusal_of(std::string_view name) {
  try {
    parse(name);
  } catch (const SpecError& error) {
    CHECK(error.field() == "target");
    return error.what();
  }
  return "accepted";
}

TEST_CASE("every CUDA target of the table parses to itself, with each of its suffixes") {
  for (const CudaFacts& facts : all_cuda_facts()) {
    std::vector<std::string> suffixes = {""};
    for (char suffix : facts.suffixes) suffixes.emplace_back(1, suffix);
    for (const std::string& suffix : suffixes) {
      const std::string name = "sm_" + std::to_string(facts.sm) + suffix;
      INFO(name);
      const Target target = parse(name);
      CHECK(target.is_cuda());
      CHECK_FALSE(target.is_cpu());
      CHECK(target.sm == facts.sm);
      CHECK(target.suffix == suffix);
      CHECK(target.name() == name);
      CHECK(target.virtual_arch() == "compute_" + std::to_string(facts.sm) + suffix);
      CHECK(target == make_cuda_target(facts.sm, suffix));
      CHECK(&get_cuda_facts(target) == &facts);
    }
  }
}

TEST_CASE("the CUDA table goes from Pascal to Blackwell, each chip once, in order") {
  std::vector<int> numbers;
  for (const CudaFacts& facts : all_cuda_facts()) numbers.push_back(facts.sm);
  CHECK(numbers ==
        std::vector<int>{60, 61, 70, 72, 75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121});
}

TEST_CASE("facts that codegen decides by follow the chips' generations") {
  for (const CudaFacts& facts : all_cuda_facts()) {
    INFO(facts.sm);
    CHECK(facts.fp8_cvt == (facts.sm >= 89));
    CHECK(facts.bf16_cvt == (facts.sm >= 80));
    CHECK(facts.dp4a == (facts.sm >= 61));
    CHECK(facts.fast_f16 == (facts.sm != 61));
    CHECK(facts.mx_cvt_with_a == (facts.sm >= 100));
    CHECK((facts.mma == "none") == (facts.sm < 70));
    CHECK(facts.suffixes == (facts.sm >= 100 ? "af" : facts.sm == 90 ? "a" : ""));
    CHECK(facts.smem_per_cta_bytes >= 48 * 1024);
    CHECK(facts.smem_per_cta_bytes <= 227 * 1024);
    CHECK_FALSE(facts.chips.empty());
  }
}

TEST_CASE("a suffix that the chip doesn't have is refused") {
  CHECK(refusal_of("sm_86a") == "target is 'sm_86a', allowed: sm_86 without a suffix");
  CHECK(refusal_of("sm_90f") == "target is 'sm_90f', allowed: sm_90 with one suffix of 'a'");
  CHECK(refusal_of("sm_100x") == "target is 'sm_100x', allowed: sm_100 with one suffix of 'af'");
  CHECK_THROWS_WITH(make_cuda_target(100, "af"),
                    "target is 'sm_100af', allowed: sm_100 with one suffix of 'af'");
}

TEST_CASE("an unknown target is refused with the known ones") {
  const std::string known =
      "sm_60, sm_61, sm_70, sm_72, sm_75, sm_80, sm_86, sm_87, sm_88, sm_89, sm_90, sm_100, "
      "sm_103, sm_110, sm_120, sm_121, (from sm_90 up with a suffix a where the chip has one), "
      "cpu, cpu:x86-64, cpu:x86-64-v2, cpu:x86-64-v3, cpu:x86-64-v4";
  for (const char* name :
       {"sm_85", "sm_", "sm_x", "sm_90aa", "sm_-86", "sm_99999999999", "SM_86", "86", "", "gpu",
        "cpu:", "cpu:x86-64-v5", "cpu:x86-64-v1", "cpu:zen4", "CPU"}) {
    INFO(name);
    CHECK(refusal_of(name) == "target is '" + std::string(name) + "', allowed: " + known);
  }
}

TEST_CASE("the native target of a device has the suffix that unlocks all of its instructions") {
  CHECK(make_native_cuda_target(75).name() == "sm_75");
  CHECK(make_native_cuda_target(86).name() == "sm_86");
  CHECK(make_native_cuda_target(90).name() == "sm_90a");
  CHECK(make_native_cuda_target(120).name() == "sm_120a");
  CHECK_THROWS_AS(make_native_cuda_target(53), SpecError);
}

TEST_CASE("cpu stands for this machine's features") {
  const Target target = parse("cpu");
  CHECK(target.is_cpu());
  CHECK(target.name() == "cpu");
  CHECK(target.cpu_features == std::vector<std::string>{"avx2", "f16c", "fma"});
  CHECK(parse("cpu:native") == target);
  CHECK(target.has_cpu_feature("avx2"));
  CHECK_FALSE(target.has_cpu_feature("avx"));
  CHECK(parse_target("cpu", {}) != target);
}

TEST_CASE("cpu levels are independent of this machine, and each contains the one below") {
  std::vector<std::string> below;
  for (const char* level : {"x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"}) {
    INFO(level);
    const Target target = parse(std::string("cpu:") + level);
    CHECK(target.name() == std::string("cpu:") + level);
    CHECK(target.cpu_features == cpu_level_features(level));
    CHECK(std::is_sorted(target.cpu_features.begin(), target.cpu_features.end()));
    CHECK(std::includes(target.cpu_features.begin(), target.cpu_features.end(), below.begin(),
                        below.end()));
    CHECK(target.cpu_features.size() >= below.size());
    below = target.cpu_features;
  }
  CHECK(cpu_level_features("x86-64").empty());
  CHECK(cpu_level_features("x86-64-v5").empty());
  CHECK(parse("cpu:x86-64-v3").has_cpu_feature("avx2"));
  CHECK_FALSE(parse("cpu:x86-64-v3").has_cpu_feature("avx512f"));
  CHECK(parse("cpu:x86-64-v4").has_cpu_feature("avx512vl"));
  CHECK_FALSE(parse("cpu:x86-64-v4").has_cpu_feature("avx512vnni"));
}

TEST_CASE("every feature of a level is one that host detection looks for") {
  const auto known = known_cpu_features();
  CHECK(std::is_sorted(known.begin(), known.end()));
  CHECK(std::set<std::string_view>(known.begin(), known.end()).size() == known.size());
  for (const std::string& feature : cpu_level_features("x86-64-v4")) {
    INFO(feature);
    CHECK(std::find(known.begin(), known.end(), feature) != known.end());
  }
}

TEST_CASE("facts of something that is no CUDA target are an internal error") {
  CHECK_THROWS_AS(get_cuda_facts(parse("cpu")), InternalError);
  CHECK_THROWS_AS(parse("cpu").virtual_arch(), InternalError);
}

}  // namespace
}  // namespace ktjit
