// Input tensors become sources with their names in the output, sources become jobs, jobs get their places.
#include "convert/conversion_plan.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>

#include "convert/model_config.h"
#include "convert/weight_job.h"

#include "core/error.h"
#include "model/checkpoint_config.h"
#include "model/safetensors_format.h"

namespace ktjit::convert {
namespace {

std::vector<std::int64_t> shape_of(const model::TensorInfo& tensor) {
  std::vector<std::int64_t> shape(tensor.ne.begin(), tensor.ne.begin() + tensor.n_dims);
  std::ranges::reverse(shape);
  return shape;
}

WeightSource whole(const model::TensorInfo& tensor) {
  return {tensor.name, shape_of(tensor), {{&tensor, 0, tensor.rows()}}, RowOrder::kAsIs, 0};
}

/// A source, and whether it goes into the output as ggml's bytes.
struct Planned {
  WeightSource source;
  bool is_raw = false;
};

class Planner {
 public:
  explicit Planner(const ConvertRequest& request) : request_(request), input_(*request.input) {}

  Conversion plan() {
    conversion_.kind = request_.kind;
    conversion_.container = request_.container;
    conversion_.inputs = {&input_};
    if (request_.experts != nullptr) conversion_.inputs.push_back(request_.experts);
    if (request_.scales != nullptr) conversion_.inputs.push_back(request_.scales);
    naming_before_ = naming_of(input_);
    naming_ = choose_naming();
    std::vector<Planned> sources = rename(gather());
    if (request_.experts != nullptr) sources = with_experts(std::move(sources));
    for (Planned& planned : sources) add_job(std::move(planned));
    if (conversion_.jobs.empty()) {
      throw InputError(input_.files().front().string(), "has no tensor that could be converted");
    }
    lay_out();
    add_notes();
    return std::move(conversion_);
  }

 private:
  std::string where() const { return input_.files().front().string(); }

  // ---- names

  /// Nothing: names stay as they are.
  std::optional<Naming> choose_naming() const {
    std::optional<Naming> wanted = request_.names;
    if (request_.container == Container::kGguf) {
      if (wanted == Naming::kHuggingFace) throw SpecError("names", "hf", "gguf in a GGUF file");
      wanted = Naming::kGguf;
    }
    if (request_.experts != nullptr) {
      if (wanted == Naming::kHuggingFace)
        throw SpecError("names", "hf", "gguf with experts of a GGUF model");
      wanted = Naming::kGguf;
    }
    if (!wanted || wanted == naming_before_) return std::nullopt;
    if (!naming_before_) {
      throw InputError(where(), "has names of neither kind, so they can't be translated");
    }
    return wanted;
  }

  /// The input's tensors as sources, in their order: those that were served matrix by matrix put together, and
  /// without what the output has no use for.
  std::vector<WeightSource> gather() {
    const auto layers = model::find_config_uint(input_.metadata(), "num_hidden_layers");
    std::vector<WeightSource> sources;
    for (const model::TensorInfo& tensor : input_.tensors()) {
      const auto layer = layer_of(tensor.name);
      const bool leaves_out_mtp = request_.experts != nullptr || naming_ == Naming::kGguf;
      if (leaves_out_mtp && layer && layers && static_cast<std::uint64_t>(*layer) >= *layers) {
        ++mtp_tensors_;
        continue;
      }
      if (request_.experts != nullptr && is_routed_expert(tensor.name)) continue;
      const std::size_t bracket =
          tensor.name.ends_with("]") ? tensor.name.rfind('[') : std::string::npos;
      if (bracket == std::string::npos) {
        sources.push_back(whole(tensor));
        continue;
      }
      const std::string name = tensor.name.substr(0, bracket);
      if (sources.empty() || sources.back().name != name) {
        sources.push_back(whole(tensor));
        sources.back().name = name;
        sources.back().shape.insert(sources.back().shape.begin(), 1);
      } else {
        sources.back().parts.push_back({&tensor, 0, tensor.rows()});
        ++sources.back().shape[0];
      }
    }
    return sources;
  }

  std::vector<Planned> rename(std::vector<WeightSource> sources) {
    std::vector<Planned> result;
    if (!naming_) {
      for (WeightSource& source : sources) result.push_back({std::move(source)});
      return result;
    }
    architecture_ = &find_architecture(input_);
    if (*naming_ == Naming::kHuggingFace) {
      for (const WeightSource& source : sources) add_hugging_face(source, result);
    } else {
      for (const WeightSource& source : sources) add_gguf(source, result);
      check_stacks(result);
    }
    return result;
  }

