// Models that llama.cpp's tools wrote, read whole: the facts are llama.cpp's own reading of them.
#include "model/gguf_reader.h"

#include <array>
#include <catch2/catch.hpp>

#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

struct Fact {
  std::string_view tensor;
  FormatId format;
  std::array<std::int64_t, 4> ne;
};

void check_facts(const Model& model, std::span<const Fact> facts) {
  for (const Fact& fact : facts) {
    CAPTURE(fact.tensor);
    const TensorInfo* tensor = model.find_tensor(fact.tensor);
    REQUIRE(tensor != nullptr);
    CHECK(tensor->format == fact.format);
    CHECK(tensor->ne == fact.ne);
    CHECK(tensor->bytes() ==
          static_cast<std::uint64_t>(tensor->rows()) * row_bytes(tensor->format, tensor->cols()));
  }
}

TEST_CASE("llama q4_k_m has the tensors that llama.cpp sees") {
  const Model model = read_gguf(test_model("tiny-llama-q4_k_m.gguf"));
  CHECK(model.container() == "GGUF");
  CHECK(model.version() == 3);
  CHECK(model.alignment() == 32);
  CHECK(model.files() == std::vector{test_model("tiny-llama-q4_k_m.gguf")});
  CHECK(model.file_bytes() == 1071360);
  CHECK(model.tensors().size() == 21);
  CHECK(model.notes().empty());
  CHECK(model.metadata().find_string("general.architecture") == "llama");
  CHECK(model.metadata().find_uint("llama.block_count") == 2);
  const std::array facts = {
      Fact{"token_embd.weight", FormatId::kQ4_K, {256, 320, 1, 1}},
      Fact{"blk.0.attn_q.weight", FormatId::kQ4_K, {256, 256, 1, 1}},
      Fact{"blk.0.ffn_down.weight", FormatId::kQ4_K, {768, 256, 1, 1}},
      Fact{"output.weight", FormatId::kQ6_K, {256, 320, 1, 1}},
  };
  check_facts(model, facts);
}

TEST_CASE("qwen2 iq4_xs has the tensors that llama.cpp sees") {
  const Model model = read_gguf(test_model("tiny-qwen2-iq4_xs.gguf"));
  const std::array facts = {
      Fact{"token_embd.weight", FormatId::kIQ4_XS, {256, 384, 1, 1}},
      Fact{"blk.0.attn_q.weight", FormatId::kIQ4_XS, {256, 256, 1, 1}},
      Fact{"blk.0.ffn_down.weight", FormatId::kIQ4_XS, {512, 256, 1, 1}},
      Fact{"output.weight", FormatId::kQ6_K, {256, 384, 1, 1}},
  };
  check_facts(model, facts);
}

TEST_CASE("gemma2 q2_k has the tensors that llama.cpp sees") {
  const Model model = read_gguf(test_model("tiny-gemma2-q2_k.gguf"));
  const std::array facts = {
      Fact{"token_embd.weight", FormatId::kQ6_K, {256, 320, 1, 1}},
      Fact{"blk.0.attn_q.weight", FormatId::kQ2_K, {256, 256, 1, 1}},
      Fact{"blk.0.ffn_down.weight", FormatId::kQ3_K, {1024, 256, 1, 1}},
  };
  check_facts(model, facts);
}

TEST_CASE("a model with a vocabulary and no tensors opens") {
  const Model model = read_gguf(test_model("tiny-vocab-only.gguf"));
  CHECK(model.tensors().empty());
  CHECK(model.metadata().entries().size() == 17);
  CHECK(model.metadata().find_strings("tokenizer.ggml.tokens").size() == 320);
  CHECK(model.metadata().find_bool("tokenizer.ggml.add_bos_token") == true);
  CHECK(model.metadata().find_float("llama.attention.layer_norm_rms_epsilon") == 1e-5f);
}

TEST_CASE("tensor data begins where the file says") {
  const ScratchFolder folder;
  GgufBytes file(2);
  file.tensor("a", {3}, kTypeF32, 0).tensor("b", {32, 2}, kTypeQ4_0, 32).pad();
  const std::size_t data_at = file.bytes().size();
  file.number(1.0f).number(2.0f).number(3.0f).pad().zeros(36);
  const Model model = read_gguf(folder.write("two.gguf", file.bytes()));
  const TensorInfo& a = model.get_tensor("a");
  CHECK(a.n_dims == 1);
  CHECK(a.cols() == 3);
  CHECK(a.rows() == 1);
  CHECK(same_bytes(a.data, std::as_bytes(std::span(file.bytes()).subspan(data_at, 12))));
  const TensorInfo& b = model.get_tensor("b");
  CHECK(b.bytes() == 36);
  CHECK(b.data.data() - a.data.data() == 32);
  CHECK(!b.scale_grid);
}

