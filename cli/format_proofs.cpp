#include "cli/format_proofs.h"

#include <array>

namespace ktjit::cli {
namespace {

bool is_fp8(const Format& format) { return format.family == FormatFamily::kFp8; }
bool is_mx(const Format& format) { return format.family == FormatFamily::kMx; }
bool is_any(const Format&) { return true; }

constexpr std::array kGolden = {
    ProofTest{"CPU", "CPU dequant equals ggml's golden vectors bit for bit"},
    ProofTest{"GPU", "GPU dequant equals ggml's golden vectors bit for bit"},
    ProofTest{"GPU", "GPU runs Clang's code with the same bits as NVRTC's"}};
constexpr std::array kFp8Codes = {
    ProofTest{"CPU", "CPU decodes all 256 codes of each FP8 format"},
    ProofTest{"GPU", "GPU decodes all 256 codes of each FP8 format, by software and hardware"},
    ProofTest{"GPU", "GPU runs Clang's code with the same bits as NVRTC's"}};
constexpr std::array kFp8Scales = {
    ProofTest{"CPU", "CPU dequant applies scales of every shape and type"},
    ProofTest{"GPU", "GPU dequant applies scales of every shape and type"}};
constexpr std::array kMxCodes = {
    ProofTest{"CPU", "CPU decodes all codes and scales of mxfp4 and nvfp4"},
    ProofTest{"GPU", "GPU decodes all codes and scales of mxfp4 and nvfp4"},
    ProofTest{"GPU", "GPU runs Clang's code with the same bits as NVRTC's"}};
constexpr std::array kProducts = {
    ProofTest{"CPU", "CPU matvec stays within the f32 bound"},
    ProofTest{"CPU", "CPU matmul stays within the f32 bound"},
    ProofTest{"GPU", "GPU matvec stays within the f32 bound"},
    ProofTest{"GPU", "GPU matmul stays within the f32 bound, with every kind of tensor core"}};
constexpr std::array kCompiles = {
    ProofTest{"compilers", "NVRTC 13.0 compiles every kind of kernel without warnings"},
    ProofTest{"compilers",
              "NVRTC 12.9 compiles every kind of kernel for sm_60 to sm_72 without warnings"},
    ProofTest{"compilers", "Clang compiles every kind of kernel without warnings"},
    ProofTest{"compilers", "Clang's code for sm_61 has no f16 arithmetic, and for sm_60 no dp4a"},
    ProofTest{"compilers", "ptxas accepts Clang's text for sm_61"}};
constexpr std::array kCasts = {
    ProofTest{"CPU", "CPU narrows all f16 and bf16 values to FP8 bit for bit"},
    ProofTest{"GPU", "GPU narrows all f16 and bf16 values to FP8 bit for bit"},
    ProofTest{"GPU", "GPU runs Clang's code with the same bits as NVRTC's"}};
constexpr std::array kGroups = {ProofTest{"CPU", "CPU quantises groups bit for bit"},
                                ProofTest{"GPU", "GPU quantises groups bit for bit"}};

constexpr std::array kProofs = {
    Proof{"golden", "dequant to f32, f16 and bf16 equals vectors that ggml decoded, bit for bit",
          is_golden_format, false, kGolden},
    Proof{"all codes", "every code at every place of a run equals the format's definition", is_fp8,
          false, kFp8Codes},
    Proof{"all codes", "every pair of codes under every scale equals the format's definition",
          is_mx, false, kMxCodes},
    Proof{"scales", "scales of every shape and type, bit for bit", is_fp8, false, kFp8Scales},
    Proof{"products", "matvec and matmul stay within (cols / 16 + 16) 2^-24 sum abs(w x)", is_any,
          false, kProducts},
    Proof{"compiles", "every kind of kernel compiles without warnings for every target", is_any,
          false, kCompiles},
    Proof{"16-bit inputs", "all f16 and bf16 inputs give the nearest code, bit for bit", is_fp8,
          true, kCasts},
    Proof{"groups", "codes and scales of groups, bit for bit", is_fp8, true, kGroups},
};

}  // namespace

std::span<const Proof> all_proofs() { return kProofs; }

bool is_golden_format(const Format& format) {
  const bool is_float = format.id == FormatId::kF16 || format.id == FormatId::kBF16;
  return is_float || (format.family == FormatFamily::kGgml && format.id != FormatId::kQ8_1);
}

}  // namespace ktjit::cli