  void add_hugging_face(const WeightSource& source, std::vector<Planned>& result) {
    if (source.name.starts_with("rope_")) {  // rope_scaling of config.json says it
      if (request_.kind == OutputKind::kFile) left_out_.insert(source.name);
      return;
    }
    const auto name = to_hugging_face_name(source.name);
    if (!name) {
      const bool is_split = source.name.find(".attn_k_b.") != std::string::npos ||
                            source.name.find(".attn_v_b.") != std::string::npos;
      throw InputError(
          fmt::format("{}: tensor '{}'", where(), source.name),
          fmt::format(
              "has no counterpart among the names of Hugging Face's {}{}",
              architecture_->model_type,
              is_split ? ": kv_b_proj is stored in two parts, one of them transposed" : ""));
    }
    WeightSource renamed = source;
    set_order(renamed, RowOrder::kDeinterleave);
    const std::size_t hole = name->find("{}");
    if (hole == std::string::npos) {
      renamed.name = *name;
      result.push_back({std::move(renamed)});
      return;
    }
    for (std::int64_t expert = 0; expert < source.matrices(); ++expert) {
      WeightSource one = source;
      one.name = fmt::format("{}{}{}", name->substr(0, hole), expert, name->substr(hole + 2));
      one.shape = {source.rows(), source.cols()};
      one.parts = {part_of(source, expert)};
      result.push_back({std::move(one)});
    }
  }

  static RowRange part_of(const WeightSource& source, std::int64_t matrix) {
    std::int64_t row = matrix * source.rows();
    for (const RowRange& part : source.parts) {
      if (row < part.rows) return {part.tensor, part.first_row + row, source.rows()};
      row -= part.rows;
    }
    KTJIT_UNREACHABLE("a matrix of the source");
  }

  void add_gguf(const WeightSource& source, std::vector<Planned>& result) {
    if (source.name.ends_with(".rotary_emb.inv_freq")) {
      left_out_.insert(source.name);
      return;
    }
    const auto name = to_gguf_name(source.name);
    if (!name) {
      throw InputError(
          fmt::format("{}: tensor '{}'", where(), source.name),
          fmt::format("has no counterpart among GGUF's names of {}", architecture_->gguf));
    }
    WeightSource renamed = source;
    renamed.name = name->name;
    set_order(renamed, RowOrder::kInterleave);
    if (!name->expert) {
      result.push_back({std::move(renamed)});
      return;
    }
    const auto [at, is_new] = stacks_.emplace(name->name, Stack{result.size(), {}});
    if (is_new) {
      renamed.parts.clear();
      renamed.shape.insert(renamed.shape.begin(), 0);
      result.push_back({std::move(renamed)});
    }
    if (std::vector<std::int64_t>{source.rows(), source.cols()} !=
        std::vector<std::int64_t>(result[at->second.index].source.shape.begin() + 1,
                                  result[at->second.index].source.shape.end())) {
      throw InputError(fmt::format("{}: tensor '{}'", where(), source.name),
                       "has another shape than the experts before it");
    }
    at->second.parts[*name->expert] = source.parts.at(0);
  }

  struct Stack {
    std::size_t index;
    std::map<std::int64_t, RowRange> parts;  ///< by expert
  };

  void check_stacks(std::vector<Planned>& result) {
    for (const auto& [name, stack] : stacks_) {
      WeightSource& source = result[stack.index].source;
      for (const auto& [expert, part] : stack.parts) {
        if (expert != source.shape[0]) {
          throw InputError(where(), fmt::format("lacks expert {} of '{}'", source.shape[0], name));
        }
        source.parts.push_back(part);
        ++source.shape[0];
      }
    }
  }

  /// q and k of a llama.
  void set_order(WeightSource& source, RowOrder order) const {
    if (!architecture_->permutes_heads) return;
    const std::string gguf = source.name.starts_with("blk.")
                                 ? source.name
                                 : to_gguf_name(source.name).value_or(TranslatedName{}).name;
    const bool is_q = gguf.find(".attn_q.") != std::string::npos;
    const bool is_k = gguf.find(".attn_k.") != std::string::npos;
    if (!is_q && !is_k) return;
    const auto heads = head_count(is_q);
    if (source.shape.size() != 2 || !heads || *heads == 0 ||
        source.rows() % static_cast<std::int64_t>(*heads) != 0 ||
        source.rows() / static_cast<std::int64_t>(*heads) % 2 != 0) {
      throw InputError(
          fmt::format("{}: tensor '{}'", where(), source.name),
          fmt::format(
              "its rows have another order under the other names, and {} rows are no whole heads "
              "of {}",
              source.rows(), heads ? fmt::format("{}", *heads) : "an unknown number"));
    }
    source.order = order;
    source.head_rows = source.rows() / static_cast<std::int64_t>(*heads);
  }

