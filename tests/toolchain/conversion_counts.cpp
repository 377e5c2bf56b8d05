#include "tests/toolchain/conversion_counts.h"

#include <charconv>
#include <fmt/format.h>

#include "codegen/cuda_float_matvec.h"
#include "codegen/emitter.h"
#include "codegen/instruction_counts.h"
#include "core/error.h"
#include "jit/disassembler.h"
#include "tests/support/kernel_cases.h"
#include "tests/toolchain/sass_count.h"

namespace ktjit::test {
namespace {

constexpr std::int64_t kCols = 4096;  // a whole, even number of a warp's rounds

/// The kernel, or nothing if none serves the spec.
std::optional<codegen::EmittedKernel> try_emit(const KernelSpec& spec) {
  try {
    return codegen::emit(spec);
  } catch (const SpecError&) {
    return std::nullopt;
  }
}

std::vector<SassLine> compile_to_sass(const std::string& source, const std::string& entry,
                                      const Target& target, Compiler& compiler,
                                      const Options& options) {
  const Artifact cubin = compiler.compile({source, entry, target, ArtifactKind::kCubin});
  return parse_sass(disassemble(options, cubin.bytes));
}

/// The number behind `before` in a text.
int number_after(std::string_view text, std::string_view before) {
  const auto at = text.find(before);
  if (at == std::string_view::npos) KTJIT_UNREACHABLE("a kernel with that constant");
  int number = 0;
  const char* begin = text.data() + at + before.size();
  const auto [rest, error] = std::from_chars(begin, text.data() + text.size(), number);
  KTJIT_CHECK(error == std::errc());
  return number;
}

/// All of the main loop less one multiply-add for each weight and the loop's compare; its branch back
/// is not in it.
CountedConversion count_matvec_loop(const codegen::EmittedKernel& kernel, const Target& target,
                                    Compiler& compiler, const Options& options) {
  const std::string_view text = kernel.source;
  const auto loop_at = text.find("\n  for (int col = lane * kRun");
  KTJIT_CHECK(loop_at != std::string_view::npos);
  constexpr std::string_view kUnroll = "#pragma unroll ";
  const int rounds = number_after(text.substr(text.rfind(kUnroll, loop_at)), kUnroll);
  const int elements =
      number_after(text, "kRun = ") * number_after(text, "kRowsPerWarp = ") * rounds;
  const SassCount loop = count_sass(
      longest_loop(compile_to_sass(kernel.source, kernel.entry_name, target, compiler, options)));
  KTJIT_CHECK(loop.instructions > elements);
  return {loop.instructions - elements - 1, loop.loads, elements};
}

/// A kernel of our own, which converts `quads` times four elements; "{0}" in the statement is which.
std::string probe_kernel(std::string_view name, std::string_view parameters,
                         std::string_view statement, int quads) {
  std::string text = fmt::format("extern \"C\" __global__ void {}({}) {{\n", name, parameters);
  for (int i = 0; i < quads; ++i) text += fmt::format(fmt::runtime(statement), i);
  return text + "}\n";
}

/// The difference of eight conversions and four, by kernels that take the emitted one's place.
CountedConversion count_probe(std::string_view emitted, std::string_view parameters,
                              std::string_view statement, const Target& target, Compiler& compiler,
                              const Options& options) {
  const std::string functions(emitted.substr(0, emitted.find("extern \"C\" __global__")));
  const std::vector<SassLine> lines =
      compile_to_sass(functions + probe_kernel("probe_8", parameters, statement, 8) +
                          probe_kernel("probe_4", parameters, statement, 4),
                      "probe_8", target, compiler, options);
  const SassCount eight = count_sass(function_of(lines, "probe_8"));
  const SassCount four = count_sass(function_of(lines, "probe_4"));
  KTJIT_CHECK(four.instructions > 0 && eight.instructions > four.instructions);
  return {eight.instructions - four.instructions, 0, 16};
}

std::optional<codegen::EmittedKernel> emit_pairs(const Conversion& conversion,
                                                 const Target& target) {
  KernelSpec spec = make_spec(Op::kMatmul, get_format(conversion.format).name, kCols, target);
  spec.weights_finite = conversion.weights_finite;
  spec.x_format = conversion.pairs;
  auto kernel = try_emit(spec);
  const auto has = [&](std::string_view text) {
    return kernel && kernel->source.find(text) != std::string::npos;
  };
  // bf16 activations are multiplied as f16 where there is no bf16 mma.
  const bool is_bf16_mma = has("mma.sync.aligned.m16n8k16.row.col.f32.bf16");
  if (!has("void fp8x4_to_pairs(") || is_bf16_mma != (conversion.pairs == FormatId::kBF16))
    return std::nullopt;
  return kernel;
}

}  // namespace

std::string Conversion::name() const {
  switch (kind) {
    case Kind::kDecode:
      return codegen::decode_conversion(format, weights_finite);
    case Kind::kPairs:
      return codegen::pair_conversion(format, pairs, weights_finite);
    case Kind::kEncode:
      return codegen::encode_conversion(format, saturate);
  }
  KTJIT_UNREACHABLE("a known kind");
}

std::vector<Conversion> all_conversions() {
  using enum Conversion::Kind;
  std::vector<Conversion> decodes, pairs, encodes;
  for (FormatId format : served_formats()) {
    const bool is_fp8 = get_format(format).family == FormatFamily::kFp8;
    for (bool finite : {false, true}) {
      if (finite && !is_fp8) continue;
      decodes.push_back({kDecode, format, finite});
      for (FormatId pair : {FormatId::kF16, FormatId::kBF16}) {
        if (is_fp8) pairs.push_back({kPairs, format, finite, pair});
      }
    }
  }
  for (const Format& format : all_formats()) {
    const KernelSpec spec = make_spec(Op::kQuantize, format.name, kCols, make_cuda_target(80));
    if (spec.scale || format.block_elems > 1 || !try_emit(spec)) continue;
    for (bool saturate : {true, false})
      encodes.push_back({.kind = kEncode, .format = format.id, .saturate = saturate});
  }
  decodes.insert(decodes.end(), pairs.begin(), pairs.end());
  decodes.insert(decodes.end(), encodes.begin(), encodes.end());
  return decodes;
}

std::optional<CountedConversion> count_conversion(const Conversion& conversion,
                                                  const Target& target, Compiler& compiler,
                                                  const Options& options) {
  using enum Conversion::Kind;
  const std::string_view name = get_format(conversion.format).name;
  if (conversion.kind == kDecode) {
    KernelSpec spec = make_spec(Op::kMatvec, name, kCols, target);
    // The kernel whose loop converts to f32, with its own choice of rows.
    if (codegen::takes_float_matvec(spec)) spec.tuning.rows_per_warp = 2;
    const auto plain = try_emit(spec);
    spec.weights_finite = conversion.weights_finite;
    const auto kernel = try_emit(spec);
    if (!kernel) return std::nullopt;
    if (spec.weights_finite && kernel->lowering.routine == plain->lowering.routine)
      return std::nullopt;
    return count_matvec_loop(*kernel, target, compiler, options);
  }
  if (conversion.kind == kPairs) {
    const auto kernel = emit_pairs(conversion, target);
    if (!kernel) return std::nullopt;
    if (conversion.weights_finite) {
      Conversion any = conversion;
      any.weights_finite = false;
      const auto plain = emit_pairs(any, target);
      if (plain && plain->lowering.summary == kernel->lowering.summary) return std::nullopt;
    }
    return count_probe(kernel->source, "const unsigned* codes, unsigned* pairs",
                       "  {{\n    unsigned low, high;\n    fp8x4_to_pairs(codes[{0}], low, high);\n"
                       "    pairs[2 * {0}] = low;\n    pairs[2 * {0} + 1] = high;\n  }}\n",
                       target, compiler, options);
  }
  KernelSpec spec = make_spec(Op::kQuantize, name, kCols, target);
  spec.saturate = conversion.saturate;
  const auto kernel = try_emit(spec);
  const auto has = [&](std::string_view function) {
    return kernel && kernel->source.find(function) != std::string::npos;
  };
  const char* statement = nullptr;
  if (has(" encode_quad(const float (&value)[4])")) {
    statement =
        "  {{\n    const float value[4] = {{x[4 * {0}], x[4 * {0} + 1], x[4 * {0} + 2], "
        "x[4 * {0} + 3]}};\n"
        "    codes[{0}] = encode_quad(value);\n  }}\n";
  } else if (has(" f32x2_to_fp8(float first, float second)")) {
    statement =
        "  codes[{0}] = f32x2_to_fp8(x[4 * {0}], x[4 * {0} + 1]) |\n"
        "      f32x2_to_fp8(x[4 * {0} + 2], x[4 * {0} + 3]) << 16;\n";
  } else {
    return std::nullopt;
  }
  return count_probe(kernel->source, "const float* x, unsigned* codes", statement, target, compiler,
                     options);
}

}  // namespace ktjit::test
