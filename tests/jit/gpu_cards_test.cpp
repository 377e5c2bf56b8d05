// The table of cards: names, defaults, and that its facts hang together.
#include "jit/gpu_cards.h"

#include <catch2/catch.hpp>
#include <set>

#include "core/error.h"

namespace ktjit {

TEST_CASE("a card is found however its name is written") {
  for (const char* name : {"A10", "a10", "NVIDIA A10", "nvidia-a10"})
    CHECK(get_gpu_card(name).name == "A10");
  for (const char* name : {"RTX 3090", "rtx3090", "3090", "RTX-3090", "NVIDIA GeForce RTX 3090"})
    CHECK(get_gpu_card(name).name == "RTX 3090");
  CHECK(get_gpu_card("NVIDIA GeForce RTX 3090 Ti").name == "RTX 3090 Ti");
  CHECK(get_gpu_card("Tesla T4").name == "T4");
  CHECK(get_gpu_card("NVIDIA A10G").name == "A10G");
  CHECK(get_gpu_card("NVIDIA A100-SXM4-80GB").name == "A100 80GB");
  CHECK(get_gpu_card("NVIDIA A100-PCIE-40GB").name == "A100 40GB");
  CHECK(get_gpu_card("NVIDIA A100 80GB PCIe").name == "A100 PCIe 80GB");
  CHECK(get_gpu_card("NVIDIA H100 80GB HBM3").name == "H100 SXM");
  CHECK(get_gpu_card("Tesla V100-SXM2-32GB").name == "V100 SXM2");
  CHECK(get_gpu_card("NVIDIA RTX 6000 Ada Generation").name == "RTX 6000 Ada");
}

TEST_CASE("an unknown card is an error that lists the known ones") {
  for (const char* name : {"", "RTX", "A11", "3090 x", "GeForce"}) {
    CHECK(find_gpu_card(name) == nullptr);
    try {
      get_gpu_card(name);
      FAIL("no error");
    } catch (const SpecError& error) {
      CHECK(error.field() == "card");
      const std::string message = error.what();
      CHECK(message.find("A10, A10G") != std::string::npos);
      CHECK(message.find("B200") != std::string::npos);
    }
  }
}

TEST_CASE("cards that the issue names are in the table, and assumed where they are the first") {
  for (const char* name : {"A10", "RTX 3090", "P40", "T4", "V100", "A100", "RTX 4090", "L4", "H100",
                           "H200", "RTX 5090", "B200", "P100", "L40S", "A6000", "2080 Ti"})
    CHECK(find_gpu_card(name) != nullptr);
  CHECK(default_gpu_card(make_cuda_target(86))->name == "A10");
  CHECK(default_gpu_card(make_cuda_target(75))->name == "T4");
  CHECK(default_gpu_card(make_cuda_target(90, "a"))->name == "H100 SXM");
  CHECK(default_gpu_card(make_cuda_target(72)) == nullptr);
  CHECK(default_gpu_card(make_cpu_target("native", {})) == nullptr);
}

TEST_CASE("every card has facts in reason, a source, a known target and a name of its own") {
  std::set<std::string_view> names;
  for (const GpuCard& card : all_gpu_cards()) {
    INFO(card.name);
    CHECK(names.insert(card.name).second);
    CHECK(find_gpu_card(card.name) == &card);  // no other card's name reads the same
    CHECK(native_target(card).sm == card.sm);  // throws for an unknown one
    CHECK(runs_on(native_target(card), card));
    CHECK_FALSE(card.source.empty());
    CHECK(card.memory_gib >= 6);
    CHECK(card.memory_gib <= 288);
    CHECK(card.bandwidth_gbps >= 100);
    CHECK(card.bandwidth_gbps <= 8000);
    CHECK(card.sms >= 10);
    CHECK(card.sms <= 200);
    CHECK(card.boost_mhz >= 1000);
    CHECK(card.boost_mhz <= 3000);
  }
}

TEST_CASE("ECC of a card with GDDR memory takes a sixteenth") {
  CHECK(get_gpu_card("A10").memory_bytes() == std::uint64_t{23040} << 20);  // nvidia-smi: 23028
  CHECK(get_gpu_card("T4").memory_bytes() == std::uint64_t{15360} << 20);   // nvidia-smi: 15360
  CHECK(get_gpu_card("RTX 3090").memory_bytes() == std::uint64_t{24} << 30);
  CHECK(get_gpu_card("H200").memory_bytes() == std::uint64_t{141} << 30);
}

TEST_CASE("code runs on later cards of its major number, with suffix a on its own only") {
  CHECK(runs_on(make_cuda_target(80), get_gpu_card("A10")));
  CHECK(runs_on(make_cuda_target(86), get_gpu_card("L4")));
  CHECK_FALSE(runs_on(make_cuda_target(86), get_gpu_card("A100")));
  CHECK_FALSE(runs_on(make_cuda_target(75), get_gpu_card("A10")));
  CHECK(runs_on(make_cuda_target(90, "a"), get_gpu_card("H200")));
  CHECK_FALSE(runs_on(make_cuda_target(100, "a"), get_gpu_card("RTX 5090")));
  CHECK_FALSE(runs_on(make_cpu_target("native", {}), get_gpu_card("A10")));
}

}  // namespace ktjit
