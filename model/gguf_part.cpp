// The order of this text is the order of a GGUF file: header, metadata, tensor list, data.
#include "model/gguf_part.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <fmt/format.h>
#include <optional>
#include <set>
#include <span>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "model/byte_cursor.h"
#include "model/file_kind.h"
#include "model/gguf_format.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

struct Header {
  std::uint32_t version;
  std::uint64_t tensor_count;
  std::uint64_t metadata_count;
};

Header read_header(const MappedFile& file, ByteCursor& cursor) {
  constexpr std::string_view kMagic = "GGUF";
  if (!begins_like_gguf(file.bytes())) {
    const std::string_view start(reinterpret_cast<const char*>(file.bytes().data()), file.size());
    if (!start.empty() && kMagic.starts_with(start)) {
      cursor.fail(
          fmt::format("ends at byte {}, inside the magic 'GGUF': it is cut short", file.size()));
    }
    cursor.fail(fmt::format("is {}, expected a GGUF or a safetensors file",
                            describe_file(file.bytes())));
  }
  cursor.take<std::uint32_t>("the magic");
  const auto version = cursor.take<std::uint32_t>("the version");
  if (version != 0 && (version & 0xffff) == 0) {  // as llama.cpp tells a byte-swapped version
    cursor.fail(
        fmt::format("is a big-endian GGUF file (version field {:#010x}), expected a "
                    "little-endian one; convert it with gguf-py's gguf_convert_endian.py",
                    version));
  }
  if (version == 1) {
    cursor.fail(
        "is GGUF version 1, of August 2023, expected version 2 or 3; make it again from the "
        "original model");
  }
  if (version < gguf::kOldestVersion || version > gguf::kNewestVersion) {
    cursor.fail(fmt::format("is GGUF version {}, expected version 2 or 3", version));
  }
  const auto tensor_count = cursor.take<std::uint64_t>("the number of tensors");
  const auto metadata_count = cursor.take<std::uint64_t>("the number of metadata pairs");
  return {version, tensor_count, metadata_count};
}

// ---- metadata

template <typename T>
T read_scalar(ByteCursor& cursor, std::string_view what) {
  if constexpr (std::same_as<T, std::string>) {
    return std::string(cursor.take_text(what));
  } else if constexpr (std::same_as<T, bool>) {
    const auto byte = cursor.take<std::uint8_t>(what);
    if (byte > 1) cursor.fail(fmt::format("{} is a bool of value {}, expected 0 or 1", what, byte));
    return byte == 1;
  } else {
    return cursor.take<T>(what);
  }
}

template <typename T>
std::vector<T> read_array(ByteCursor& cursor, std::string_view what) {
  const auto count = cursor.take<std::uint64_t>(what);
  constexpr std::uint64_t kLeastBytes =
      std::same_as<T, std::string> ? sizeof(std::uint64_t) : sizeof(T);
  cursor.require_room(count, kLeastBytes, fmt::format("elements in {}", what));
  std::vector<T> array;
  array.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) array.push_back(read_scalar<T>(cursor, what));
  return array;
}

/// Calls `visitor` with std::type_identity<T> for the metadata type of that id; false if there is
/// none.
template <typename Visitor>
bool visit_type(std::uint32_t type_id, Visitor visitor) {
  const auto try_type = [&]<typename T>(std::type_identity<T> type) {
    if (type_id != gguf::type_id<T>()) return false;
    visitor(type);
    return true;
  };
  return try_type(std::type_identity<std::uint8_t>()) ||
         try_type(std::type_identity<std::int8_t>()) ||
         try_type(std::type_identity<std::uint16_t>()) ||
         try_type(std::type_identity<std::int16_t>()) ||
         try_type(std::type_identity<std::uint32_t>()) ||
         try_type(std::type_identity<std::int32_t>()) || try_type(std::type_identity<float>()) ||
         try_type(std::type_identity<bool>()) || try_type(std::type_identity<std::string>()) ||
         try_type(std::type_identity<std::uint64_t>()) ||
         try_type(std::type_identity<std::int64_t>()) || try_type(std::type_identity<double>());
}

MetadataValue read_value(ByteCursor& cursor, std::string_view what) {
  auto type_id = cursor.take<std::uint32_t>(what);
  const bool is_array = type_id == gguf::kArrayTypeId;
  if (is_array) {
    type_id = cursor.take<std::uint32_t>(what);
    if (type_id == gguf::kArrayTypeId) {
      cursor.fail(fmt::format("{} is an array of arrays, which ggml does not read", what));
    }
  }
  MetadataValue value;
  const bool is_known = visit_type(type_id, [&]<typename T>(std::type_identity<T>) {
    if (is_array) {
      value = read_array<T>(cursor, what);
    } else {
      value = read_scalar<T>(cursor, what);
    }
  });
  if (!is_known) {
    cursor.fail(fmt::format("{} has the unknown type id {}, expected 0 to 12", what, type_id));
  }
  return value;
}

