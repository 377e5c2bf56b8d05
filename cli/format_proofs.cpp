#include "cli/format_proofs.h"

#include <array>

#include "core/codebooks.h"
#include "core/kernel_spec.h"

namespace ktjit::cli {
namespace {

bool is_fp8(const Format& format) { return format.family == FormatFamily::kFp8; }
bool is_mx(const Format& format) { return format.family == FormatFamily::kMx; }
bool is_fp4(const Format& format) { return is_mx(format) && format.block_bytes == 16; }
bool is_fp6(const Format& format) { return is_mx(format) && !is_fp4(format); }
bool is_ggml(const Format& format) { return format.family == FormatFamily::kGgml; }
bool has_codebook(const Format& format) { return find_codebook(format.id) != nullptr; }
bool is_any(const Format&) { return true; }
bool is_product(const Format& format) { return !is_dequant_only(format.id); }
bool is_number(const Format& format) {
  return format.family == FormatFamily::kInteger || format.id == FormatId::kF64;
}
/// Floats that quantize makes, in blocks of MX and NV too.
bool is_narrow_float(const Format& format) { return !is_ggml(format); }

constexpr std::string_view kClang = "GPU runs Clang's code with the same bits as NVRTC's";

constexpr std::array kGolden = {
    ProofTest{"CPU", "CPU dequant equals ggml's golden vectors bit for bit"},
    ProofTest{"simulator", "simulated dequant equals ggml's golden vectors bit for bit"},
    ProofTest{"GPU", "GPU dequant equals ggml's golden vectors bit for bit"},
    ProofTest{"GPU", kClang}};
constexpr std::array kAnyBytes = {
    ProofTest{"CPU", "CPU dequant of any bytes in ggml's blocks equals the reference bit for bit"},
    ProofTest{"GPU", "GPU dequant of any bytes in ggml's blocks equals the reference bit for bit"}};
constexpr std::array kCodebooks = {
    ProofTest{"CPU", "CPU decodes every entry of every codebook"},
    ProofTest{"simulator", "simulated GPUs decode every entry of every codebook"},
    ProofTest{"GPU", "GPU decodes every entry of every codebook"}};
constexpr std::array kNumbers = {
    ProofTest{"CPU", "CPU dequant rounds integers and f64 once, to nearest even"},
    ProofTest{"simulator", "simulated dequant rounds integers and f64 once, to nearest even"},
    ProofTest{"GPU", "GPU dequant rounds integers and f64 once, to nearest even"},
    ProofTest{"GPU", kClang}};
constexpr std::array kFp8Codes = {
    ProofTest{"CPU", "CPU decodes all 256 codes of each FP8 format"},
    ProofTest{"simulator", "simulated GPUs decode all 256 codes of each FP8 format"},
    ProofTest{"GPU", "GPU decodes all 256 codes of each FP8 format, by software and hardware"},
    ProofTest{"GPU", kClang}};
constexpr std::array kFp8Scales = {
    ProofTest{"CPU", "CPU dequant applies scales of every shape and type"},
    ProofTest{"simulator", "simulated dequant applies scales of every shape and type"},
    ProofTest{"GPU", "GPU dequant applies scales of every shape and type"}};
constexpr std::array kFp4Codes = {
    ProofTest{"CPU", "CPU decodes all codes and scales of mxfp4 and nvfp4"},
    ProofTest{"simulator", "simulated GPUs decode all codes and scales of mxfp4 and nvfp4"},
    ProofTest{"GPU", "GPU decodes all codes and scales of mxfp4 and nvfp4"},
    ProofTest{"GPU", kClang}};
constexpr std::array kFp6Codes = {
    ProofTest{"CPU", "CPU decodes all codes and scales of mxfp6 and mxfp8"},
    ProofTest{"simulator", "simulated GPUs decode all codes of mxfp6 and mxfp8"},
    ProofTest{"GPU", "GPU decodes all codes and scales of mxfp6 and mxfp8"},
    ProofTest{"GPU", kClang}};
constexpr std::array kProducts = {
    ProofTest{"CPU", "CPU matvec stays within the f32 bound"},
    ProofTest{"CPU", "CPU matmul stays within the f32 bound"},
    ProofTest{"simulator", "simulated matvec stays within the f32 bound"},
    ProofTest{"simulator",
              "simulated matmul stays within the f32 bound, with every kind of tensor core"},
    ProofTest{"GPU", "GPU matvec stays within the f32 bound"},
    ProofTest{"GPU", "GPU matmul stays within the f32 bound, with every kind of tensor core"}};
constexpr std::array kCompiles = {
    ProofTest{"compilers", "NVRTC 13.0 compiles every kind of kernel without warnings"},
    ProofTest{"compilers",
              "NVRTC 12.9 compiles every kind of kernel for sm_60 to sm_72 without warnings"},
    ProofTest{"compilers", "Clang compiles every kind of kernel without warnings"},
    ProofTest{"compilers", "Clang's code for sm_61 has no f16 arithmetic, and for sm_60 no dp4a"},
    ProofTest{"compilers", "ptxas accepts Clang's text of every kind of kernel"}};
constexpr std::array kCasts = {
    ProofTest{"CPU", "CPU narrows all f16 and bf16 values to floats of 4 to 8 bits bit for bit"},
    ProofTest{"simulator",
              "simulated GPUs narrow all f16 and bf16 values to floats of 4 to 8 bits bit for bit"},
    ProofTest{"GPU", "GPU narrows all f16 and bf16 values to floats of 4 to 8 bits bit for bit"},
    ProofTest{"GPU", kClang}};
constexpr std::array kAllInputs = {ProofTest{
    "GPU", "GPU encodes all 2^32 f32 values to each float of 4 to 8 bits as its definition says"}};
constexpr std::array kGroups = {
    ProofTest{"CPU", "CPU quantises with scales and to ggml's blocks bit for bit"},
    ProofTest{"simulator", "simulated GPUs quantise groups bit for bit"},
    ProofTest{"GPU", "GPU quantises with scales and to ggml's blocks bit for bit"},
    ProofTest{"GPU", kClang}};

constexpr std::array kProofs = {
    Proof{"golden", "dequant to f32, f16 and bf16 equals vectors that ggml decoded, bit for bit",
          is_golden_format, false, kGolden},
    Proof{"any bytes",
          "dequant of blocks with every byte value at every place, and of random ones, equals the "
          "reference, bit for bit",
          is_ggml, false, kAnyBytes},
    Proof{"codebooks", "every entry under all kinds of signs and every scale, bit for bit",
          has_codebook, false, kCodebooks},
    Proof{"numbers", "halfway cases, the largest and the smallest numbers are rounded once",
          is_number, false, kNumbers},
    Proof{"all codes", "every code at every place of a run equals the format's definition", is_fp8,
          false, kFp8Codes},
    Proof{"all codes", "every pair of codes under every scale equals the format's definition",
          is_fp4, false, kFp4Codes},
    Proof{"all codes", "every code at every place under every scale equals the format's definition",
          is_fp6, false, kFp6Codes},
    Proof{"scales", "scales of every shape and type, bit for bit", is_fp8, false, kFp8Scales},
    Proof{"products", "matvec and matmul stay within (cols / 16 + 16) 2^-24 sum abs(w x)",
          is_product, false, kProducts},
    Proof{"compiles", "every kind of kernel compiles without warnings for every target", is_any,
          false, kCompiles},
    Proof{"16-bit inputs", "all f16 and bf16 inputs give the nearest code, bit for bit",
          is_narrow_float, true, kCasts},
    Proof{"all f32", "all 2^32 f32 inputs give the nearest code, bit for bit", is_narrow_float,
          true, kAllInputs},
    Proof{"blocks", "codes and scales of blocks, ggml's among them, bit for bit", is_any, true,
          kGroups},
};

}  // namespace

std::span<const Proof> all_proofs() { return kProofs; }

bool is_golden_format(const Format& format) {
  const bool is_float = format.id == FormatId::kF16 || format.id == FormatId::kBF16;
  return is_float || (format.family == FormatFamily::kGgml && format.id != FormatId::kQ8_1);
}

}  // namespace ktjit::cli
