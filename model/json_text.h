// JSON files beside the tensors: config.json and the index of a sharded checkpoint. Stricter than
// the parser alone: no key twice, no deep nesting.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

namespace ktjit::model {

/// Parses UTF-8 text as one JSON object.
///
/// Errors: InputError with the file, if it is no JSON, no object, has a key twice in one object, or
/// is nested deeper than 32 levels.
nlohmann::json parse_json(const std::filesystem::path& path, std::string_view text);

/// As parse_json, of a whole file of at most 100 MB. Errors: InputError if it can't be read too.
nlohmann::json read_json_file(const std::filesystem::path& path);

/// The parser's own words, without its name for the error.
std::string_view json_problem(const nlohmann::json::exception& error);

}  // namespace ktjit::model
