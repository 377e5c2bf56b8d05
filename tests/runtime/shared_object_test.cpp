// Loading code from memory: damaged images are refused before the loader sees them.
#include "runtime/shared_object.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <elf.h>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "core/error.h"

namespace ktjit::runtime {
namespace {

using Catch::Matchers::Contains;

std::vector<std::byte> bytes_of(const std::string& text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

std::vector<std::byte> test_object() {
  std::ifstream file(KTJIT_TEST_KERNEL_0, std::ios::binary);
  return bytes_of({std::istreambuf_iterator<char>(file), {}});
}

/// The object with its ELF header changed.
std::vector<std::byte> with_header(const std::function<void(Elf64_Ehdr&)>& change) {
  std::vector<std::byte> bytes = test_object();
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  change(header);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

std::string problem_of(const std::vector<std::byte>& bytes) {
  return find_elf_problem(bytes).value_or("");
}

TEST_CASE("garbage is refused with what is wrong") {
  CHECK(problem_of({}) == "0 bytes are too few for an ELF file");
  CHECK(problem_of(bytes_of(std::string(1000, 'x'))) == "not an ELF file");
  CHECK(problem_of(with_header([](Elf64_Ehdr& h) { h.e_ident[EI_CLASS] = ELFCLASS32; })) ==
        "not a 64-bit little-endian ELF file");
  CHECK(problem_of(with_header([](Elf64_Ehdr& h) { h.e_machine = EM_AARCH64; })) ==
        "ELF machine 183, expected 62 (x86-64)");
  CHECK(problem_of(with_header([](Elf64_Ehdr& h) { h.e_type = ET_REL; })) ==
        "ELF type 1, expected 3 (shared object)");
  CHECK_THAT(problem_of(with_header([](Elf64_Ehdr& h) { h.e_phoff = ~0ull - 100; })),
             Contains("program headers are cut off"));
  CHECK_THAT(problem_of(with_header([](Elf64_Ehdr& h) { h.e_phnum = 65000; })),
             Contains("program headers are cut off"));
  CHECK(problem_of(test_object()).empty());
}

TEST_CASE("an object cut at any byte is refused or loads, and never crashes") {
  const std::vector<std::byte> whole = test_object();
  int loaded = 0;
  int refused = 0;
  for (std::size_t size = 0; size < whole.size(); size += 61) {
    const std::vector<std::byte> cut(whole.begin(),
                                     whole.begin() + static_cast<std::ptrdiff_t>(size));
    try {
      // Past the last segment there are only section headers, which the loader doesn't read.
      const SharedObject object(cut, "cut");
      loaded += object.get_symbol("test_kernel") != nullptr;
    } catch (const DriverError& error) {
      CHECK_THAT(error.what(), Contains("loading kernel cut"));
      ++refused;
    }
  }
  CHECK(loaded > 10);
  CHECK(refused > 10);
}

TEST_CASE("a loaded object has its symbols, and a missing one is an error") {
  const SharedObject object(test_object(), "whole");
  CHECK(object.get_symbol("test_kernel") != nullptr);
  CHECK_THROWS_WITH(object.get_symbol("nothing"), Contains("no symbol 'nothing'"));
}

}  // namespace
}  // namespace ktjit::runtime
