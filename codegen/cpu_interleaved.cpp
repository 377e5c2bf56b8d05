// One skeleton of matvec around the codes and scales of each format, and integer products as the CPU has them.
#include "codegen/cpu_interleaved.h"

#include <algorithm>
#include <bit>
#include <fmt/format.h>
#include <string>
#include <vector>

#include "codegen/cpu_parts.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "core/error.h"
#include "core/interleaved_layout.h"

namespace ktjit::codegen {
namespace {

std::string number(std::int64_t value) { return fmt::format("{}", value); }

/// How codes_of of a format gives its columns: value = scale * (code - offset) - minimum.
struct CodeFacts {
  FormatId format;
  int group_cols;  ///< that share a scale
  int offset;
  int largest_code;
  bool has_minima = false;
  int codes_word = 0;  ///< kCodes of the text, if it has that
  int bits_word = 0;   ///< kBits
};

constexpr bool kMinima = true;

constexpr std::array kCodeFacts = {
    CodeFacts{FormatId::kQ4_0, 32, 8, 15, !kMinima, 4},
    CodeFacts{FormatId::kQ4_1, 32, 0, 15, kMinima, 8},
    CodeFacts{FormatId::kQ5_0, 32, 16, 31, !kMinima, 12, 4},
    CodeFacts{FormatId::kQ5_1, 32, 0, 31, kMinima, 16, 8},
    CodeFacts{FormatId::kQ8_0, 32, 128, 255, !kMinima, 4},
    CodeFacts{FormatId::kQ2_K, 16, 0, 3, kMinima, 5},
    CodeFacts{FormatId::kQ3_K, 16, 4, 7, !kMinima, 11},
    CodeFacts{FormatId::kQ4_K, 32, 0, 15, kMinima, 4},
    CodeFacts{FormatId::kQ5_K, 32, 0, 31, kMinima, 12, 4},
    CodeFacts{FormatId::kQ6_K, 16, 32, 63, !kMinima},
    CodeFacts{FormatId::kIQ4_NL, 32, 128, 241, !kMinima, 4},
    CodeFacts{FormatId::kIQ4_XS, 32, 128, 241, !kMinima, 2},
    CodeFacts{FormatId::kGgmlMxfp4, 32, 12, 24, !kMinima, 2},
    CodeFacts{FormatId::kGgmlNvfp4, 16, 12, 24, !kMinima},
    CodeFacts{FormatId::kTQ2_0, 256, 1, 2, !kMinima, 0},
};

const CodeFacts& facts_of(FormatId format) {
  const auto found = std::ranges::find(kCodeFacts, format, &CodeFacts::format);
  KTJIT_CHECK(found != kCodeFacts.end());
  return *found;
}

/// How the CPU multiplies codes by digits of x and adds up.
struct Products {
  std::string dot;  ///< variant of the piece
  int vector_bits;  ///< 512, 256, 128
  int digits;       ///< of x
  int digit_bits;
  int digit_words;  ///< of 32 bits, that hold a digit of four columns
  int run_words;    ///< words of four columns whose products a Partial holds
  std::string summary;

