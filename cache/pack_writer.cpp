#include "cache/pack_writer.h"

#include <cerrno>
#include <filesystem>
#include <fmt/format.h>
#include <map>

#include "cache/atomic_file.h"
#include "cache/pack_format.h"
#include "core/error.h"

namespace ktjit::cache {
namespace {

// Packs are handed on, so anybody may read them; only the owner writes, or nobody would trust them.
constexpr std::uint32_t kPackMode = 0644;

struct Place {
  FileHandle folder;
  std::string name;
};

Place open_place(FileSystem& files, const std::string& path) {
  const std::filesystem::path parts(path);
  const std::filesystem::path parent = parts.parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (!parts.has_filename()) throw SpecError("pack", fmt::format("'{}'", path), "names of files");
  auto opened = files.open_directory(folder);
  if (!opened) throw FileError("open " + folder, ENOENT);
  return {std::move(*opened), parts.filename().string()};
}

void check_replaceable(FileSystem& files, const Place& place, const std::string& path) {
  const auto refuse = [&](std::string_view what) {
    throw SpecError("pack", fmt::format("'{}', which is there and {}", path, what),
                    "new names, and packs to be replaced");
  };
  const auto info = files.info_at(place.folder, place.name);
  if (!info) return;
  if (info->kind != FileKind::kFile) refuse("is not a regular file");
  const auto file = files.open_file_at(place.folder, place.name);
  if (!file) return;  // removed since
  std::string magic(kPackMagicBytes, '\0');
  std::size_t done = 0;
  while (done < magic.size()) {
    const std::size_t more = files.read_some(*file, magic.data() + done, magic.size() - done);
    if (more == 0) break;
    done += more;
  }
  magic.resize(done);
  if (!begins_as_pack(magic)) refuse("is no pack of kernels");
}

}  // namespace

PackWriteError::PackWriteError(const std::string& path, std::string problem)
    : Error(fmt::format("{}: {}", path, problem)), problem_(std::move(problem)) {}

void check_pack_target(const std::string& path, FileSystem& files) {
  try {
    check_replaceable(files, open_place(files, path), path);
  } catch (const FileError& error) {
    throw PackWriteError(path, error.what());
  }
}

PackReport write_pack(const std::string& path, const nlohmann::json& manifest,
                      const std::vector<EntryToPack>& entries, FileSystem& files) {
  std::map<EntryName, std::string> by_name;
  for (const EntryToPack& packed : entries) {
    const HashedKey hashed = packed.key.hashed();
    by_name.try_emplace({hashed.request, hashed.artifact}, encode_entry(hashed.text, packed.entry));
  }
  std::vector<PackedEntry> packed;
  for (auto& [name, file] : by_name) packed.push_back({name, std::move(file)});
  PackReport report{packed.size(), 0};
  const std::string pack = encode_pack(manifest, std::move(packed));
  report.size_bytes = pack.size();

  try {
    const Place place = open_place(files, path);
    check_replaceable(files, place, path);
    write_atomically(files, place.folder, place.name, pack, kPackMode);
  } catch (const FileError& error) {
    throw PackWriteError(path, error.what());
  }
  return report;
}

}  // namespace ktjit::cache
