// Finds NT_GNU_BUILD_ID among the notes of an ELF64 file. Layout: System V ABI, "Program Header"
// and "Note Section"; every size in the file is checked, since the file may be damaged.
#include "jit/build_id.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <span>
#include <unistd.h>
#include <vector>

namespace ktjit {
namespace {

// A note segment is a few dozen bytes and an id 16 or 20; what is larger is damage.
constexpr std::size_t kMaxNoteBytes = 64 * 1024;
constexpr std::size_t kMaxIdBytes = 64;

class ReadOnlyFile {
 public:
  explicit ReadOnlyFile(const std::filesystem::path& path)
      : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~ReadOnlyFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  ReadOnlyFile(const ReadOnlyFile&) = delete;
  ReadOnlyFile& operator=(const ReadOnlyFile&) = delete;

  bool read_at(std::uint64_t offset, void* to, std::size_t bytes) const {
    if (descriptor_ < 0 || offset > std::uint64_t{INT64_MAX} - bytes) return false;
    return ::pread(descriptor_, to, bytes, static_cast<off_t>(offset)) ==
           static_cast<ssize_t>(bytes);
  }

 private:
  int descriptor_;
};

std::size_t round_up(std::size_t value, std::size_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

std::string to_hex(std::span<const unsigned char> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const unsigned char byte : bytes) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::optional<std::string> find_id(std::span<const unsigned char> notes, std::size_t alignment) {
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    std::memcpy(&note, notes.data(), sizeof note);
    const std::size_t id_at = round_up(sizeof note + note.n_namesz, alignment);
    if (id_at > notes.size() || note.n_descsz > notes.size() - id_at) return std::nullopt;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof ELF_NOTE_GNU &&
        std::memcmp(notes.data() + sizeof note, ELF_NOTE_GNU, sizeof ELF_NOTE_GNU) == 0) {
      if (note.n_descsz == 0 || note.n_descsz > kMaxIdBytes) return std::nullopt;
      return to_hex(notes.subspan(id_at, note.n_descsz));
    }
    notes = notes.subspan(std::min(notes.size(), round_up(id_at + note.n_descsz, alignment)));
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> read_build_id(const std::filesystem::path& path) {
  const ReadOnlyFile file(path);
  Elf64_Ehdr header;
  if (!file.read_at(0, &header, sizeof header)) return std::nullopt;
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_phentsize != sizeof(Elf64_Phdr)) {
    return std::nullopt;
  }
  for (std::uint64_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    // A wrapped offset reads some other place of the file; all that is read there is checked too.
    if (!file.read_at(header.e_phoff + i * sizeof segment, &segment, sizeof segment)) {
      return std::nullopt;
    }
    if (segment.p_type != PT_NOTE || segment.p_filesz > kMaxNoteBytes) continue;
    std::vector<unsigned char> notes(segment.p_filesz);
    if (!file.read_at(segment.p_offset, notes.data(), notes.size())) continue;
    if (auto id = find_id(notes, segment.p_align == 8 ? 8 : 4)) return id;
  }
  return std::nullopt;
}

}  // namespace ktjit
