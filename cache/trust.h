// Who may have written what the cache is about to load. Entries are machine code: a root or an
// entry is used only if nobody but the user and root can have put it there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cache/file_system.h"
#include "core/error.h"

namespace ktjit::cache {

/// Why a file or folder is not trusted, and what its owner can do.
struct TrustProblem {
  std::string reason;
  std::string cure;
};

/// A root, or a folder below it, that is not trusted. Stays inside this folder, as FileError does.
class TrustError : public Error {
 public:
  TrustError(const std::string& path, const TrustProblem& problem);
};

/// Nothing if `info` (of `path`) belongs to `user` or to root and nobody else can write to it.
/// A shared root and what lies in it may belong to anybody and be writable by its group, never by
/// all.
std::optional<TrustProblem> trust_problem(const std::string& path, const FileInfo& info,
                                          std::uint32_t user, bool shared);

}  // namespace ktjit::cache
