// The packed codebooks against sums over ggml's own tables (scripts/make_codebooks.py prints them).
#include "core/codebooks.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <set>

namespace ktjit {
namespace {

/// 64-bit FNV-1a of all elements as bytes: what the script takes over ggml's bytes.
std::uint64_t sum_of(const Codebook& codebook) {
  std::uint64_t digest = 0xcbf29ce484222325;
  for (std::size_t entry = 0; entry < codebook.entries.size(); ++entry) {
    for (int i = 0; i < codebook.entry_elems; ++i)
      digest = (digest ^ static_cast<std::uint8_t>(codebook.level(entry, i))) * 0x100000001b3;
  }
  return digest;
}

struct Fact {
  std::string_view name;
  std::size_t entries;
  std::uint64_t sum;
};

constexpr std::array kFacts = {
    Fact{"iq1_s", 2048, 0x6703ed863501ae2e},  Fact{"iq2_xxs", 256, 0xbb4ee025b5ac6e8e},
    Fact{"iq2_xs", 512, 0xc9b1ee61e79909bd},  Fact{"iq2_s", 1024, 0x123edd38a3b62b90},
    Fact{"iq3_xxs", 256, 0xdfa5dc83d6a155d5}, Fact{"iq3_s", 512, 0xfa37020c25b44829},
};

}  // namespace

TEST_CASE("the codebooks hold the bytes of ggml's tables") {
  REQUIRE(all_codebooks().size() == kFacts.size());
  for (std::size_t i = 0; i < kFacts.size(); ++i) {
    const Codebook& codebook = all_codebooks()[i];
    INFO(codebook.name);
    CHECK(codebook.name == kFacts[i].name);
    CHECK(codebook.entries.size() == kFacts[i].entries);
    CHECK(sum_of(codebook) == kFacts[i].sum);
  }
}

TEST_CASE("no entry of a codebook repeats, and none has a bit beyond its codes") {
  for (const Codebook& codebook : all_codebooks()) {
    INFO(codebook.name);
    CHECK(std::set<std::uint16_t>(codebook.entries.begin(), codebook.entries.end()).size() ==
          codebook.entries.size());
    for (std::size_t entry = 0; entry < codebook.entries.size(); ++entry) {
      std::uint16_t packed = 0;
      for (int i = 0; i < codebook.entry_elems; ++i) {
        int code = 0;
        while (codebook.levels[static_cast<std::size_t>(code)] != codebook.level(entry, i)) ++code;
        packed = static_cast<std::uint16_t>(packed | code << (4 * (i % 4) + 2 * (i / 4)));
      }
      CHECK(packed == codebook.entries[entry]);
    }
  }
}

TEST_CASE("the IQ1, IQ2 and IQ3 formats have codebooks, and iq1_m that of iq1_s") {
  std::size_t with_codebook = 0;
  for (const Format& format : all_formats()) with_codebook += find_codebook(format.id) != nullptr;
  CHECK(with_codebook == 7);
  CHECK(find_codebook(FormatId::kIQ1_M) == find_codebook(FormatId::kIQ1_S));
  CHECK(find_codebook(FormatId::kIQ3_S)->name == "iq3_s");
  CHECK(find_codebook(FormatId::kIQ4_XS) == nullptr);
}

}  // namespace ktjit
