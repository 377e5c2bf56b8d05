// Which tests prove the kernels of which formats: data for the table of formats, checked by
// tests/cli/format_table_test.cpp (the tests exist, the data they need too).
#pragma once

#include <span>
#include <string_view>

#include "core/format.h"

namespace ktjit::cli {

/// One test case, by its name, and where it runs kernels.
struct ProofTest {
  std::string_view place;  ///< "CPU", "simulator", "GPU", "compilers"
  std::string_view name;
};

struct Proof {
  std::string_view key;   ///< as the table's columns name it
  std::string_view what;  ///< what is compared with what
  bool (*covers)(const Format& format);
  bool is_of_quantize;  ///< else of what decodes
  std::span<const ProofTest> tests;
};

/// In the order in which they are shown.
std::span<const Proof> all_proofs();

/// Whether ggml's golden vectors (tests/data/golden) prove the format's decode.
bool is_golden_format(const Format& format);

}  // namespace ktjit::cli