void check_name(const ByteCursor& cursor, std::string_view name, std::string_view what) {
  if (name.empty()) cursor.fail(fmt::format("{} is empty", what));
  if (name.size() > gguf::kMaxKeyBytes) {
    cursor.fail(fmt::format("{} is {} bytes long, expected at most {}", what, name.size(),
                            gguf::kMaxKeyBytes));
  }
  if (!is_valid_utf8(name)) {
    cursor.fail(fmt::format("{} is '{}', expected UTF-8", what, escape_text(name)));
  }
  if (has_control_character(name)) {
    cursor.fail(fmt::format("{} is '{}', which has a control character", what, escape_text(name)));
  }
}

void check_text(const ByteCursor& cursor, std::string_view key, const MetadataValue& value,
                std::vector<std::string>& notes) {
  const std::size_t invalid = count_invalid_utf8(value);
  if (invalid == 0) return;
  if (!key.starts_with("tokenizer.")) {
    cursor.fail(fmt::format("metadata '{}' is {}, expected UTF-8", escape_text(key),
                            value_to_text(value, 4)));
  }
  notes.push_back(fmt::format("metadata '{}' has {} {} not UTF-8, shown with escapes",
                              escape_text(key), invalid,
                              invalid == 1 ? "string that is" : "strings that are"));
}

Metadata read_metadata(ByteCursor& cursor, std::uint64_t count, std::vector<std::string>& notes) {
  constexpr std::uint64_t kLeastPairBytes = 8 + 1 + 4 + 1;  // length, key, type, value
  cursor.require_room(count, kLeastPairBytes, "metadata pairs");
  Metadata metadata;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string key_name = fmt::format("the key of metadata pair {} of {}", i + 1, count);
    std::string key(cursor.take_text(key_name));
    check_name(cursor, key, key_name);
    MetadataValue value = read_value(cursor, fmt::format("metadata '{}'", escape_text(key)));
    check_text(cursor, key, value, notes);
    if (!metadata.add(key, std::move(value))) {
      cursor.fail(fmt::format("has the metadata key '{}' twice", escape_text(key)));
    }
  }
  return metadata;
}

std::uint32_t read_alignment(const ByteCursor& cursor, const Metadata& metadata) {
  const MetadataValue* value = metadata.find(gguf::kAlignmentKey);
  if (value == nullptr) return gguf::kDefaultAlignment;
  const auto* alignment = std::get_if<std::uint32_t>(value);
  if (alignment == nullptr) {
    cursor.fail(fmt::format("metadata 'general.alignment' is of type {}, expected u32",
                            value_type_name(*value)));
  }
  if (!gguf::is_valid_alignment(*alignment)) {
    cursor.fail(
        fmt::format("metadata 'general.alignment' is {}, expected a power of two that is a "
                    "multiple of 8",
                    *alignment));
  }
  return *alignment;
}

// ---- tensor list

struct RemovedType {
  std::uint32_t id;
  std::string_view name;
  std::string_view cure;
};

constexpr std::string_view kQuantiseAgain = "quantise the original model again";
constexpr std::string_view kUseQ4_0 = "quantise the original model again as q4_0";
constexpr std::string_view kUseIQ4_NL = "quantise the original model again as iq4_nl";

constexpr std::array kRemovedTypes = {
    RemovedType{4, "q4_2", kQuantiseAgain},    RemovedType{5, "q4_3", kQuantiseAgain},
    RemovedType{31, "q4_0_4_4", kUseQ4_0},     RemovedType{32, "q4_0_4_8", kUseQ4_0},
    RemovedType{33, "q4_0_8_8", kUseQ4_0},     RemovedType{36, "iq4_nl_4_4", kUseIQ4_NL},
    RemovedType{37, "iq4_nl_4_8", kUseIQ4_NL}, RemovedType{38, "iq4_nl_8_8", kUseIQ4_NL},
};

/// ggml's q2_0, 18 bytes for 64 elements; a fork uses the same id for FP8, a byte an element.
constexpr std::uint32_t kContestedTypeId = 42;

