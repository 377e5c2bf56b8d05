// Prepared weights taken back in the simulator: restored they are the native blocks they were made of, and dequant of
// them has the bits that dequant of the native blocks has.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/toolchain.h"
#include "tests/jit/simulator_machine.h"
#include "tests/support/golden_data.h"
#include "tests/support/kernel_inputs.h"

namespace ktjit {
namespace {

constexpr std::size_t kGuardBytes = 64;
constexpr std::byte kGuard{0xa5};

std::vector<FormatId> prepared_formats() {
  std::vector<FormatId> formats;
  for (const Format& format : all_formats()) {
    const PreparedLayout* layout = find_prepared_layout(format.id);
    if (layout != nullptr && !has_separate_scales(format.id)) formats.push_back(format.id);
  }
  return formats;
}

/// Whole blocks, the last unit cut where blocks allow it.
std::int64_t cut_cols(FormatId format) { return get_format(format).block_elems == 256 ? 768 : 640; }

/// The byte with the same five digits of base 3 that ggml's encoder would have written.
unsigned canonical_digits(unsigned byte, int digits) {
  unsigned number = 0;
  for (int n = 0; n < 5; ++n) {
    number = 3 * number + (n < digits ? byte * 3 >> 8 : 0);
    byte = byte * 3 & 255;
  }
  return (256 * number + 242) / 243;
}

/// The bytes that mean the same and that prepare takes for each other, as restore gives them.
test::Bytes canonical(FormatId format, test::Bytes bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = std::to_integer<unsigned>(bytes[i]);
    const auto in_block = i % static_cast<std::size_t>(get_format(format).block_bytes);
    if (format == FormatId::kTQ1_0 && in_block < 52) {
      bytes[i] = static_cast<std::byte>(canonical_digits(byte, in_block < 48 ? 5 : 4));
    }
    if (format == FormatId::kGgmlNvfp4 && in_block < 4 && byte == 0x80) bytes[i] = std::byte{0};
  }
  return bytes;
}

test::Bytes random_bytes(FormatId format, std::int64_t rows, std::int64_t cols) {
  std::mt19937 random(static_cast<unsigned>(rows + cols) + static_cast<unsigned>(format));
  test::Bytes bytes(static_cast<std::size_t>(rows * row_bytes(get_format(format), cols)));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() >> 24);
  return bytes;
}

struct Simulator : test::Simulator {
  std::unique_ptr<runtime::Stream> stream = device->make_stream();

  /// y of a kernel w -> y, whose memory ends with a guard.
  test::Bytes run(const KernelSpec& spec, const test::Bytes& w, std::int64_t rows,
                  std::int64_t y_bytes) {
    const LoadedKernel kernel = toolchain.engine().load(*device, spec);
    const auto from = device->allocate(w.size());
    const auto to = device->allocate(static_cast<std::size_t>(y_bytes) + kGuardBytes);
    device->upload(*stream, w, *from, 0);
    device->fill(*stream, *to, kGuard);
    const std::uint64_t arguments[] = {from->address(), to->address(),
                                       static_cast<std::uint64_t>(rows)};
    kernel.launch(*stream, rows, arguments);
    test::Bytes y(static_cast<std::size_t>(y_bytes) + kGuardBytes);
    device->download(*stream, *to, 0, y);
    stream->synchronize();
    CHECK(std::all_of(y.end() - kGuardBytes, y.end(), [](std::byte b) { return b == kGuard; }));
    y.resize(static_cast<std::size_t>(y_bytes));
    return y;
  }
};

KernelSpec prepared_spec(Op op, FormatId format, std::int64_t cols, std::string_view target) {
  KernelSpec spec = make_spec(op, format, {}, cols, parse_target(target, {}));
  spec.layout.kind = LayoutKind::kPrepared;
  return spec;
}

test::Bytes prepare(Simulator& simulator, const KernelSpec& reader, const test::Bytes& native,
                    std::int64_t rows) {
  return simulator.run(prepare_spec_of(reader).value(), native, rows,
                       prepared_bytes(reader.weight, rows, reader.layout.cols));
}

void check_restored(Simulator& simulator, const KernelSpec& restore, const test::Bytes& native,
                    std::int64_t rows) {
  const test::Bytes prepared = prepare(simulator, restore, native, rows);
  const test::Bytes restored =
      simulator.run(restore, prepared, rows, static_cast<std::int64_t>(native.size()));
  const test::Bytes want = canonical(restore.weight, native);
  const auto wrong = std::mismatch(restored.begin(), restored.end(), want.begin()).first;
  INFO(get_format(restore.weight).name << " on " << restore.target.name() << ", " << rows << " x "
                                       << restore.layout.cols << ": byte "
                                       << wrong - restored.begin() << " of " << want.size());
  CHECK(wrong == restored.end());
}

}  // namespace

TEST_CASE("restored weights of every format are byte for byte those that were prepared") {
  constexpr std::int64_t kRows = 37;  // the last tile cut
  Simulator simulator;
  CHECK(prepared_formats().size() >= 20);
  for (const char* target : {"sm_61", "sm_75", "sm_86", "sm_90a"}) {
    for (const FormatId format : prepared_formats()) {
      const std::int64_t cols = cut_cols(format);
      check_restored(simulator, prepared_spec(Op::kRestore, format, cols, target),
                     random_bytes(format, kRows, cols), kRows);
    }
  }
}

