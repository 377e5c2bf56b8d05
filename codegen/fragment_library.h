// The named pieces of device code in templates/: each is spliced into a kernel once, after the
// pieces it needs, and only when it is used.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ktjit::codegen {

/// Which variant serves a piece that has several: {"load_8_bytes", "2"} picks load_8_bytes@2.
using FragmentVariants = std::map<std::string, std::string, std::less<>>;

class FragmentLibrary {
 public:
  /// The pieces of the templates in `folder` ("cuda" or "cpu"), parsed once, and codebook_iq1_s and so
  /// on, made from core/codebooks.h.
  static const FragmentLibrary& of(std::string_view folder);

  /// Text of `names` and of everything they need, in the order of need; each piece appears once.
  /// Errors: InternalError for an unknown piece or variant.
  std::string splice(const std::vector<std::string>& names, const FragmentVariants& variants) const;

 private:
  struct Fragment {
    std::vector<std::string> needs;
    std::string text;
  };

  explicit FragmentLibrary(std::string_view folder);

  std::map<std::string, Fragment, std::less<>> fragments_;
};

}  // namespace ktjit::codegen