  std::optional<std::uint64_t> head_count(bool is_q) const {
    const model::Metadata& metadata = input_.metadata();
    if (metadata.find_string("general.architecture")) {
      const std::string key = fmt::format("{}.attention.head_count", architecture_->gguf);
      if (!is_q) {
        if (const auto heads = metadata.find_uint(key + "_kv")) return heads;
      }
      return metadata.find_uint(key);
    }
    if (!is_q) {
      if (const auto heads = model::find_config_uint(metadata, "num_key_value_heads")) return heads;
    }
    return model::find_config_uint(metadata, "num_attention_heads");
  }

  // ---- the hybrid

  /// The experts of a layer after the other tensors of it.
  std::vector<Planned> with_experts(std::vector<Planned> sources) {
    std::map<std::int64_t, std::vector<const model::TensorInfo*>> experts;
    for (const model::TensorInfo& tensor : request_.experts->tensors()) {
      const auto layer = layer_of(tensor.name);
      if (layer && tensor.name.find("_exps.") != std::string::npos)
        experts[*layer].push_back(&tensor);
    }
    if (experts.empty()) {
      throw InputError(request_.experts->files().front().string(),
                       "has no routed experts, tensors named blk.N.ffn_*_exps.weight");
    }
    std::set<std::int64_t> wanted;
    for (const model::TensorInfo& tensor : input_.tensors()) {
      const auto layer = layer_of(tensor.name);
      if (layer && role_of(tensor) == TensorRole::kRouter) wanted.insert(*layer);
    }
    std::map<std::int64_t, std::size_t> last;  // source of each layer
    for (std::size_t i = 0; i < sources.size(); ++i) {
      if (const auto layer = layer_of(sources[i].source.name)) last[*layer] = i;
    }
    for (const auto& [layer, tensors] : experts) {
      if (!last.contains(layer)) {
        throw InputError(
            request_.experts->files().front().string(),
            fmt::format("has experts of layer {}, which {} doesn't have", layer, where()));
      }
    }
    for (const std::int64_t layer : wanted) {
      if (last.contains(layer) && !experts.contains(layer)) {
        throw InputError(
            request_.experts->files().front().string(),
            fmt::format("has no experts of layer {}, whose router is in {}", layer, where()));
      }
    }
    std::vector<Planned> result;
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const auto layer = layer_of(sources[i].source.name);
      result.push_back(std::move(sources[i]));
      if (!layer || last[*layer] != i || !experts.contains(*layer)) continue;
      for (const model::TensorInfo* tensor : experts[*layer]) {
        check_experts(*tensor, *layer);
        result.push_back({whole(*tensor), true});
      }
    }
    return result;
  }

  void check_experts(const model::TensorInfo& tensor, std::int64_t layer) const {
    for (const std::string& name : {fmt::format("blk.{}.ffn_gate_inp.weight", layer),
                                    fmt::format("model.layers.{}.mlp.gate.weight", layer)}) {
      const model::TensorInfo* router = input_.find_tensor(name);
      if (router == nullptr || tensor.n_dims != 3 || router->rows() == tensor.ne[2]) continue;
      throw InputError(
          fmt::format("{}: tensor '{}'", request_.experts->files().front().string(), tensor.name),
          fmt::format("has {} experts, and the router '{}' of {} has {}", tensor.ne[2], name,
                      where(), router->rows()));
    }
  }

  // ---- formats

  bool can_hold(const WeightFormat& format) const {
    if (request_.container == Container::kGguf)
      return get_format(format.id).ggml_type >= 0 && !format.scale;
    return has_separate_scales(format.id) || !model::safetensors::dtype_name(format.id).empty();
  }

  /// Whether numbers of the format can become others.
  static bool can_decode(FormatId id) {
    return get_format(id).family != FormatFamily::kStored &&
           get_format(id).family != FormatFamily::kInteger;
  }

