// A signal handler may do next to nothing: it writes a byte, and a thread that reads it does the
// rest.
#include "cli/interrupt.h"

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <system_error>
#include <unistd.h>

namespace ktjit::cli {
namespace {

constexpr std::uint64_t kInterrupted = 1;
constexpr std::uint64_t kQuit = std::uint64_t{1} << 32;  // eventfd adds up what is written

int g_event = -1;  // signal handlers reach nothing but globals
struct sigaction g_old_action{};

void tell(std::uint64_t what) {
  const int old_errno = errno;
  while (::write(g_event, &what, sizeof what) < 0 && errno == EINTR) {
  }
  errno = old_errno;
}

}  // namespace

Interrupt::Interrupt() {
  g_event = ::eventfd(0, EFD_CLOEXEC);
  if (g_event < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  listener_ = std::thread([stop = stop_]() mutable {
    std::uint64_t told = 0;
    while (told < kQuit) {
      if (::read(g_event, &told, sizeof told) < 0 && errno != EINTR) return;
      if (told % kQuit != 0) stop.request_stop();
    }
  });
  struct sigaction action{};
  action.sa_handler = [](int) { tell(kInterrupted); };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, &g_old_action);
}

Interrupt::~Interrupt() {
  ::sigaction(SIGINT, &g_old_action, nullptr);
  tell(kQuit);
  listener_.join();
  ::close(g_event);
}

std::string interrupted_line(const BuildProgress& build, const Options& options) {
  const bool kept = options.cache_enabled && !options.cache_dir.empty();
  return fmt::format("interrupted: {} of {} kernels {}", build.done, build.total,
                     kept ? "are in the cache" : "were ready, and no cache keeps them");
}

}  // namespace ktjit::cli
