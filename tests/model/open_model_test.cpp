#include "model/open_model.h"

#include <catch2/catch.hpp>
#include <sys/stat.h>

#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

namespace fs = std::filesystem;

std::string message_for(const ScratchFolder& folder, const fs::path& path) {
  return folder.shorten(error_of<InputError>([&] { open_model(path); }));
}

/// The message for a file of these bytes, from "is" on.
std::string kind_of(std::string_view bytes) {
  const ScratchFolder folder;
  const std::string message = message_for(folder, folder.write("f", bytes));
  const std::string_view begin = "f: is ";
  const std::string_view end = ", expected a GGUF or a safetensors file";
  REQUIRE(message.starts_with(begin));
  REQUIRE(message.ends_with(end));
  return message.substr(begin.size(), message.size() - begin.size() - end.size());
}

TEST_CASE("files that are no GGUF files are named for what they are") {
  using namespace std::string_literals;
  const std::string advice =
      "; a pickle can run any program when it is read, so it is not; save the tensors with "
      "Python's "
      "safetensors.torch.save_file, or convert the model with llama.cpp's convert_hf_to_gguf.py";
  CHECK(kind_of("") == "empty (0 bytes)");
  CHECK(kind_of("hello world, this is a text\n") ==
        "a text file that begins with 'hello world, this is a t'");
  CHECK(kind_of("{\"architectures\": []}") ==
        "a JSON file that begins with '{\"architectures\": []}'");
  CHECK(kind_of("PK\x03\x04rest") ==
        "a zip archive, as torch.save writes (.bin, .pt, .pth, .ckpt)" + advice);
  CHECK(kind_of("\x80\x02}q") ==
        "a Python pickle, as older torch.save writes (.bin, .pt, .pth, .ckpt)" + advice);
  CHECK(kind_of("version https://git-lfs.github.com/spec/v1\noid sha256:1\n") ==
        "a Git LFS pointer, not the model itself; fetch it with git lfs pull");
  CHECK(kind_of("<!doctype html><html>") == "a web page; the download went wrong");
  CHECK(kind_of("tjgg\x03") ==
        "a GGJT file of before August 2023, older than GGUF; make it again from the original "
        "model");
  CHECK(kind_of("\x7f"
                "ELF\x02") == "a program or a shared library");
  CHECK(kind_of(std::string(100, '\0')) ==
        "filled with zeros at its start, as an unfinished download is");
  CHECK(kind_of("\x01\x02\xff\xfe") ==
        "of an unknown kind and begins with the bytes '\\x01\\x02\\xff\\xfe'");
}

TEST_CASE("a safetensors file is known by its content, whatever it is called") {
  const ScratchFolder folder;
  const std::string bytes =
      safetensors_bytes(R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", 24);
  const Model model = open_model(folder.write("model.bin", bytes));
  CHECK(model.container() == "safetensors");
  CHECK(shape_to_text(model.get_tensor("w")) == "[3, 2]");
  CHECK(
      message_for(folder, folder.write("p.safetensors", "\x80\x04pickled, whatever its name")) ==
      "p.safetensors: says its header has 7308334370030355584 bytes, expected at most 100000000; "
      "the file is a Python pickle, as older torch.save writes (.bin, .pt, .pth, .ckpt); a pickle "
      "can run any program when it is read, so it is not; save the tensors with Python's "
      "safetensors.torch.save_file, or convert the model with llama.cpp's "
      "convert_hf_to_gguf.py");
  fs::copy_file(test_model("tiny-vocab-only.gguf"), folder / "g.safetensors");
  CHECK(open_model(folder / "g.safetensors").container() == "GGUF");
}

TEST_CASE("a file cut inside the magic is cut short") {
  const ScratchFolder folder;
  CHECK(message_for(folder, folder.write("m.gguf", "GGU")) ==
        "m.gguf: ends at byte 3, inside the magic 'GGUF': it is cut short");
}

TEST_CASE("what is no regular file is refused") {
  const ScratchFolder folder;
  CHECK(message_for(folder, folder / "none.gguf") ==
        "none.gguf: is missing: no such file or folder");
  fs::create_symlink("nowhere", folder / "dangling.gguf");
  CHECK(message_for(folder, folder / "dangling.gguf") ==
        "dangling.gguf: is missing: no such file or folder");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(message_for(folder, folder / "pipe") == "pipe: is a pipe, expected a regular file");
  CHECK(message_for(folder, "/dev/null") == "/dev/null: is a device, expected a regular file");
  CHECK(message_for(folder, folder.write("file", "x") / "m.gguf") ==
        "file/m.gguf: is missing: no such file or folder");
}

TEST_CASE("a folder with one model opens it") {
  const ScratchFolder folder;
  folder.write("README.md", "text");
  fs::create_directory(folder / "other.gguf");  // a folder is no model
  fs::create_symlink(test_model("tiny-vocab-only.gguf"), folder / "Vocab.GGUF");
  const Model model = open_model(folder.path());
  CHECK(model.files() == std::vector{folder / "Vocab.GGUF"});
}

TEST_CASE("a folder with one split model opens it") {
  const ScratchFolder folder;
  for (const char* name :
       {"tiny-llama-q4_k_m-00001-of-00003.gguf", "tiny-llama-q4_k_m-00002-of-00003.gguf",
        "tiny-llama-q4_k_m-00003-of-00003.gguf"}) {
    fs::create_symlink(test_model(name), folder / name);
  }
  CHECK(open_model(folder.path()).tensors().size() == 21);
  fs::remove(folder / "tiny-llama-q4_k_m-00001-of-00003.gguf");
  CHECK(message_for(folder, folder.path()) ==
        "tiny-llama-q4_k_m-00002-of-00003.gguf: is part 2 of 3 of a split model, and 1 part is "
        "missing in its folder: tiny-llama-q4_k_m-00001-of-00003.gguf");
}

TEST_CASE("a folder without a model or with several says what is there") {
  const ScratchFolder folder;
  // The folder itself is shortened to nothing.
  CHECK(message_for(folder, folder.path()) ==
        ": has no model file, looked for *.gguf and *.safetensors; none of its 0 files is one");
  folder.write("pytorch_model.bin", "x");
  CHECK(message_for(folder, folder.path()) ==
        ": has no model file, looked for *.gguf and *.safetensors; pytorch_model.bin is a Python "
        "pickle by its name: a pickle can run any program when it is read, so it is not; save the "
        "tensors with Python's safetensors.torch.save_file, or convert the model with llama.cpp's "
        "convert_hf_to_gguf.py");
  folder.write("b.gguf", "x");
  folder.write("a.gguf", "x");
  folder.write("c-00001-of-00002.gguf", "x");
  folder.write("c-00002-of-00002.gguf", "x");
  CHECK(message_for(folder, folder.path()) ==
        ": has 3 GGUF models, expected one or the path of one of them: a.gguf, b.gguf, "
        "c-00001-of-00002.gguf");
  for (int i = 0; i < 8; ++i) folder.write("d" + std::to_string(i) + ".gguf", "x");
  CHECK(message_for(folder, folder.path()) ==
        ": has 11 GGUF models, expected one or the path of one of them: a.gguf, b.gguf, "
        "c-00001-of-00002.gguf, d0.gguf, d1.gguf, d2.gguf, d3.gguf, d4.gguf, ...");
}

}  // namespace
}  // namespace ktjit::model