  void add_job(Planned planned) {
    WeightSource& source = planned.source;
    const model::TensorInfo& first = source.first();
    ConvertedTensor tensor;
    tensor.source = first.name;
    tensor.from = WeightFormat{first.format, first.scale_grid}.name();
    const WeightFormat before{first.format, first.scale_grid};
    if (planned.is_raw) {
      tensor.format = before;
      tensor.is_copy = true;
      finish_job(std::move(tensor), source,
                 make_raw_job(source, raw_outputs(source, first.format)));
      conversion_.tensors.back().to = fmt::format("{}, ggml's bytes", tensor_text(before));
      return;
    }
    const TensorChoice choice = request_.choose(first);
    tensor.reason = choice.reason;
    WeightFormat format = choice.to.value_or(before);
    if (choice.to && !can_decode(first.format)) {
      throw SpecError(
          fmt::format("format of tensor '{}'", first.name), format.name(),
          fmt::format("none: {} holds no weights that could be converted", tensor.from));
    }
    if (!choice.to) keep(source, format, tensor.reason);
    const model::TensorInfo* given = nullptr;
    if (choice.to && request_.scales != nullptr &&
        get_format(format.id).family == FormatFamily::kFp8) {
      given = find_given_scales(source);
      format = {given->format, given->scale_grid};
    }
    tensor.format = format;
    if (can_copy(source, format)) {
      tensor.is_copy = true;
      std::string_view suffix = copied_suffix(source);
      auto outputs = weight_outputs(request_.container, source, format, suffix);
      finish_job(std::move(tensor), source, make_copy_job(source, std::move(outputs)));
      return;
    }
    auto outputs = weight_outputs(request_.container, source, format);
    std::unique_ptr<TensorJob> job;
    if (given != nullptr) {
      job = make_given_scale_job(source, *given, std::move(outputs));
    } else if (get_format(format.id).family == FormatFamily::kFloat &&
               format.id != FormatId::kF64) {
      job = make_float_job(source, format.id, std::move(outputs));
    } else {
      job = make_quantize_job(source, format, std::move(outputs));
    }
    finish_job(std::move(tensor), source, std::move(job));
  }

  /// What becomes of a tensor that nobody chose a format for.
  void keep(const WeightSource& source, WeightFormat& format, std::string& reason) const {
    const bool is_half = format.id == FormatId::kF16 || format.id == FormatId::kBF16;
    const bool is_small =
        source.shape.size() < 2 || source.name.find("ffn_gate_inp") != std::string::npos;
    if (request_.container == Container::kGguf && is_half && is_small) {
      format = {FormatId::kF32, std::nullopt};
      reason = "GGUF's readers want norms, biases and routers as f32";
      return;
    }
    const bool can_stay = can_hold(format) && can_copy(source, format);
    if (can_stay) return;
    if (!can_decode(format.id)) {
      throw SpecError(fmt::format("format of tensor '{}'", source.name), get_format(format.id).name,
                      "one that the output's files hold");
    }
    const bool fits = can_hold(format);
    reason =
        fits ? fmt::format("its scales can't follow its rows: {}", get_format(request_.rest).name)
             : fmt::format("the output's files can't hold {}", format.name());
    format = {request_.rest, std::nullopt};
  }

  const model::TensorInfo* find_given_scales(const WeightSource& source) const {
    const model::TensorInfo& first = source.first();
    const model::TensorInfo* given = request_.scales->find_tensor(first.name);
    const std::string place = request_.scales->files().front().string();
    if (given == nullptr || !given->scale_grid ||
        get_format(given->format).family != FormatFamily::kFp8) {
      throw InputError(place, fmt::format("has no FP8 tensor '{}' with scales", first.name));
    }
    if (given->ne != first.ne || source.order != RowOrder::kAsIs || source.parts.size() != 1 ||
        source.parts[0].rows != first.rows()) {
      throw InputError(fmt::format("{}: tensor '{}'", place, first.name),
                       fmt::format("has the shape {}, expected that of the output's tensor, {}",
                                   shape_to_text(*given), shape_to_text(first)));
    }
    return given;
  }

  /// What the name of the scales has after the weight's.
  static std::string_view copied_suffix(const WeightSource& source) {
    const model::TensorInfo& first = source.first();
    std::string_view name = first.name;
    if (const std::size_t bracket = name.rfind('['); name.ends_with("]"))
      name = name.substr(0, bracket);
    if (!first.scale_grid || !std::string_view(first.scale_name).starts_with(name)) return {};
    const std::string_view suffix = std::string_view(first.scale_name).substr(name.size());
    return suffix == "_scale" || suffix == "_scale_inv" ? suffix : std::string_view();
  }

