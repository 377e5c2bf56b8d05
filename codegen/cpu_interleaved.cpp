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
#include "codegen/product_text.h"
#include "core/error.h"
#include "core/interleaved_layout.h"
#include "core/prepared_layout.h"

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
    CodeFacts{FormatId::kIQ3_S, 32, 15, 30, !kMinima, 2},
    CodeFacts{FormatId::kIQ3_XXS, 32, 62, 124, !kMinima, 2},
    CodeFacts{FormatId::kIQ2_S, 16, 43, 86, !kMinima, 3, 19},
    CodeFacts{FormatId::kIQ2_XS, 16, 43, 86, !kMinima, 3, 19},
    CodeFacts{FormatId::kIQ2_XXS, 32, 43, 86, !kMinima, 2, 18},
    CodeFacts{FormatId::kIQ1_M, 16, 9, 18, !kMinima, 3},
    CodeFacts{FormatId::kIQ1_S, 32, 9, 18, !kMinima, 2},
    CodeFacts{FormatId::kTQ1_0, 256, 1, 2, !kMinima, 1},
    CodeFacts{FormatId::kQ1_0, 128, 1, 2, !kMinima, 0, 1},
    CodeFacts{FormatId::kQ2_0, 64, 1, 3, !kMinima, 2},
};

/// Formats whose scales are nibbles, in the first words of a row of a unit.
struct NibbleScales {
  FormatId format;
  int word_of_d;
  int mask;
  const char* unit;
};

constexpr std::array kNibbleScales = {
    NibbleScales{FormatId::kIQ3_S, 1, 15, "1.0f"},
    NibbleScales{FormatId::kIQ3_XXS, 1, 15, "0.25f"},
    NibbleScales{FormatId::kIQ2_S, 2, 15, "0.125f"},
    NibbleScales{FormatId::kIQ2_XS, 2, 15, "0.125f"},
    NibbleScales{FormatId::kIQ2_XXS, 1, 15, "0.125f"},
    NibbleScales{FormatId::kIQ1_M, 2, 7, "0.125f"},
    NibbleScales{FormatId::kIQ1_S, 1, 7, "0.125f"},
};

const NibbleScales* find_nibble_scales(FormatId format) {
  const auto found = std::ranges::find(kNibbleScales, format, &NibbleScales::format);
  return found == kNibbleScales.end() ? nullptr : &*found;
}

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
          {"nibble_of_scale", spec.weight == FormatId::kIQ1_S ? "halves" : "neighbours"},
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
  const bool is_slow = products.digits > 1 && facts.largest_code < 128;
  const Prefetch prefetch = prefetch_of(spec.target, is_slow);
  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols), "columns of w, and of each row of x"},
      {"kRun", "16", "columns of x converted at a time"},
      {"kXTogether", number(x_together(spec, products)), "rows of x multiplied in one pass"},
      {"kUnits", number(units_of(spec)), "units of 256 columns, of a row"},
      {"kUnitBytes", number(layout.unit_bytes()), "of 16 rows"},
      {"kLanes", number(products.lanes()), "rows in a vector"},
      {"kParts", number(parts), "vectors of 16 rows"},
      {"kPartLines", number((words + parts - 1) / parts),
       "64 bytes asked for ahead with each part"},
      {"kPrefetchBytes", number(prefetch.bytes), "how far ahead"},
      {"kPrefetchLocality", number(prefetch.locality), "of __builtin_prefetch"},
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
  if (spec.op == Op::kMatvec)
    constants.push_back({"kXColumns", number(spec.x_columns), "rows of x that a launch can use"});
  if (facts.codes_word != 0 || spec.weight == FormatId::kTQ2_0)
    constants.push_back({"kCodes", number(facts.codes_word), "first word of the codes"});
  if (const NibbleScales* scales = find_nibble_scales(spec.weight)) {
    constants.push_back({"kWordOfD", number(scales->word_of_d), "whose lower half is d"});
    constants.push_back({"kScaleMask", number(scales->mask), "bits of a nibble that are a scale"});
    constants.push_back({"kScaleUnit", scales->unit, "scale = unit * d * (2 n + 1)", "float"});
  }
  if (facts.bits_word != 0)
    constants.push_back({"kBits", number(facts.bits_word), "first word of the codes' upper bits"});
  return constants;
}