TEST_CASE("restored golden weights are ggml's, all bytes that its encoders wrote the same") {
  Simulator simulator;
  int entries = 0, quantised = 0;
  for (const test::GoldenEntry& golden : test::load_golden()) {
    const PreparedLayout* layout = find_prepared_layout(golden.format);
    if (layout == nullptr || has_separate_scales(golden.format)) continue;
    ++entries;
    const KernelSpec restore = prepared_spec(Op::kRestore, golden.format, golden.cols, "sm_86");
    const test::Bytes restored = canonical(golden.format, golden.encoded);
    for (std::int64_t row = 0; row < golden.rows; ++row) {
      if (!golden.row_kinds[static_cast<std::size_t>(row)].starts_with("quantised")) continue;
      const auto first = row * golden.row_bytes;
      INFO(golden.type << ", row " << row);
      CHECK(std::equal(restored.begin() + first, restored.begin() + first + golden.row_bytes,
                       golden.encoded.begin() + first));
      ++quantised;
    }
    check_restored(simulator, restore, golden.encoded, golden.rows);
  }
  CHECK(entries >= 20);
  CHECK(quantised >= 20);
}

TEST_CASE("the only bytes that restore changes mean the same in ggml") {
  // Each byte of a tq1_0 block, and each scale of an nvfp4 block, once.
  Simulator simulator;
  for (const FormatId format : {FormatId::kTQ1_0, FormatId::kGgmlNvfp4}) {
    constexpr std::int64_t kRows = 256, kCols = 256;
    const auto row = static_cast<std::size_t>(row_bytes(get_format(format), kCols));
    test::Bytes native(kRows * row);
    for (std::size_t i = 0; i < native.size(); ++i) native[i] = static_cast<std::byte>(i / row);
    check_restored(simulator, prepared_spec(Op::kRestore, format, kCols, "sm_86"), native, kRows);
    const KernelSpec dequant =
        make_spec(Op::kDequant, format, {}, kCols, parse_target("sm_86", {}));
    constexpr std::int64_t kYBytes = kRows * kCols * 4;
    CHECK(simulator.run(dequant, native, kRows, kYBytes) ==
          simulator.run(dequant, canonical(format, native), kRows, kYBytes));
  }
}

TEST_CASE("every scale of ggml's mxfp4 is restored") {
  Simulator simulator;
  constexpr std::int64_t kRows = 256, kCols = 32;
  test::Bytes native(kRows * 17, std::byte{0x21});
  for (std::size_t row = 0; row < kRows; ++row) native[17 * row] = static_cast<std::byte>(row);
  check_restored(simulator, prepared_spec(Op::kRestore, FormatId::kGgmlMxfp4, kCols, "sm_86"),
                 native, kRows);
}

TEST_CASE("dequant of prepared weights has the bits of dequant of native ones") {
  constexpr std::int64_t kRows = 21;
  constexpr std::array kTargets = {"sm_61", "sm_75", "sm_86", "sm_90a"};
  Simulator simulator;
  std::size_t turn = 0;
  for (const FormatId format : prepared_formats()) {
    const std::int64_t cols = cut_cols(format);
    const test::Bytes native = random_bytes(format, kRows, cols);
    for (const FormatId y_format : {FormatId::kF32, FormatId::kF16, FormatId::kBF16}) {
      KernelSpec spec =
          prepared_spec(Op::kDequant, format, cols, kTargets[turn++ % kTargets.size()]);
      spec.y_format = y_format;
      KernelSpec of_native = spec;
      of_native.layout.kind = LayoutKind::kNative;
      const std::int64_t y_bytes = kRows * row_bytes(get_format(y_format), cols);
      const test::Bytes prepared = prepare(simulator, spec, native, kRows);
      INFO(kernel_name(spec) << " on " << spec.target.name());
      CHECK(simulator.run(spec, prepared, kRows, y_bytes) ==
            simulator.run(of_native, native, kRows, y_bytes));
    }
  }
}

TEST_CASE("restore takes prepared weights, on every target") {
  KernelSpec spec = prepared_spec(Op::kRestore, FormatId::kQ4_K, 512, "sm_86");
  CHECK_NOTHROW(validate(spec));
  CHECK(kernel_name(spec) == "restore_q4_K_c512");
  CHECK(restore_spec_of(prepared_spec(Op::kMatvec, FormatId::kQ4_K, 512, "sm_86")) == spec);
  const auto refuses = [&](auto change) {
    KernelSpec changed = spec;
    change(changed);
    CHECK_THROWS_AS(validate(changed), SpecError);
  };
  refuses([](KernelSpec& s) { s.layout.kind = LayoutKind::kNative; });
  CHECK_NOTHROW(validate(prepared_spec(Op::kRestore, FormatId::kQ4_K, 512, "sm_60")));
  CHECK_THROWS_AS(validate(prepared_spec(Op::kMatvec, FormatId::kQ4_K, 512, "sm_60")), SpecError);
  refuses([](KernelSpec& s) { s.weight = FormatId::kQ8_K; });
  refuses([](KernelSpec& s) { s.layout.base_alignment_bytes = 4; });
  refuses([](KernelSpec& s) {
    s.target = make_cuda_target(90, "a");
    s.dependent_launch = true;
  });
  CHECK(get_layout("prepared") == LayoutKind::kPrepared);
  CHECK_THROWS_AS(get_layout("packed"), SpecError);
}

}  // namespace ktjit
