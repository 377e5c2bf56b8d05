#include "cache/trust.h"

#include <fmt/format.h>

namespace ktjit::cache {
namespace {

constexpr std::uint32_t kRootUser = 0;
constexpr std::uint32_t kGroupWrite = 0020;
constexpr std::uint32_t kOtherWrite = 0002;

}  // namespace

TrustError::TrustError(const std::string& path, const TrustProblem& problem)
    : Error(fmt::format("'{}' {}; {}", path, problem.reason, problem.cure)) {}

std::optional<TrustProblem> trust_problem(const std::string& path, const FileInfo& info,
                                          std::uint32_t user, bool shared) {
  if (info.mode & kOtherWrite) {
    return TrustProblem{fmt::format("can be written by every user (mode {:04o})", info.mode),
                        fmt::format("run: chmod o-w '{}'", path)};
  }
  if (shared) return std::nullopt;
  if (info.owner != user && info.owner != kRootUser) {
    return TrustProblem{fmt::format("belongs to user {}, not to user {} or root", info.owner, user),
                        "use a cache folder of your own, or declare this one shared"};
  }
  if (info.mode & kGroupWrite) {
    return TrustProblem{fmt::format("can be written by its group (mode {:04o})", info.mode),
                        fmt::format("run: chmod g-w '{}', or declare the cache shared", path)};
  }
  return std::nullopt;
}

}  // namespace ktjit::cache