Lowering lowering_of(const KernelSpec& spec, const Products& products) {
  Lowering lowering = get_lowering(spec.weight, spec.target);
  lowering.summary =
      fmt::format("interleaved rows, x as {} of {} bits, {}",
                  products.digits == 1 ? "integers" : fmt::format("{} digits", products.digits),
                  products.digit_bits, products.summary);
  return lowering;
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
  const Lowering lowering = lowering_of(spec, products);
  TemplateValues values = header_values(spec);
  values.erase("scale_description");
  values["x_columns"] = number(spec.x_columns);
  add_operand_values(spec, values);
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

EmittedKernel emit_interleaved_moe_matvec(const KernelSpec& spec) {
  const CodeFacts& facts = facts_of(spec.weight);
  const Products products = products_of(spec, facts);
  const Lowering lowering = lowering_of(spec, products);
  const bool has_gate = spec.gate != Gate::kNone;
  TemplateValues values = header_values(spec);
  for (const char* unused : {"weight_description", "scale_description", "cols"})
    values.erase(unused);
  values["tensor_descriptions"] = tensor_descriptions(spec);
  values["x_type"] = io_type(spec.x_format);
  values["arch"] = cpu_description(spec.target, lowering.summary);
  values["constants"] = format_constants(constants_of(spec, facts, products));
  std::vector<std::string> names = fragments_of(spec);
  if (has_gate) names.push_back(gate_fragment(spec));
  values["functions"] =
      FragmentLibrary::of("cpu").splice(names, variants_for(spec, facts, products));
  values["members"] = "";
  for (const LaunchArgument& argument : launch_order(spec))
    values["members"] += fmt::format("  {};\n", declaration(spec, argument, ""));

  values["products"] = "";
  const auto add_product = [&](const std::string& suffix) {
    values["products"] += fmt::format(
        "    F32Lanes total{0}[kParts];\n"
        "    multiply_tile(arguments->w{0} + unit, arguments->digits + j * kUnits, arguments->x + "
        "j * kCols, total{0});\n",
        suffix);
    std::string value = fmt::format("total{}[r / kLanes][r % kLanes]", suffix);
    if (!spec.bias) return value;
    const std::string bias = fmt::format("arguments->bias{}[expert * rows + row]", suffix);
    return value + " + " +
           (*spec.bias == FormatId::kF32
                ? bias
                : fmt::format("{}_to_f32({})", get_format(*spec.bias).name, bias));
  };
  std::string result;
  if (has_gate) {
    const std::string gate = add_product("_gate");
    result = fmt::format("activate({}) * ({})", gate, add_product("_up"));
  } else {
    result = add_product("");
  }
  const auto rounded = [&](const std::string& value) {
    return spec.y_format == FormatId::kF32
               ? value
               : fmt::format("f32_to_{}({})", get_format(spec.y_format).name, value);
  };
  values["y_value"] = rounded(result);
  values["nan"] = rounded("__builtin_nanf(\"\")");
  LaunchShape launch;
  launch.rows_per_cta = kInterleavedRows;
  launch.x_rows_per_cta = 1;
  return {fill_template(get_template("cpu/interleaved_moe.cpp.in"), values), kernel_name(spec),
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

  const std::string blocks = "row * kRowBytes + u * (kUnitBlocks * kBlockBytes)";
  std::string copies;
  std::vector<std::string> names;
  FragmentVariants variants;
  if (layout.has_planes()) {
    const PreparedLayout& prepared = *find_prepared_layout(spec.weight);
    const std::string codes_at = number((prepared.head_bytes + prepared.tail_bytes + 3) / 4 * 4);
    const std::string parts = fmt::format("lane, lane + {}", prepared.head_bytes);
    copies =
        "  alignas(64) unsigned char codes[256];\n"
        "  unsigned char whole[kUnitBlocks * kBlockBytes] = {};\n";
    copies += is_prepare ? fmt::format(
                               "  __builtin_memcpy(whole, block, blocks * kBlockBytes);\n"
                               "  take_row(whole, codes, {});\n"
                               "  store_planes(codes, lane + {});\n",
                               parts, codes_at)
                         : fmt::format(
                               "  load_planes(lane + {}, codes);\n"
                               "  give_row(codes, {}, whole);\n"
                               "  __builtin_memcpy(block, whole, blocks * kBlockBytes);\n",
                               codes_at, parts);
    const std::string planes = is_prepare ? "store_planes" : "load_planes";
    variants[planes] = number(prepared.code_bits());
    names = {fmt::format("{}_{}", is_prepare ? "take_row" : "give_row", format.name), planes};
  }
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
  values["copies"] =
      layout.has_planes()
          ? copies
          : fmt::format("  for (int b = 0; b < blocks; ++b) {{\n{}  }} // b: blocks of this unit\n",
                        copies);
  if (has_bits) names = {"load", "store", is_prepare ? "bits_to_bytes" : "bytes_to_bits"};
  values["functions"] = FragmentLibrary::of("cpu").splice(names, variants);
  if (layout.has_planes()) {
    values["copy_comment"] = is_prepare ? "A row's scales, then its codes in planes."
                                        : "A row's blocks, from its scales and planes of codes.";
  } else {
    values["copy_comment"] = is_prepare ? "The fields of a row's blocks, sorted."
                                        : "A row's blocks, from their sorted fields.";
  }
  values["copy_parameters"] = is_prepare ? "const unsigned char* block, unsigned char* lane"
                                         : "const unsigned char* lane, unsigned char* block";
  const std::string unit = "tile * (kUnits * (long long)kUnitBytes)";
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
