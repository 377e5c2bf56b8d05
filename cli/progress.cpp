#include "cli/progress.h"

#include <cstdio>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

#include "cli/output.h"

namespace ktjit::cli {
namespace {

constexpr std::size_t kBarCells = 24;
constexpr std::chrono::milliseconds kDrawInterval(100);
constexpr std::chrono::seconds kFirstLine(5);
constexpr std::chrono::seconds kLineInterval(10);

std::size_t terminal_columns() {
  constexpr std::size_t kUsual = 80;
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsual;
  return size.ws_col;
}

void write_stderr(std::string_view text) {
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
  (void)std::fflush(stderr);
}

/// The front of `text` that fits, cut between code points.
std::string_view cut_to_width(std::string_view text, std::size_t columns) {
  std::size_t width = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool starts_code_point = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (starts_code_point && width++ == columns) return text.substr(0, i);
  }
  return text;
}

}  // namespace

Progress::Progress(std::string unit, Elsewhere elsewhere)
    : unit_(std::move(unit)),
      draws_(stderr_is_terminal()),
      prints_lines_(!draws_ && elsewhere == Elsewhere::kPlainLines),
      next_line_(Clock::now() + kFirstLine) {}

Progress::~Progress() { erase(); }

void Progress::erase() {
  if (drawn_) write_stderr("\r\x1b[K");
  drawn_ = false;
}

void Progress::update(std::size_t done, std::size_t total, std::string_view name) {
  const Clock::time_point now = Clock::now();
  if (!std::exchange(started_, true)) {
    start_ = now;
    done_at_start_ = done;
  }
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done - done_at_start_) / seconds : 0;
  show(done, total,
       rate > 0 ? fmt::format(", {:.1f}/s, {:.0f} s left", rate,
                              static_cast<double>(total - done) / rate)
                : "",
       name);
}

void Progress::update(const BuildProgress& build) {
  show(build.done, build.total,
       build.seconds_left ? fmt::format(", {:.0f} s left", *build.seconds_left) : "", build.last);
}

void Progress::show(std::size_t done, std::size_t total, const std::string& pace,
                    std::string_view name) {
  if (total == 0) return;
  const Clock::time_point now = Clock::now();
  const std::string counts = fmt::format("{}/{} {}{}", done, total, unit_, pace);
  if (prints_lines_ && now >= next_line_) {
    next_line_ = now + kLineInterval;
    write_stderr(counts + "\n");
  }
  if (!draws_ || (drawn_ && done < total && now - last_draw_ < kDrawInterval)) return;
  last_draw_ = now;
  drawn_ = true;
  const std::size_t filled = kBarCells * done / total;
  const std::string line =
      fmt::format("[{:#<{}}{: <{}}] {}  {}", "", filled, "", kBarCells - filled, counts, name);
  write_stderr(fmt::format("\r\x1b[K{}", cut_to_width(line, terminal_columns() - 1)));
}

}  // namespace ktjit::cli
