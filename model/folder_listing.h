// The files of a folder, for those who look for a model in it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ktjit::model {

/// Names of the folder's files, sorted; folders inside it are left out.
/// Errors: InputError if it can't be listed.
std::vector<std::string> list_files(const std::filesystem::path& folder);

/// Whatever the case: "x.GGUF" has ".gguf".
bool has_extension(const std::filesystem::path& path, std::string_view lower_case);

}  // namespace ktjit::model
