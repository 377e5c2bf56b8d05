// Where the dynamic loader would look for a library, learnt without loading one.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace ktjit {

/// The folders of LD_LIBRARY_PATH as it was when the process started, then the system's own.
std::vector<std::filesystem::path> loader_folders();

/// Libraries in the loader's cache whose file name starts with `prefix`, in the cache's order.
/// Nothing if the cache is missing, damaged or of another format than glibc's since 2.32.
std::vector<std::filesystem::path> find_in_loader_cache(
    std::string_view prefix, const std::filesystem::path& cache = "/etc/ld.so.cache");

}  // namespace ktjit