  static std::string tensor_text(const WeightFormat& format) {
    return format.scale && !fixed_scale_grid(format.id)
               ? fmt::format("{} {}", format.name(), scale_grid_name(format.scale))
               : std::string(format.name());
  }

  void finish_job(ConvertedTensor tensor, const WeightSource& source,
                  std::unique_ptr<TensorJob> job) {
    tensor.name = job->outputs().front().name;
    tensor.to = tensor_text(tensor.format);
    tensor.weights = source;
    for (const OutputTensor& output : job->outputs()) tensor.bytes += output.bytes;
    conversion_.tensors.push_back(std::move(tensor));
    conversion_.jobs.push_back(std::move(job));
  }

  // ---- files

  QuantizationFacts facts() const {
    QuantizationFacts facts;
    std::map<std::string, std::pair<std::uint64_t, WeightFormat>> sizes;
    bool all_copied = true;
    for (const ConvertedTensor& tensor : conversion_.tensors) {
      if (!has_separate_scales(tensor.format.id)) continue;
      all_copied = all_copied && tensor.is_copy;
      auto& [bytes, format] = sizes[tensor.to];
      bytes += tensor.bytes;
      format = tensor.format;
    }
    const auto largest =
        std::ranges::max_element(sizes, {}, [](const auto& entry) { return entry.second.first; });
    // A plain cast announces nothing: readers would look for its scales.
    if (largest != sizes.end() && largest->second.second.scale)
      facts.format = largest->second.second;
    facts.is_as_before =
        facts.format && all_copied && model::announces_quantisation(input_.metadata());
    for (const ConvertedTensor& tensor : conversion_.tensors) {
      if (!has_separate_scales(tensor.format.id) && tensor.weights.shape.size() >= 2)
        facts.not_converted.emplace_back(weight_stem(tensor.name));
    }
    return facts;
  }

  /// Of most bytes of the weights that are no codes.
  FormatId float_format() const {
    std::map<FormatId, std::uint64_t> bytes = {{request_.rest, 0}};
    for (const ConvertedTensor& tensor : conversion_.tensors) {
      if (get_format(tensor.format.id).family == FormatFamily::kFloat)
        bytes[tensor.format.id] += tensor.bytes;
    }
    return std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; })
        ->first;
  }

  void lay_out() {
    if (request_.container == Container::kGguf) {
      std::map<FormatId, std::uint64_t> bytes;
      for (const ConvertedTensor& tensor : conversion_.tensors)
        bytes[tensor.format.id] += tensor.bytes;
      const auto most =
          std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
      lay_out_gguf(conversion_, make_metadata(input_, most->first), request_.file_name);
      return;
    }
    if (request_.kind == OutputKind::kFile) {
      lay_out_safetensors(conversion_, 0, request_.file_name);
      return;
    }
    lay_out_safetensors(conversion_, request_.shard_bytes, std::nullopt);
    std::string config = make_config(input_, facts(), float_format(),
                                     naming_ == Naming::kHuggingFace, conversion_.notes);
    if (!config.empty()) conversion_.texts.push_back({"config.json", std::move(config)});
  }

  void add_notes() {
    std::vector<std::string>& notes = conversion_.notes;
    if (mtp_tensors_ > 0) {
      notes.push_back(
          fmt::format("{} tensors of layers beyond num_hidden_layers (multi-token prediction) are "
                      "left out",
                      mtp_tensors_));
    }
    for (const std::string& name : left_out_)
      notes.push_back(fmt::format("'{}' has no counterpart and is left out", name));
    if (request_.container == Container::kGguf &&
        !input_.metadata().find_string("general.architecture")) {
      notes.push_back(
          "the tokenizer is not part of the output, and llama.cpp needs one in the file");
    } else if (request_.kind == OutputKind::kFolder) {
      notes.push_back(
          "the tokenizer is not part of the output: copy it from the model's own folder");
    }
  }

  const ConvertRequest& request_;
  const model::Model& input_;
  Conversion conversion_;
  std::optional<Naming> naming_before_;
  std::optional<Naming> naming_;  ///< of the output, where it is another
  const Architecture* architecture_ = nullptr;
  std::map<std::string, Stack> stacks_;
  std::set<std::string> left_out_;
  std::size_t mtp_tensors_ = 0;
};

}  // namespace

Conversion plan_conversion(const ConvertRequest& request) {
  KTJIT_CHECK(request.input != nullptr && request.choose);
  return Planner(request).plan();
}

}  // namespace ktjit::convert