  int lanes() const { return vector_bits / 32; }
  int x_bits() const { return digits * digit_bits; }
};

/// Words of four columns whose products, two added up, 16 bits hold; a power of two, 0 if not even one.
int words_in_16_bits(int largest_code) {
  const int most = 32767 / (2 * 128 * largest_code);
  return static_cast<int>(std::bit_floor(static_cast<unsigned>(most)));
}

Products products_of(const KernelSpec& spec, const CodeFacts& facts) {
  const Target& target = spec.target;
  const bool is_a8 = spec.activation == ActivationPolicy::kA8;
  const int group_words = facts.group_cols / 4;
  const int byte_digits = is_a8 ? 1 : 3;
  if (target.has_cpu_feature("avx512vnni") && target.has_cpu_feature("avx512bw"))
    return {"vnni512", 512, byte_digits, 8, 1, group_words, "vpdpbusd, 16 rows"};
  if (target.has_cpu_feature("avxvnni") && target.has_cpu_feature("avx2"))
    return {"vnni256", 256, byte_digits, 8, 1, group_words, "vpdpbusd, 8 rows"};
  const int bits = target.has_cpu_feature("avx512bw") ? 512
                   : target.has_cpu_feature("avx2")   ? 256
                                                      : 128;
  const int run_words = std::min(words_in_16_bits(facts.largest_code), group_words);
  if (bits > 128 && run_words > 0) {
    return {
        "bytes", bits, byte_digits, 8, 1, run_words, fmt::format("vpmaddubsw, {} rows", bits / 32)};
  }
  // A group of 256 columns and codes of 8 bits leave 15 bits.
  return {"words",
          bits,
          is_a8 ? 1 : 2,
          is_a8 ? 15 : 12,
          2,
          group_words,
          fmt::format("pmaddwd, {} rows", bits / 32)};
}

/// Rows of x whose sums stay in registers.
int x_together(const KernelSpec& spec, const Products& products) {
  const int sums = products.vector_bits == 512 ? 12 : 6;
  const int most = static_cast<int>(std::bit_floor(static_cast<unsigned>(sums / products.digits)));
  return std::min(spec.x_columns, most);
}

FragmentVariants variants_for(const KernelSpec& spec, const CodeFacts& facts,
                              const Products& products) {
  const std::string f16 = spec.target.has_cpu_feature("f16c") ? "f16c" : "bits";
  const std::string bits = number(products.vector_bits);
  const std::string fma = spec.target.has_cpu_feature("fma") ? "fma" : "separate";
  const bool is_a8 = spec.activation == ActivationPolicy::kA8;
  return {{"f16_to_f32", f16},
          {"f16_run_to_f32", f16},
          {"f32_run_to_f16", f16},
          {"lanes_of_f16", f16},
          {"multiply_add_lanes", fma},
          {"madd_16", bits},
          {"madd_8", bits},
          {"dot", products.dot},
          {"scale_of_x", is_a8 ? "largest" : "power"},
          {"has_bits_of", is_a8 ? "8" : "16"},
          {"store_digits", products.digit_words == 1 ? "bytes" : "words"},
          {"look_up_lanes", spec.target.has_cpu_feature("ssse3") ? bits : "compare"},
          {"Head", facts.has_minima ? "minima" : "scales"},
          {"minimum_of", facts.has_minima ? "each" : "none"},
          {"x_at", std::string(get_format(spec.x_format).name)}};
}

/// Units of a row of w.
std::int64_t units_of(const KernelSpec& spec) {
  return (spec.layout.cols + kInterleavedCols - 1) / kInterleavedCols;
}

std::vector<Constant> constants_of(const KernelSpec& spec, const CodeFacts& facts,
                                   const Products& products) {
  const InterleavedLayout& layout = *find_interleaved_layout(spec.weight);
  const int parts = kInterleavedRows / products.lanes();
  const int words = layout.row_bytes() / 4;
  // Where arithmetic is slow beside memory the second-level cache takes what comes (EPYC, Zen 4, best of 11 passes of
  // 4096 x 4096 beside a read test: up to a third faster than 4 KB; where it is quick, as much slower).
  const bool is_slow = products.digits > 1 && facts.largest_code < 128;
  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols), "columns of w, and of each row of x"},
      {"kRun", "16", "columns of x converted at a time"},
      {"kXColumns", number(spec.x_columns), "rows of x that a launch can use"},
      {"kXTogether", number(x_together(spec, products)), "rows of x multiplied in one pass"},
      {"kUnits", number(units_of(spec)), "units of 256 columns, of a row"},
      {"kUnitBytes", number(layout.unit_bytes()), "of 16 rows"},
      {"kLanes", number(products.lanes()), "rows in a vector"},
      {"kParts", number(parts), "vectors of 16 rows"},
      {"kPartLines", number((words + parts - 1) / parts),
       "64 bytes asked for ahead with each part"},
      {"kPrefetchBytes", number(is_slow ? 16384 : 4096), "how far ahead"},
      {"kPrefetchLocality", number(is_slow ? 2 : 0), "of __builtin_prefetch"},
      {"kDigits", number(products.digits), "of each x"},
      {"kDigitBits", number(products.digit_bits), "with the sign"},
      {"kDigitWords", number(products.digit_words), "that hold a digit of four columns"},
      {"kXBits", number(products.x_bits()), "of an x"},
      {"kGroups", number(kInterleavedCols / facts.group_cols),
       "of a unit, whose columns share a scale"},
      {"kGroupWords", number(facts.group_cols / 4), "of four columns"},
      {"kRunWords", number(products.run_words), "of four columns, whose products a Partial holds"},
      {"kOffset", number(facts.offset), "code of the value 0"},
      {"kHasMinima", facts.has_minima ? "true" : "false", "value = scale * code - minimum",
       "bool"}};
  if (facts.codes_word != 0 || spec.weight == FormatId::kTQ2_0)
    constants.push_back({"kCodes", number(facts.codes_word), "first word of the codes"});
  if (facts.bits_word != 0)
    constants.push_back({"kBits", number(facts.bits_word), "first word of the codes' upper bits"});
  return constants;
}

