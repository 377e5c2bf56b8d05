// Small ELF files for tests: headers and notes, nothing to run.
#pragma once

#include <cstdint>
#include <cstring>
#include <elf.h>
#include <string>

namespace ktjit::test {

template <class T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline const std::string kGnuOwner("GNU\0", 4);

inline std::string elf_note(std::uint32_t type, const std::string& owner,
                            const std::string& content) {
  const auto padded = [](std::string text) { return text.append((4 - text.size() % 4) % 4, '\0'); };
  const Elf64_Nhdr header = {static_cast<Elf64_Word>(owner.size()),
                             static_cast<Elf64_Word>(content.size()), type};
  return bytes_of(header) + padded(owner) + padded(content);
}

/// `claimed_bytes` is the size of the notes as the header tells it.
inline std::string elf_with_notes(const std::string& notes, std::uint64_t claimed_bytes,
                                  std::uint64_t alignment = 4) {
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
  segment.p_align = alignment;
  return bytes_of(header) + bytes_of(load) + bytes_of(segment) + notes;
}

inline std::string elf_with_notes(const std::string& notes) {
  return elf_with_notes(notes, notes.size());
}

inline std::string elf_with_build_id(const std::string& id) {
  return elf_with_notes(elf_note(NT_GNU_BUILD_ID, kGnuOwner, id));
}

}  // namespace ktjit::test
