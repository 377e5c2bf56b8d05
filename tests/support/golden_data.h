// Encoded tensors with the f32 values that ggml's scalar reference decodes them to, from
// tests/data/golden (its index.json says how they were made).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/format.h"

namespace ktjit::test {

struct GoldenEntry {
  std::string type;  ///< ggml's name, "Q4_K"
  FormatId format = FormatId::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_bytes = 0;
  std::vector<std::byte> encoded;      ///< [rows, row_bytes]
  std::vector<float> values;           ///< [rows, cols]
  std::vector<std::string> row_kinds;  ///< how each row was made, "quantised:gauss_1", ...
};

/// All entries. Some types have a second one, with few columns.
std::vector<GoldenEntry> load_golden();

/// The first, larger entry of a type; `name` is ggml's ("MXFP4") or any of core/format.h's.
/// Errors: InputError if there is none.
GoldenEntry get_golden(std::string_view name);

}  // namespace ktjit::test