/// The pieces of the matvec.
std::vector<std::string> fragments_of(const KernelSpec& spec) {
  std::vector<std::string> names = {fmt::format("load_x_{}", get_format(spec.x_format).name)};
  names.push_back("convert_unit");
  names.push_back(fmt::format("unit_{}", get_format(spec.weight).name));
  names.insert(names.end(), {"minimum_of", "multiply_unit", "multiply_any"});
  if (spec.bias && *spec.bias != FormatId::kF32)
    names.push_back(fmt::format("{}_to_f32", get_format(*spec.bias).name));
  if (spec.y_format != FormatId::kF32)
    names.push_back(fmt::format("f32_to_{}", get_format(spec.y_format).name));
  return names;
}

}  // namespace

EmittedKernel emit_interleaved_matvec(const KernelSpec& spec) {
  const CodeFacts& facts = facts_of(spec.weight);
  const Products products = products_of(spec, facts);
  Lowering lowering = get_lowering(spec.weight, spec.target);
  lowering.summary =
      fmt::format("interleaved rows, x as {} of {} bits, {}",
                  products.digits == 1 ? "integers" : fmt::format("{} digits", products.digits),
                  products.digit_bits, products.summary);
  TemplateValues values = header_values(spec);
  values.erase("scale_description");
  values["x_columns"] = number(spec.x_columns);
  values["x_name"] = get_format(spec.x_format).name;
  values["x_type"] = io_type(spec.x_format);
  values["y_name"] = get_format(spec.y_format).name;
  values["y_type"] = io_type(spec.y_format);
  values["bias_description"] = "";
  values["bias_member"] = "";
  if (spec.bias) {
    values["bias_description"] =
        fmt::format("//   bias     in   {}  [rows]\n", get_format(*spec.bias).name);
    values["bias_member"] = fmt::format("const {}* bias;\n  ", io_type(*spec.bias));
  }
  values["arch"] = cpu_description(spec.target, lowering.summary);
  values["constants"] = format_constants(constants_of(spec, facts, products));
  values["functions"] =
      FragmentLibrary::of("cpu").splice(fragments_of(spec), variants_for(spec, facts, products));
  values["y_value"] = y_value(spec, "total[r / kLanes][j][r % kLanes]", "row");
  LaunchShape launch;
  launch.rows_per_cta = kInterleavedRows;
  return {fill_template(get_template("cpu/interleaved_matvec.cpp.in"), values), kernel_name(spec),
          launch, lowering};
}

