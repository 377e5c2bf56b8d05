// Where the elements of a weight matrix lie in memory.
#pragma once

#include <cstdint>

#include "core/format.h"

namespace ktjit {

enum class LayoutKind {
  kNative,       ///< as in the file: rows one after another, each a run of whole blocks, no padding
  kPrepared,     ///< rearranged once by Op::kPrepare for matvec on GPUs: see core/prepared_layout.h
  kInterleaved,  ///< rearranged once by Op::kPrepare for matvec on CPUs: see core/interleaved_layout.h
};

/// A matrix [rows, cols] of one format. Rows are known at run time only.
struct TensorLayout {
  LayoutKind kind = LayoutKind::kNative;
  std::int64_t cols = 0;
  int base_alignment_bytes = 16;  ///< what the address of the first byte is a multiple of

  bool operator==(const TensorLayout&) const = default;
};

/// Bytes of one row. Errors: SpecError if `cols` is not positive or no whole number of blocks.
std::int64_t row_bytes(const Format& format, std::int64_t cols);

/// The largest power of two, at most `base_alignment_bytes`, that every row's address is a multiple
/// of.
int row_alignment_bytes(const Format& format, const TensorLayout& layout);

}  // namespace ktjit
