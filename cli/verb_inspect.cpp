// ktjit inspect: what a model file says about itself.
#include <algorithm>
#include <fmt/format.h>
#include <string_view>
#include <variant>

#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/subject.h"
#include "cli/table.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "core/prepared_layout.h"

namespace ktjit::cli {
namespace {

constexpr std::size_t kMaxArrayItems = 8;

struct FormatTotal {
  std::string format;
  double bits_per_element;
  std::size_t tensors = 0;
  std::uint64_t elements = 0;
  std::uint64_t bytes = 0;
};

/// "q4_K", "q4_K prepared as units_16x256 version 1".
std::string format_cell(const model::TensorInfo& tensor) {
  const std::string_view name = WeightFormat{tensor.format, tensor.scale_grid}.name();
  if (tensor.layout == LayoutKind::kNative) return std::string(name);
  return fmt::format("{} prepared as {} version {}", name, kPreparedLayoutName,
                     kPreparedLayoutVersion);
}

/// In the order of their first tensor.
std::vector<FormatTotal> totals_by_format(const model::Model& model) {
  std::vector<FormatTotal> totals;
  for (const model::TensorInfo& tensor : model.tensors()) {
    const std::string format = format_cell(tensor);
    auto total = std::find_if(totals.begin(), totals.end(), [&](const FormatTotal& candidate) {
      return candidate.format == format;
    });
    if (total == totals.end()) {
      const double bits =
          tensor.layout == LayoutKind::kNative
              ? get_format(tensor.format).bits_per_element()
              : 8.0 * static_cast<double>(tensor.bytes()) / static_cast<double>(tensor.elements());
      total = totals.insert(totals.end(), {format, bits});
    }
    ++total->tensors;
    total->elements += static_cast<std::uint64_t>(tensor.elements());
    total->bytes += tensor.bytes();
  }
  return totals;
}

template <class Item>
Json first_items(const std::vector<Item>& items) {
  Json array = Json::array();
  for (std::size_t i = 0; i < std::min(items.size(), kMaxArrayItems); ++i) {
    array.push_back(static_cast<Item>(items[i]));  // vector<bool> gives a proxy
  }
  return array;
}

template <class Scalar>
Json first_items(const Scalar& scalar) {
  return scalar;
}

/// The value with its JSON type; of an array the first items.
Json value_to_json(const model::MetadataValue& value) {
  return std::visit([](const auto& held) { return first_items(held); }, value);
}

Json to_json(const model::Model& model) {
  Json files = Json::array();
  for (const std::filesystem::path& file : model.files()) files.push_back(file.string());
  Json metadata = Json::array();
  for (const auto& [key, value] : model.metadata().entries()) {
    const std::size_t count = model::value_count(value);
    metadata.push_back({{"key", key},
                        {"type", model::value_type_name(value)},
                        {"count", count},
                        {"value", value_to_json(value)}});
  }
  Json tensors = Json::array();
  for (const model::TensorInfo& tensor : model.tensors()) {
    Json shape = Json::array();
    for (int i = 0; i < tensor.n_dims; ++i) shape.push_back(tensor.ne[static_cast<std::size_t>(i)]);
    tensors.push_back({{"name", tensor.name},
                       {"format", WeightFormat{tensor.format, tensor.scale_grid}.name()},
                       {"layout", layout_name(tensor.layout)},
                       {"shape", shape},
                       {"rows", tensor.rows()},
                       {"cols", tensor.cols()},
                       {"bytes", tensor.bytes()},
                       {"scales", scale_grid_name(tensor.scale_grid)},
                       {"scale_tensor", tensor.scale_name},
                       {"scale_bytes", tensor.scale_data.size()}});
  }
  Json totals = Json::array();
  for (const FormatTotal& total : totals_by_format(model)) {
    totals.push_back({{"format", total.format},
                      {"tensors", total.tensors},
                      {"elements", total.elements},
                      {"bytes", total.bytes}});
  }
  return {{"container", model.container()},
          {"version", model.version()},
          {"alignment", model.alignment()},
          {"files", files},
          {"file_bytes", model.file_bytes()},
          {"metadata", metadata},
          {"tensors", tensors},
          {"formats", totals},
          {"notes", model.notes()}};
}

/// With an empty line before it; nothing if the table is empty.
void append_table(std::string& text, const Table& table) {
  if (table.empty()) return;
  text += '\n';
  text += table.to_text();
}

void print_text(const model::Model& model) {
  std::string text;
  for (const std::filesystem::path& file : model.files()) text += file.string() + "\n";
  text += model.container();
  if (model.version() != 0) text += fmt::format(" version {}", model.version());
  text +=
      fmt::format(", {}, {}, {}, tensors aligned to {}\n", human_bytes(model.file_bytes()),
                  counted(model.metadata().entries().size(), "metadata pair"),
                  counted(model.tensors().size(), "tensor"), counted(model.alignment(), "byte"));
  Table metadata({{"metadata"}, {"type"}, {"value"}});
  for (const auto& [key, value] : model.metadata().entries()) {
    metadata.add_row(
        {key, model::value_type_name(value), model::value_to_text(value, kMaxArrayItems)});
  }
  append_table(text, metadata);
  Table tensors({{"tensor"},
                 {"format"},
                 {"scales"},
                 {"shape"},
                 {"bytes", Align::kRight},
                 {"size", Align::kRight}});
  for (const model::TensorInfo& tensor : model.tensors()) {
    tensors.add_row({tensor.name, format_cell(tensor),
                     tensor.scale_grid ? scale_grid_name(tensor.scale_grid) : "",
                     model::shape_to_text(tensor), fmt::format("{}", tensor.bytes()),
                     human_bytes(tensor.bytes())});
  }
  append_table(text, tensors);
  Table totals({{"format"},
                {"tensors", Align::kRight},
                {"size", Align::kRight},
                {"bits per weight", Align::kRight}});
  for (const FormatTotal& total : totals_by_format(model)) {
    totals.add_row({total.format, fmt::format("{}", total.tensors), human_bytes(total.bytes),
                    fmt::format("{:.2f}", total.bits_per_element)});
  }
  append_table(text, totals);
  for (const std::string& note : model.notes()) text += fmt::format("\nnote: {}", note);
  if (!model.notes().empty()) text += "\n";
  print(text);
}

}  // namespace

int run_inspect(const Arguments& arguments) {
  SubjectOptions subject_options;
  CommonOptions common;
  ArgumentParser parser(
      {"inspect MODEL [options]",
       "Prints metadata, tensors (shapes with the contiguous dimension first) and totals by "
       "format\n"
       "of a model: a GGUF file, any part of a split one, a safetensors file, any shard or the\n"
       "index of a checkpoint, or a folder with one model (safetensors with GGUF beside it is\n"
       "one). Scales are shown with the tensor that they belong to.\n",
       exit_code_help("the model is sound", {}, "the model is missing, damaged or something else"),
       "ktjit inspect sample.gguf"});
  subject_options.add_model(parser);
  common.add_json(parser);
  if (!parser.parse(arguments)) return kDone;
  const Subject subject(subject_options);
  if (common.json) {
    print_json(to_json(subject.model()));
  } else {
    print_text(subject.model());
  }
  return kDone;
}

}  // namespace ktjit::cli
