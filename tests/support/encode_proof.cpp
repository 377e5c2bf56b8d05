// Inputs go chunk by chunk, in the order of their bits, so that the codes that are expected are a few runs.
#include "tests/support/encode_proof.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <vector>

#include "core/tensor_layout.h"
#include "jit/reference_encode.h"
#include "tests/support/kernel_cases.h"

namespace ktjit::test {
namespace {

constexpr std::uint64_t kInputs = std::uint64_t{1} << 32;
constexpr std::int64_t kCols = 65536;

/// One kernel and what it has to give.
struct Subject {
  std::string what;
  LoadedKernel kernel;
  std::vector<CodeRun> runs;
  int bits;
  std::int64_t wrong;
  double seconds;
};

/// The codes of the inputs from `first` on, one in a byte.
void fill_expected(const std::vector<CodeRun>& runs, std::uint64_t first,
                   std::vector<std::uint8_t>& codes) {
  auto run =
      std::upper_bound(runs.begin(), runs.end(), first,
                       [](std::uint64_t value, const CodeRun& r) { return value < r.first; });
  --run;
  const std::uint64_t end = first + codes.size();
  for (std::uint64_t at = first; at < end;) {
    const auto next = std::next(run);
    const std::uint64_t stop = next == runs.end() ? end : std::min<std::uint64_t>(next->first, end);
    std::memset(codes.data() + (at - first), run->code, stop - at);
    at = stop;
    run = next;
  }
}

/// As pack_codes, four codes at a time; in place, since packed codes never overtake the others.
void pack_in_place(std::vector<std::uint8_t>& codes, int bits) {
  if (bits == 8) return;
  std::uint8_t* out = codes.data();
  for (std::size_t i = 0; i < codes.size(); i += 4) {
    std::uint32_t quad = 0;
    for (unsigned j = 0; j < 4; ++j)
      quad |= std::uint32_t{codes[i + j]} << (static_cast<unsigned>(bits) * j);
    for (int byte = 0; byte < bits / 2; ++byte, quad >>= 8)
      *out++ = static_cast<std::uint8_t>(quad);
  }
  codes.resize(static_cast<std::size_t>(out - codes.data()));
}

/// Counts the codes that differ, and says which is the first.
void compare(Subject& subject, std::uint64_t first, const std::vector<std::uint8_t>& want,
             const std::vector<std::byte>& got, CheckResult& result) {
  if (std::memcmp(want.data(), got.data(), want.size()) == 0) return;
  const auto bits = static_cast<std::uint64_t>(subject.bits);
  const auto code_at = [bits](const auto* bytes, std::uint64_t i) {
    unsigned code = 0;
    for (std::uint64_t bit = 0; bit < bits; ++bit) {
      const std::uint64_t at = i * bits + bit;
      code |= (static_cast<unsigned>(bytes[at / 8]) >> (at % 8) & 1U) << bit;
    }
    return code;
  };
  for (std::uint64_t i = 0; i < want.size() * 8 / bits; ++i) {
    const unsigned wanted = code_at(want.data(), i);
    const unsigned given = code_at(got.data(), i);
    if (wanted == given) continue;
    ++subject.wrong;
    if (result.first_problem.empty()) {
      result.first_problem = fmt::format("{}: f32 {:#010x} has code {:#04x}, expected {:#04x}",
                                         subject.what, first + i, given, wanted);
    }
  }
}

/// Runs one kernel on the inputs from `first` on, which lie at `x`.
void check_chunk(const Place& place, runtime::Stream& stream, const runtime::Buffer& x,
                 std::uint64_t first, std::uint64_t chunk, Subject& subject, CheckResult& result) {
  const auto begin = std::chrono::steady_clock::now();
  const std::size_t bytes =
      static_cast<std::size_t>(chunk) * static_cast<std::size_t>(subject.bits) / 8;
  const auto w = place.device.allocate(bytes);
  const auto rows = static_cast<std::int64_t>(chunk) / kCols;
  const std::vector<std::uint64_t> arguments = {x.address(), w->address(),
                                                static_cast<std::uint64_t>(rows)};
  subject.kernel.launch(stream, rows, arguments);
  std::vector<std::uint8_t> want(chunk);
  fill_expected(subject.runs, first, want);
  pack_in_place(want, subject.bits);
  std::vector<std::byte> got(bytes);
  place.device.download(stream, *w, 0, got);
  stream.synchronize();
  compare(subject, first, want, got, result);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  subject.seconds += time.count();
}

}  // namespace

CheckResult check_all_f32(const Place& place, std::span<const FormatId> formats,
                          std::uint64_t chunk) {
  CheckResult result;
  std::vector<Subject> subjects;
  for (FormatId format : formats) {
    for (bool saturate : {true, false}) {
      KernelSpec spec = ktjit::make_spec(Op::kQuantize, format, std::nullopt, kCols, place.target);
      spec.saturate = saturate;
      subjects.push_back({.what = fmt::format("{}{} on {}", get_format(format).name,
                                              saturate ? ", saturating," : "", place.target.name()),
                          .kernel = place.engine.load(place.device, spec),
                          .runs = codes_of_all_f32(format, saturate),
                          .bits = code_bits(format),
                          .wrong = 0,
                          .seconds = 0});
    }
  }
  const auto stream = place.device.make_stream();
  std::vector<std::uint32_t> x(chunk);
  for (std::uint64_t first = 0; first < kInputs; first += chunk) {
    for (std::uint64_t i = 0; i < chunk; ++i) x[i] = static_cast<std::uint32_t>(first + i);
    const auto x_buffer =
        runtime::place_on_device(place.device, *stream, std::as_bytes(std::span(x)));
    for (Subject& subject : subjects)
      check_chunk(place, *stream, *x_buffer, first, chunk, subject, result);
  }
  for (const Subject& subject : subjects) {
    std::printf("%s: %llu inputs, %lld wrong, %.1f s\n", subject.what.c_str(),
                static_cast<unsigned long long>(kInputs), static_cast<long long>(subject.wrong),
                subject.seconds);
    result.kernels += 1;
    result.values += static_cast<std::int64_t>(kInputs);
    result.wrong += subject.wrong;
  }
  return result;
}

}  // namespace ktjit::test
