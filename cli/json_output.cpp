#include "cli/json_output.h"

#include "cli/output.h"

namespace ktjit::cli {

void print_json(const Json& document) {
  constexpr int kIndent = 2;
  // Strings of a tokenizer need not be UTF-8: what is not becomes U+FFFD.
  print(document.dump(kIndent, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace ktjit::cli