TEST_CASE("tensors keep their bytes when the model moves") {
  Model model = read_gguf(test_model("tiny-llama-q4_k_m.gguf"));
  const std::byte* address = model.get_tensor("output.weight").data.data();
  const std::byte first = *address;
  const Model moved = std::move(model);
  CHECK(moved.get_tensor("output.weight").data.data() == address);
  CHECK(*address == first);
}

TEST_CASE("version 2 is read as version 3") {
  const ScratchFolder folder;
  GgufBytes file(1, 0, 2);
  file.tensor("a", {1}, kTypeF32, 0).pad().zeros(4);
  CHECK(read_gguf(folder.write("v2.gguf", file.bytes())).version() == 2);
}

TEST_CASE("tensors may lie in another order than they are listed") {
  const ScratchFolder folder;
  GgufBytes file(2);
  file.tensor("second", {1}, kTypeF32, 32).tensor("first", {1}, kTypeF32, 0).pad();
  file.number(1.5f).pad().number(2.5f);
  const Model model = read_gguf(folder.write("order.gguf", file.bytes()));
  CHECK(model.tensors()[0].name == "second");
  CHECK(model.get_tensor("second").data.data() - model.get_tensor("first").data.data() == 32);
}

TEST_CASE("a tensor of zero elements is allowed, as in llama.cpp") {
  const ScratchFolder folder;
  GgufBytes file(3);
  file.tensor("none", {256, 0}, kTypeQ4_K, 0).tensor("one", {1}, kTypeF32, 0);
  file.tensor("no_cols", {0, 4}, kTypeF32, 32).pad().zeros(4);
  const Model model = read_gguf(folder.write("zero.gguf", file.bytes()));
  CHECK(model.get_tensor("none").bytes() == 0);
  CHECK(model.get_tensor("none").rows() == 0);
  CHECK(model.get_tensor("no_cols").elements() == 0);
  CHECK(model.get_tensor("one").bytes() == 4);
}

TEST_CASE("the last tensor needs no padding") {
  const ScratchFolder folder;
  GgufBytes file(1);
  file.tensor("a", {3}, kTypeF32, 0).pad().zeros(12);
  CHECK(read_gguf(folder.write("bare.gguf", file.bytes())).notes().empty());
}

TEST_CASE("bytes after the last tensor are noted") {
  const ScratchFolder folder;
  GgufBytes file(1);
  file.tensor("a", {3}, kTypeF32, 0).pad().zeros(12 + 100);
  const Model model = read_gguf(folder.write("tail.gguf", file.bytes()));
  REQUIRE(model.notes().size() == 1);
  CHECK(folder.shorten(model.notes()[0]) ==
        "tail.gguf has 100 bytes after its last tensor that belong to none");
}

TEST_CASE("a vocabulary may hold bytes that are not UTF-8") {
  const ScratchFolder folder;
  GgufBytes file(0, 1);
  file.text("tokenizer.ggml.tokens").u32(kArray).u32(kString).u64(2).text("fine").text("\xff\xfe");
  const Model model = read_gguf(folder.write("bytes.gguf", file.bytes()));
  CHECK(model.metadata().find_strings("tokenizer.ggml.tokens")[1] == "\xff\xfe");
  CHECK(value_to_text(*model.metadata().find("tokenizer.ggml.tokens")) == "['fine', '\\xff\\xfe']");
  CHECK(model.notes() ==
        std::vector<std::string>{"metadata 'tokenizer.ggml.tokens' has 1 string that is not UTF-8, "
                                 "shown with escapes"});
}

TEST_CASE("an asked tensor that is not there is answered with close names") {
  const Model model = read_gguf(test_model("tiny-llama-q4_k_m.gguf"));
  const auto close = [&](std::string_view name) {
    const std::string message = error_of<InputError>([&] { model.get_tensor(name); });
    return message.substr(message.find(": ") + 2);
  };
  CHECK(close("output.wieght") == "has no tensor 'output.wieght'; close names: 'output.weight'");
  CHECK(close("attn_v") ==
        "has no tensor 'attn_v'; close names: 'blk.0.attn_v.weight', 'blk.1.attn_v.weight'");
  CHECK(close("conv1") == "has no tensor 'conv1'; none of its 21 tensors has a name like it");
}

}  // namespace
}  // namespace ktjit::model
