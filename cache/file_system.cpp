#include "cache/file_system.h"

#include <fmt/format.h>

namespace ktjit::cache {

FileError::FileError(std::string_view call, std::error_code code)
    : Error(fmt::format("{}: {}", call, code.message())), code_(code) {}

FileError::FileError(std::string_view call, int error_number)
    : FileError(call, std::error_code(error_number, std::generic_category())) {}

FileHandle::~FileHandle() {
  if (descriptor_ >= 0) owner_->close(descriptor_);
}

}  // namespace ktjit::cache
