// How --json prints: one document, fields in the order they were set, always valid UTF-8.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

namespace ktjit::cli {

using Json = nlohmann::ordered_json;

/// Prints the document and a line feed. Errors: as print.
void print_json(const Json& document);

/// The value, or null.
template <class Value>
Json json_or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace ktjit::cli