EmittedKernel emit_interleave(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  const InterleavedLayout& layout = *find_interleaved_layout(spec.weight);
  const bool is_prepare = spec.op == Op::kPrepare;
  TemplateValues values;
  values["kernel"] = kernel_name(spec);
  values["emitter_version"] = number(kEmitterVersion);
  values["weight_description"] = weight_text(spec, "rows");
  const std::string cols = number(spec.layout.cols);
  values["result_description"] = fmt::format("{}  [rows, {}]  {}", format.name, cols,
                                             is_prepare ? "interleaved" : "row-major");
  values["arch"] = cpu_description(spec.target, "bytes are moved");
  values["constants"] = format_constants(
      {{"kRowBytes", number(row_bytes(format, spec.layout.cols)), "of a native row"},
       {"kBlockBytes", number(format.block_bytes), "of a native block"},
       {"kBlocks", number(spec.layout.cols / format.block_elems), "of a row"},
       {"kUnits", number(units_of(spec)), "of a row, 256 columns each"},
       {"kUnitRows", number(kInterleavedRows), "side by side"},
       {"kUnitBlocks", number(layout.blocks()), "of a row of a unit"},
       {"kUnitWords", number(layout.row_bytes() / 4), "of a row of a unit"},
       {"kUnitBytes", "64 * kUnitWords", ""}});

  std::string copies;
  bool has_bits = false;
  int at = 0;
  for (const BlockField& field : layout.fields) {
    if (field.bytes == 0) break;
    const std::string block = fmt::format("block + b * kBlockBytes + {}", field.offset);
    const std::string lane = fmt::format("lane + {} + b * {}", at, field.bytes);
    const std::string& to = is_prepare ? lane : block;
    const std::string& from = is_prepare ? block : lane;
    if (field.is_bitwise) {
      KTJIT_CHECK(field.bytes == 4);
      copies += fmt::format("    store({}, {}(load<unsigned>({})));\n", to,
                            is_prepare ? "bits_to_bytes" : "bytes_to_bits", from);
      has_bits = true;
    } else {
      copies += fmt::format("    __builtin_memcpy({}, {}, {});\n", to, from, field.bytes);
    }
    at += field.bytes * layout.blocks();
  }
  values["copies"] = copies;
  std::vector<std::string> names;
  if (has_bits) names = {"load", "store", is_prepare ? "bits_to_bytes" : "bytes_to_bits"};
  values["functions"] = FragmentLibrary::of("cpu").splice(names, {});
  values["copy_comment"] = is_prepare ? "The fields of a row's blocks, sorted."
                                      : "A row's blocks, from their sorted fields.";
  values["copy_parameters"] = is_prepare ? "const unsigned char* block, unsigned char* lane"
                                         : "const unsigned char* lane, unsigned char* block";
  const std::string unit = "tile * (kUnits * (long long)kUnitBytes)";
  const std::string blocks = "row * kRowBytes + u * (kUnitBlocks * kBlockBytes)";
  if (is_prepare) {
    values["unit_declaration"] = fmt::format("unsigned char* unit = arguments->y + {};", unit);
    values["move_row"] = fmt::format(
        "        if (row < rows) copy_blocks(arguments->w + {}, (unsigned char*)words, blocks);\n"
        "        for (int w = 0; w < kUnitWords; ++w) __builtin_memcpy(unit + 64 * w + 4 * r, "
        "words "
        "+ w, 4);\n",
        blocks);
  } else {
    values["unit_declaration"] =
        fmt::format("const unsigned char* unit = arguments->w + {};", unit);
    values["move_row"] = fmt::format(
        "        if (row >= rows) break;\n"
        "        for (int w = 0; w < kUnitWords; ++w) __builtin_memcpy(words + w, unit + 64 * w + "
        "4 * "
        "r, 4);\n"
        "        copy_blocks((const unsigned char*)words, arguments->y + {}, blocks);\n",
        blocks);
  }
  Lowering lowering = get_lowering(spec.weight, spec.target);
  lowering.summary = "bytes are moved";
  LaunchShape launch;
  launch.rows_per_cta = kInterleavedRows;
  return {fill_template(get_template("cpu/interleave.cpp.in"), values), kernel_name(spec), launch,
          lowering};
}

}  // namespace ktjit::codegen