const Format& get_tensor_format(std::uint32_t type_id, const std::string& where) {
  if (const Format* format = find_ggml_format(type_id)) return *format;
  for (const RemovedType& removed : kRemovedTypes) {
    if (removed.id == type_id) {
      throw InputError(where, fmt::format("has type id {} ({}), which ggml removed; {}", type_id,
                                          removed.name, removed.cure));
    }
  }
  int newest = 0;
  for (const Format& format : all_formats()) newest = std::max(newest, format.ggml_type);
  throw InputError(where,
                   fmt::format("has the unknown type id {}, expected one of ggml's, 0 to {}; "
                               "a fork of ggml (ik_llama.cpp) or a newer one may have "
                               "written it",
                               type_id, newest));
}

/// Nothing on overflow. Neither is negative.
std::optional<std::int64_t> multiply(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// A tensor as the file lists it: its place is not checked yet.
struct ListedTensor {
  TensorInfo info;
  std::uint32_t type_id;
  std::uint64_t offset;  ///< from the begin of the data
  std::uint64_t bytes;
};

void read_shape(ByteCursor& cursor, TensorInfo& tensor, const std::string& where) {
  const auto n_dims = cursor.take<std::uint32_t>("the tensor list");
  if (n_dims < 1 || n_dims > gguf::kMaxDims) {
    throw InputError(where,
                     fmt::format("has {} dimensions, expected 1 to {}", n_dims, gguf::kMaxDims));
  }
  tensor.n_dims = static_cast<int>(n_dims);
  std::optional<std::int64_t> product = 1;
  for (std::size_t i = 0; i < n_dims; ++i) {
    const auto extent = cursor.take<std::int64_t>("the tensor list");
    if (extent < 0) {
      throw InputError(
          where, fmt::format("has the extent {} in dimension {}, expected 0 or more", extent, i));
    }
    tensor.ne[i] = extent;
    // A zero must not hide an overflow of the other extents: rows() multiplies only some of them.
    if (product) product = multiply(*product, std::max<std::int64_t>(extent, 1));
  }
  if (!product) {
    throw InputError(
        where, fmt::format("has the shape {}, more than 2^63 - 1 elements", shape_to_text(tensor)));
  }
}

std::uint64_t count_bytes(const TensorInfo& tensor, const Format& format,
                          const std::string& where) {
  if (tensor.cols() % format.block_elems != 0) {
    throw InputError(
        where, fmt::format("has {} columns, not a multiple of {}, the block of {}{}", tensor.cols(),
                           format.block_elems, format.name,
                           format.ggml_type == kContestedTypeId
                               ? "; some forks of ggml use its type id 42 for an FP8 type"
                               : ""));
  }
  const auto bytes = multiply(tensor.elements() / format.block_elems, format.block_bytes);
  if (!bytes) {
    throw InputError(where, fmt::format("has the shape {} in {}, more than 2^63 - 1 bytes",
                                        shape_to_text(tensor), format.name));
  }
  return static_cast<std::uint64_t>(*bytes);
}

std::vector<ListedTensor> read_tensor_list(const MappedFile& file, ByteCursor& cursor,
                                           std::uint64_t count) {
  constexpr std::uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
  cursor.require_room(count, kLeastTensorBytes, "tensors");
  std::vector<ListedTensor> tensors;
  std::set<std::string_view> names;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string name_name = fmt::format("the name of tensor {} of {}", i + 1, count);
    const std::string_view name = cursor.take_text(name_name);
    check_name(cursor, name, name_name);
    if (!names.insert(name).second) {
      cursor.fail(fmt::format("has the tensor '{}' twice", escape_text(name)));
    }
    const std::string where = tensor_place(file.path(), name);
    ListedTensor tensor{};
    tensor.info.name = name;
    read_shape(cursor, tensor.info, where);
    tensor.type_id = cursor.take<std::uint32_t>("the tensor list");
    const Format& format = get_tensor_format(tensor.type_id, where);
    tensor.info.format = format.id;
    tensor.bytes = count_bytes(tensor.info, format, where);
    tensor.offset = cursor.take<std::uint64_t>("the tensor list");
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// ---- data

/// Where the data of one file lies, and what there is to say about a tensor whose place is wrong.
struct DataSection {
  const std::filesystem::path& path;
  std::uint64_t file_size;
  std::uint64_t begin;  ///< may lie past the end of a file without data
  std::uint64_t alignment;

  std::uint64_t bytes_from(std::uint64_t offset) const {
    return begin > file_size || offset > file_size - begin ? 0 : file_size - begin - offset;
  }
};

bool is_fp8_span(const ListedTensor& tensor, std::uint64_t span_bytes, std::uint64_t alignment) {
  const auto elements = static_cast<std::uint64_t>(tensor.info.elements());
  // More than q2_0 and its padding take, and an element a byte up to padding.
  return tensor.type_id == kContestedTypeId &&
         span_bytes > gguf::align_up(tensor.bytes, alignment) && span_bytes >= elements &&
         span_bytes - elements < alignment;
}

[[noreturn]] void fail_span(const DataSection& data, const ListedTensor& tensor,
                            std::uint64_t span_bytes, std::string_view up_to) {
  const std::string where = tensor_place(data.path, tensor.info.name);
  const std::string_view format = get_format(tensor.info.format).name;
  const std::string takes =
      fmt::format("takes {} bytes as {} {}", tensor.bytes, format, shape_to_text(tensor.info));
  if (is_fp8_span(tensor, span_bytes, data.alignment)) {
    throw InputError(where,
                     fmt::format("{}, but the file gives it {}, one byte an element: type id "
                                 "42 is q2_0 in ggml and an FP8 type in a fork, which seems "
                                 "to have written this file; convert it with that fork",
                                 takes, span_bytes));
  }
  throw InputError(where, fmt::format("{}, but the file gives it {} up to {}: its type id {}, its "
                                      "shape or its offset is wrong",
                                      takes, span_bytes, up_to, tensor.type_id));
}

void check_place(const DataSection& data, const ListedTensor& tensor) {
  const std::string where = tensor_place(data.path, tensor.info.name);
  if (tensor.offset % data.alignment != 0) {
    throw InputError(where, fmt::format("has the offset {}, not a multiple of the alignment {}",
                                        tensor.offset, data.alignment));
  }
  const std::uint64_t available = data.bytes_from(tensor.offset);
  if (tensor.bytes > available) {
    throw InputError(
        where,
        fmt::format("takes {} bytes as {} {}, but the file, of {} bytes, has {} for it: it is "
                    "cut short or damaged",
                    tensor.bytes, get_format(tensor.info.format).name, shape_to_text(tensor.info),
                    data.file_size, available));
  }
}

/// Checks that the tensors fill the data without overlap or gap, in whatever order. A type id that
/// means another format to the file's writer shows up here, as a span of the wrong length.
void check_spans(const DataSection& data, const std::vector<ListedTensor>& tensors,
                 std::vector<std::string>& notes) {
  std::vector<const ListedTensor*> by_offset;
  for (const ListedTensor& tensor : tensors) by_offset.push_back(&tensor);
  // Tensors without bytes share their offset with the next one.
  std::stable_sort(by_offset.begin(), by_offset.end(),
                   [](const ListedTensor* a, const ListedTensor* b) {
                     return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes);
                   });
  const ListedTensor* previous = nullptr;
  for (const ListedTensor* tensor : by_offset) {
    if (previous == nullptr && tensor->offset != 0) {
      throw InputError(tensor_place(data.path, tensor->info.name),
                       fmt::format("is the first in the data and has the offset {}, expected 0",
                                   tensor->offset));
    }
    if (previous != nullptr) {
      const std::uint64_t span_bytes = tensor->offset - previous->offset;
      if (span_bytes != gguf::align_up(previous->bytes, data.alignment)) {
        fail_span(data, *previous, span_bytes,
                  fmt::format("tensor '{}'", escape_text(tensor->info.name)));
      }
    }
    previous = tensor;
  }
  if (previous == nullptr) return;
  const std::uint64_t last_span = data.bytes_from(previous->offset);
  if (is_fp8_span(*previous, last_span, data.alignment)) {
    fail_span(data, *previous, last_span, "the end of the file");
  }
  if (last_span - previous->bytes >= data.alignment) {
    notes.push_back(fmt::format("{} has {} bytes after its last tensor that belong to none",
                                data.path.string(), last_span - previous->bytes));
  }
}

}  // namespace

std::string tensor_place(const std::filesystem::path& path, std::string_view name) {
  return fmt::format("{}: tensor '{}'", path.string(), escape_text(name));
}

GgufPart read_gguf_part(const std::filesystem::path& path) {
  GgufPart part(path);
  ByteCursor cursor(part.file);
  const Header header = read_header(part.file, cursor);
  part.version = header.version;
  part.metadata = read_metadata(cursor, header.metadata_count, part.notes);
  part.alignment = read_alignment(cursor, part.metadata);
  std::vector<ListedTensor> listed = read_tensor_list(part.file, cursor, header.tensor_count);

  const DataSection data{path, part.file.size(), gguf::align_up(cursor.position(), part.alignment),
                         part.alignment};
  for (const ListedTensor& tensor : listed) check_place(data, tensor);
  check_spans(data, listed, part.notes);
  for (ListedTensor& tensor : listed) {
    if (tensor.bytes != 0) {
      tensor.info.data = part.file.bytes().subspan(data.begin + tensor.offset, tensor.bytes);
    }
    part.tensors.push_back(std::move(tensor.info));
  }
  return part;
}

}  // namespace ktjit::model
