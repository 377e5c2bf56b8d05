// Walks the documented places. The minor version of a library is read from its file name if that
// has all parts (libnvrtc.so.12.4.127), else from the builtins beside it
// (libnvrtc-builtins.so.12.9): sonames carry the major version only, and 11.x all call
// themselves 11.2.
#include "jit/nvrtc_search.h"

#include <algorithm>
#include <charconv>
#include <dirent.h>
#include <fmt/format.h>
#include <memory>
#include <optional>
#include <set>
#include <string_view>

#include "jit/build_id.h"
#include "jit/loader_path.h"

namespace fs = std::filesystem;

namespace ktjit {
namespace {

constexpr std::string_view kLibraryPrefix = "libnvrtc.so";
constexpr std::string_view kBuiltinsPrefix = "libnvrtc-builtins.so.";

// What begins with `prefix`; nothing if the folder can't be read. Sorted, so that the result never depends on the
// order in which a file system lists a folder. A system's library folder has thousands of files: to make and
// sort a path for each took 30 ms (2-core EPYC, loaded).
std::vector<fs::path> list_folder(const fs::path& folder, std::string_view prefix) {
  std::vector<fs::path> entries;
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(folder.c_str()), ::closedir);
  if (!listing) return entries;
  while (const dirent* entry = ::readdir(listing.get())) {
    const std::string_view name = entry->d_name;
    if (name.starts_with(prefix) && name != "." && name != "..") entries.push_back(folder / name);
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

// "12.4.127" -> {12, 4, 127}; nothing if there is anything but numbers and dots.
std::optional<std::vector<int>> parse_numbers(std::string_view text) {
  std::vector<int> numbers;
  while (true) {
    int number = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number < 0) return std::nullopt;
    numbers.push_back(number);
    text.remove_prefix(static_cast<std::size_t>(rest - text.data()));
    if (text.empty()) return numbers;
    if (text.front() != '.') return std::nullopt;
    text.remove_prefix(1);
  }
}

// The numbers behind "libnvrtc.so"; nothing if the name is not a libnvrtc's.
std::optional<std::vector<int>> library_numbers(std::string_view name) {
  if (!name.starts_with(kLibraryPrefix)) return std::nullopt;
  name.remove_prefix(kLibraryPrefix.size());
  if (name.empty()) return std::vector<int>();
  if (name.front() != '.') return std::nullopt;
  return parse_numbers(name.substr(1));
}

struct Builtins {
  fs::path path;
  NvrtcVersion version;
};

std::vector<Builtins> builtins_in(const fs::path& folder) {
  std::vector<Builtins> found;
  for (const fs::path& entry : list_folder(folder, kBuiltinsPrefix)) {
    const std::string name = entry.filename();
    const auto numbers = parse_numbers(std::string_view(name).substr(kBuiltinsPrefix.size()));
    std::error_code error;
    if (!numbers || numbers->size() < 2 || !fs::is_regular_file(entry, error)) continue;
    const NvrtcVersion version = {(*numbers)[0], (*numbers)[1]};
    // libnvrtc-builtins.so.12.4 is often a link to libnvrtc-builtins.so.12.4.127.
    const bool known = std::any_of(found.begin(), found.end(),
                                   [&](const Builtins& one) { return one.version == version; });
    if (!known) found.push_back({entry, version});
  }
  return found;
}

// Fills in version, builtins and ids. Returns the problem, "" if there is none.
std::string examine(NvrtcCandidate& candidate) {
  const auto numbers = library_numbers(candidate.library.filename().native());
  if (!numbers || numbers->empty()) return "its file name tells no version";
  const bool exact = numbers->size() >= 3;
  candidate.version = {(*numbers)[0], exact ? (*numbers)[1] : 0};

  const fs::path folder = candidate.library.parent_path();
  std::vector<Builtins> builtins = builtins_in(folder);
  std::erase_if(builtins, [&](const Builtins& one) {
    return exact ? one.version != candidate.version : one.version.major != candidate.version.major;
  });
  if (builtins.empty()) {
    return fmt::format("libnvrtc-builtins.so.{}.{} is not beside it in {}", candidate.version.major,
                       exact ? std::to_string(candidate.version.minor) : "*", folder.native());
  }
  if (builtins.size() > 1) {
    return fmt::format("several versions of libnvrtc-builtins.so.{} lie beside it in {}",
                       candidate.version.major, folder.native());
  }
  candidate.version = builtins.front().version;
  candidate.builtins = builtins.front().path;
  if (candidate.version < kOldestNvrtc) {
    return fmt::format("version {} is older than {}, the oldest that is supported",
                       candidate.version.text(), kOldestNvrtc.text());
  }
  // Without build ids, artefacts of two builds could not be told apart in a cache.
  const auto library_id = read_build_id(candidate.library);
  if (!library_id) return "it is damaged, or has no build id";
  const auto builtins_id = read_build_id(candidate.builtins);
  if (!builtins_id) {
    return fmt::format("{} is damaged, or has no build id", candidate.builtins.native());
  }
  candidate.library_id = *library_id;
  candidate.builtins_id = *builtins_id;
  return "";
}

class Finder {
 public:
  void add_file(const fs::path& file, std::string_view found_by) {
    std::error_code error;
    const fs::path resolved = fs::canonical(file, error);
    if (error || !fs::is_regular_file(resolved, error)) return;
    if (!seen_.insert(resolved).second) return;
    NvrtcCandidate candidate;
    candidate.library = resolved;
    candidate.found_by = found_by;
    candidate.problem = examine(candidate);
    found_.push_back(std::move(candidate));
  }

