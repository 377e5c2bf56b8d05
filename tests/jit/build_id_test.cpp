#include "jit/build_id.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <elf.h>
#include <string>

#include "tests/jit/fake_elf.h"
#include "tests/jit/scratch_folder.h"

using ktjit::read_build_id;
using ktjit::test::elf_note;
using ktjit::test::elf_with_build_id;
using ktjit::test::elf_with_notes;
using ktjit::test::kGnuOwner;
using ktjit::test::ScratchFolder;

TEST_CASE("build id is read from behind other notes") {
  const ScratchFolder folder;
  const std::string notes = elf_note(NT_GNU_ABI_TAG, kGnuOwner, std::string(16, 'x')) +
                            elf_note(NT_GNU_BUILD_ID, std::string("Other\0", 6), "wrong!") +
                            elf_note(NT_GNU_BUILD_ID, kGnuOwner, "\x01\xab\xff\x7e\x05");
  CHECK(read_build_id(folder.write("file", elf_with_notes(notes))) == "01abff7e05");
}

// As libnvrtc.so.12 of CUDA 12.1 to 12.8 is: readelf calls its note invalid.
TEST_CASE("build id is read from a segment that claims an alignment it doesn't keep") {
  const ScratchFolder folder;
  const std::string notes = elf_note(NT_GNU_BUILD_ID, kGnuOwner, std::string(20, 'i'));
  REQUIRE(notes.size() % 8 != 0);
  CHECK(read_build_id(folder.write("file", elf_with_notes(notes, notes.size(), 8))));
}

TEST_CASE("file without a build id has none") {
  const ScratchFolder folder;
  CHECK_FALSE(read_build_id("/nonexistent/library.so"));
  CHECK_FALSE(read_build_id(folder.path()));
  CHECK_FALSE(read_build_id(folder.write("file", "")));
  CHECK_FALSE(read_build_id(folder.write("file", std::string(1000, 'x'))));
  CHECK_FALSE(read_build_id(folder.write("file", elf_with_notes(""))));
  CHECK_FALSE(read_build_id(folder.write(
      "file", elf_with_notes(elf_note(NT_GNU_ABI_TAG, kGnuOwner, std::string(16, 'x'))))));
}

TEST_CASE("ELF file cut at any byte has no build id and does no harm") {
  const ScratchFolder folder;
  const std::string whole = elf_with_build_id(std::string(20, 'i'));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(read_build_id(folder.write("file", whole.substr(0, size))));
  }
  CHECK(read_build_id(folder.write("file", whole)));
}

TEST_CASE("ELF file with any byte changed does no harm") {
  const ScratchFolder folder;
  const std::string whole = elf_with_build_id(std::string(20, 'i'));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char value : {'\x00', '\x7f', '\xff'}) {
      std::string damaged = whole;
      damaged[at] = value;
      const auto id = read_build_id(folder.write("file", damaged));
      if (id) CHECK(id->size() <= 128);
    }
  }
}

TEST_CASE("note with a size beyond the file is no build id") {
  const ScratchFolder folder;
  const std::string notes = elf_note(NT_GNU_BUILD_ID, kGnuOwner, std::string(20, 'i'));
  CHECK_FALSE(read_build_id(folder.write("file", elf_with_notes(notes, notes.size() + 1))));
  CHECK_FALSE(read_build_id(folder.write("file", elf_with_notes(notes, UINT64_MAX))));
  const Elf64_Nhdr huge = {0xffffffff, 0xffffffff, NT_GNU_BUILD_ID};
  CHECK_FALSE(read_build_id(folder.write("file", elf_with_notes(ktjit::test::bytes_of(huge)))));
}
