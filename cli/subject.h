// What a verb works on: a model file, or one tensor described by --format and --shape.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "cli/argument_parser.h"
#include "model/model.h"

namespace ktjit::cli {

/// Pages of zeros that take no memory: the bytes of a tensor that is only described.
class ZeroPages {
 public:
  /// Errors: UsageError if the address space has no room for them.
  explicit ZeroPages(std::size_t bytes);
  ~ZeroPages();
  ZeroPages(ZeroPages&& other) noexcept;
  ZeroPages& operator=(ZeroPages&& other) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

/// MODEL, or --format with --shape and perhaps scales.
struct SubjectOptions {
  std::string model;
  std::string format;
  std::string shape;
  std::string scale_block;
  std::string scale_type;

  void add_model(ArgumentParser& parser);        ///< MODEL
  void add_description(ArgumentParser& parser);  ///< --format, --shape, --scale-block, --scale-type
  void add_scales(ArgumentParser& parser);       ///< --scale-block, --scale-type

  bool describes_tensor() const { return !format.empty(); }
  /// The scales that were described. Errors: UsageError; SpecError for an unknown type.
  std::optional<ScaleGrid> scale_grid() const;
};

/// An open model, or one made of the described tensor.
class Subject {
 public:
  /// Errors: UsageError unless exactly one of model and format is given; as open_model; SpecError
  /// for formats and shapes that don't go together.
  explicit Subject(const SubjectOptions& options);

  const model::Model& model() const { return *model_; }
  /// For headings: the path, or "fp8_e4m3 4096x14336, scales 128x128 f32".
  const std::string& title() const { return title_; }
  /// Whether the tensor is only described, so that its values mean nothing.
  bool described() const { return !pages_.empty(); }

 private:
  void open_described(const SubjectOptions& options);

  std::string title_;
  std::vector<ZeroPages> pages_;  // before the model, whose tensors point into them
  std::optional<model::Model> model_;
};

}  // namespace ktjit::cli
