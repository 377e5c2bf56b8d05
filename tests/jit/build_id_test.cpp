#include "jit/build_id.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <elf.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

namespace fs = std::filesystem;

namespace {

class ScratchFile {
 public:
  ScratchFile()
      : path_(fs::temp_directory_path() / ("ktjit_build_id_" + std::to_string(getpid()))) {}
  ~ScratchFile() { fs::remove(path_); }
  const fs::path& write(const std::string& bytes) {
    std::ofstream(path_, std::ios::binary).write(bytes.data(), std::ssize(bytes));
    return path_;
  }

 private:
  fs::path path_;
};

template <class T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string note(std::uint32_t type, const std::string& name, const std::string& content) {
  const auto padded = [](std::string text) { return text.append((4 - text.size() % 4) % 4, '\0'); };
  const Elf64_Nhdr header = {static_cast<Elf64_Word>(name.size()),
                             static_cast<Elf64_Word>(content.size()), type};
  return bytes_of(header) + padded(name) + padded(content);
}

const std::string kGnu("GNU\0", 4);

std::string elf_with_notes(const std::string& notes, std::uint64_t claimed_bytes) {
  Elf64_Ehdr header = {};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 2;
  Elf64_Phdr load = {};
  load.p_type = PT_LOAD;
  Elf64_Phdr segment = {};
  segment.p_type = PT_NOTE;
  segment.p_offset = sizeof header + 2 * sizeof(Elf64_Phdr);
  segment.p_filesz = claimed_bytes;
  segment.p_align = 4;
  return bytes_of(header) + bytes_of(load) + bytes_of(segment) + notes;
}

std::string elf_with_notes(const std::string& notes) { return elf_with_notes(notes, notes.size()); }

}  // namespace

TEST_CASE("build id is read from behind other notes") {
  ScratchFile file;
  const std::string notes = note(NT_GNU_ABI_TAG, kGnu, std::string(16, 'x')) +
                            note(NT_GNU_BUILD_ID, std::string("Other\0", 6), "wrong!") +
                            note(NT_GNU_BUILD_ID, kGnu, "\x01\xab\xff\x7e\x05");
  CHECK(ktjit::read_build_id(file.write(elf_with_notes(notes))) == "01abff7e05");
}

TEST_CASE("file without a build id has none") {
  ScratchFile file;
  CHECK_FALSE(ktjit::read_build_id("/nonexistent/library.so"));
  CHECK_FALSE(ktjit::read_build_id(fs::temp_directory_path()));
  CHECK_FALSE(ktjit::read_build_id(file.write("")));
  CHECK_FALSE(
      ktjit::read_build_id(file.write("text, longer than an ELF header is, to be sure of it")));
  CHECK_FALSE(ktjit::read_build_id(file.write(elf_with_notes(""))));
  CHECK_FALSE(ktjit::read_build_id(
      file.write(elf_with_notes(note(NT_GNU_ABI_TAG, kGnu, std::string(16, 'x'))))));
}

TEST_CASE("ELF file cut at any byte has no build id and does no harm") {
  ScratchFile file;
  const std::string whole = elf_with_notes(note(NT_GNU_BUILD_ID, kGnu, std::string(20, 'i')));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(ktjit::read_build_id(file.write(whole.substr(0, size))));
  }
  CHECK(ktjit::read_build_id(file.write(whole)));
}

TEST_CASE("ELF file with any byte changed does no harm") {
  ScratchFile file;
  const std::string whole = elf_with_notes(note(NT_GNU_BUILD_ID, kGnu, std::string(20, 'i')));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char value : {'\x00', '\x7f', '\xff'}) {
      std::string damaged = whole;
      damaged[at] = value;
      const auto id = ktjit::read_build_id(file.write(damaged));
      if (id) CHECK(id->size() <= 128);
    }
  }
}

TEST_CASE("note with a size beyond the file is no build id") {
  ScratchFile file;
  const std::string notes = note(NT_GNU_BUILD_ID, kGnu, std::string(20, 'i'));
  CHECK_FALSE(ktjit::read_build_id(file.write(elf_with_notes(notes, notes.size() + 1))));
  CHECK_FALSE(ktjit::read_build_id(file.write(elf_with_notes(notes, UINT64_MAX))));
  const Elf64_Nhdr huge = {0xffffffff, 0xffffffff, NT_GNU_BUILD_ID};
  CHECK_FALSE(ktjit::read_build_id(file.write(elf_with_notes(bytes_of(huge)))));
}
