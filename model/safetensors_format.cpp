// The dtypes are those of safetensors 0.8 (May 2026).
#include "model/safetensors_format.h"

#include <algorithm>
#include <array>
#include <utility>

namespace ktjit::model::safetensors {
namespace {

struct Dtype {
  std::string_view name;
  FormatId format;
};

constexpr std::array kDtypes = {
    Dtype{"BOOL", FormatId::kBool},
    Dtype{"F4", FormatId::kFp4E2M1},
    Dtype{"F6_E2M3", FormatId::kFp6E2M3},
    Dtype{"F6_E3M2", FormatId::kFp6E3M2},
    Dtype{"U8", FormatId::kU8},
    Dtype{"I8", FormatId::kI8},
    Dtype{"F8_E5M2", FormatId::kFp8E5M2},
    Dtype{"F8_E4M3", FormatId::kFp8E4M3},
    Dtype{"F8_E8M0", FormatId::kE8M0},
    Dtype{"F8_E4M3FNUZ", FormatId::kFp8E4M3Fnuz},
    Dtype{"F8_E5M2FNUZ", FormatId::kFp8E5M2Fnuz},
    Dtype{"I16", FormatId::kI16},
    Dtype{"U16", FormatId::kU16},
    Dtype{"F16", FormatId::kF16},
    Dtype{"BF16", FormatId::kBF16},
    Dtype{"I32", FormatId::kI32},
    Dtype{"U32", FormatId::kU32},
    Dtype{"F32", FormatId::kF32},
    Dtype{"C64", FormatId::kC64},
    Dtype{"F64", FormatId::kF64},
    Dtype{"I64", FormatId::kI64},
    Dtype{"U64", FormatId::kU64},
};

}  // namespace

std::optional<FormatId> find_dtype(std::string_view name) {
  const auto at = std::ranges::find(kDtypes, name, &Dtype::name);
  return at == kDtypes.end() ? std::nullopt : std::optional(at->format);
}

std::string_view dtype_name(FormatId format) {
  const auto at = std::ranges::find(kDtypes, format, &Dtype::format);
  return at == kDtypes.end() ? std::string_view() : at->name;
}

std::string dtype_names() {
  std::string names;
  for (const Dtype& dtype : kDtypes) {
    names += names.empty() ? "" : ", ";
    names += dtype.name;
  }
  return names;
}

std::optional<std::int64_t> count_bytes(FormatId id, std::span<const std::int64_t> shape) {
  std::int64_t without_zeros = 1;  // a zero must not hide an overflow of the other extents
  bool is_empty = false;
  for (std::int64_t extent : shape) {
    is_empty = is_empty || extent == 0;
    if (__builtin_mul_overflow(without_zeros, std::max<std::int64_t>(extent, 1), &without_zeros)) {
      return std::nullopt;
    }
  }
  const Format& format = get_format(id);
  const std::int64_t elements = is_empty ? 0 : without_zeros;
  std::int64_t bytes = 0;
  if (elements % format.block_elems != 0 ||
      __builtin_mul_overflow(without_zeros / format.block_elems, format.block_bytes, &bytes)) {
    return std::nullopt;
  }
  return is_empty ? 0 : bytes;
}

}  // namespace ktjit::model::safetensors