  void add_folder(const fs::path& folder, std::string_view found_by) {
    std::error_code error;
    const fs::path canonical = fs::canonical(folder, error);
    if (error || !listed_.insert(canonical).second) return;  // /lib is often /usr/lib
    const std::size_t before = found_.size();
    for (const fs::path& entry : list_folder(folder, kLibraryPrefix)) {
      if (library_numbers(entry.filename().native())) add_file(entry, found_by);
    }
    std::stable_sort(
        found_.begin() + static_cast<std::ptrdiff_t>(before), found_.end(),
        [](const NvrtcCandidate& a, const NvrtcCandidate& b) { return a.version > b.version; });
  }

  void add_toolkit(const fs::path& root, std::string_view found_by) {
    add_folder(root / "lib64", found_by);
    add_folder(root / "lib", found_by);
    add_folder(root / "targets/x86_64-linux/lib", found_by);
  }

  void add_explicit(const fs::path& path) {
    const std::size_t before = found_.size();
    std::error_code error;
    if (fs::is_directory(path, error)) {
      add_folder(path, "explicit path");
      if (found_.size() == before) add_toolkit(path, "explicit path");
    } else {
      add_file(path, "explicit path");
    }
    if (found_.size() > before) return;
    NvrtcCandidate candidate;
    candidate.library = path;
    candidate.found_by = "explicit path";
    candidate.problem = "there is no libnvrtc";
    found_.push_back(std::move(candidate));
  }

  // Wheels put it in nvidia/cuda_nvrtc/lib (CUDA 11 and 12) or nvidia/cu13/lib.
  void add_site_packages(const fs::path& folder) {
    for (const fs::path& package : list_folder(folder / "nvidia", "cu")) {
      const std::string name = package.filename();
      if (name == "cuda_nvrtc" || name.starts_with("cu1")) {
        add_folder(package / "lib", "Python environment");
      }
    }
  }

  void add_python_environment(const fs::path& root) {
    add_site_packages(root);
    for (const char* lib : {"lib", "lib64"}) {
      for (const fs::path& python : list_folder(root / lib, "python")) {
        add_site_packages(python / "site-packages");
        add_site_packages(python / "dist-packages");
      }
    }
  }

  std::vector<NvrtcCandidate> take() { return std::move(found_); }

 private:
  std::vector<NvrtcCandidate> found_;
  std::set<fs::path> seen_;
  std::set<fs::path> listed_;
};

// /usr/local/cuda-13.0 before /usr/local/cuda-12.9; "cuda" itself is what the machine's owner
// chose.
std::vector<fs::path> usual_toolkits() {
  std::vector<std::pair<std::vector<int>, fs::path>> versioned;
  constexpr std::string_view kPrefix = "cuda-";
  for (const fs::path& entry : list_folder("/usr/local", kPrefix)) {
    const std::string name = entry.filename();
    if (auto numbers = parse_numbers(std::string_view(name).substr(kPrefix.size()))) {
      versioned.emplace_back(std::move(*numbers), entry);
    }
  }
  std::sort(versioned.rbegin(), versioned.rend());
  std::vector<fs::path> toolkits = {"/usr/local/cuda"};
  for (auto& [numbers, path] : versioned) toolkits.push_back(std::move(path));
  toolkits.emplace_back("/opt/cuda");
  return toolkits;
}

}  // namespace

std::vector<NvrtcCandidate> find_nvrtc(const NvrtcSearch& search) {
  Finder finder;
  if (!search.explicit_path.empty()) finder.add_explicit(search.explicit_path);
  for (const fs::path& folder : search.extra_folders) finder.add_folder(folder, "extra folder");
  if (!search.cuda_home.empty()) finder.add_toolkit(search.cuda_home, "CUDA_HOME");
  if (search.loader_path) {
    for (const fs::path& folder : loader_folders()) finder.add_folder(folder, "loader's path");
    for (const fs::path& file : find_in_loader_cache(kLibraryPrefix)) {
      finder.add_file(file, "loader's path");
    }
  }
  if (search.toolkit_folders) {
    for (const fs::path& root : usual_toolkits()) finder.add_toolkit(root, "toolkit folder");
    finder.add_folder("/usr/lib/x86_64-linux-gnu", "toolkit folder");
  }
  for (const fs::path& root : search.python_environments) finder.add_python_environment(root);
  return finder.take();
}

std::string nvrtc_advice() {
  return "install NVIDIA's CUDA toolkit (the package cuda-nvrtc is enough), or in a Python "
         "environment 'pip install nvidia-cuda-nvrtc' (CUDA 13, GPUs from compute capability 7.5) "
         "or 'pip install nvidia-cuda-nvrtc-cu12' (from 5.0)";
}

}  // namespace ktjit
