#include "convert/work_folder.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>

#include "model/output_file.h"
#include "tests/jit/scratch_folder.h"

namespace ktjit::convert {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;
using test::ScratchFolder;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

}  // namespace

TEST_CASE("an output appears when it is whole, and its work folder goes") {
  const ScratchFolder scratch;
  const fs::path output = scratch.path() / "model";
  {
    WorkFolder folder(output, OutputKind::kFolder, "plan");
    folder.make_files({{"a", "head", 8}, {"b", "", 0}});
    folder.write_at(0, 4, bytes("tail"));
    folder.write_text("config.json", "{}");
    CHECK_FALSE(fs::exists(output));
    CHECK(fs::exists(WorkFolder::path_beside(output)));
    folder.publish();
  }
  CHECK(read(output / "a") == "headtail");
  CHECK(read(output / "b").empty());
  CHECK(read(output / "config.json") == "{}");
  CHECK_FALSE(fs::exists(WorkFolder::path_beside(output)));
}

TEST_CASE("batches that were noted are known again under the same plan alone") {
  const ScratchFolder scratch;
  const fs::path output = scratch.path() / "model.gguf";
  const auto start = [&](std::string_view plan) {
    auto folder = std::make_unique<WorkFolder>(output, OutputKind::kFile, plan);
    folder->make_files({{"model.gguf", "head", 12}});
    return folder;
  };
  auto first = start("plan");
  CHECK_FALSE(first->is_done(0));
  first->write_at(0, 4, bytes("1234"));
  first->commit_batch(0);
  first->commit_batch(2);
  first.reset();  // as a killed process leaves it

  auto second = start("plan");
  CHECK(second->is_done(0));
  CHECK_FALSE(second->is_done(1));
  CHECK(second->is_done(2));
  CHECK_FALSE(second->replaced_other_plan());
  second.reset();
  {
    // A line that was cut counts for nothing, and doesn't run into the next.
    std::ofstream(WorkFolder::path_beside(output) / "journal", std::ios::app) << "1";
    auto cut = start("plan");
    CHECK_FALSE(cut->is_done(1));
    cut->commit_batch(4);
    cut.reset();
    CHECK(start("plan")->is_done(4));
    CHECK_FALSE(start("plan")->is_done(14));
  }
  {
    // Nor does anything if a file has lost bytes.
    fs::resize_file(WorkFolder::path_beside(output) / "out" / "model.gguf", 5);
    auto third = start("plan");
    CHECK_FALSE(third->is_done(0));
    third->commit_batch(0);
  }
  auto other = start("another plan");
  CHECK(other->replaced_other_plan());
  CHECK_FALSE(other->is_done(0));
  other->write_at(0, 4, bytes("whole..."));
  other->publish();
  CHECK(read(output) == "headwhole...");
}

TEST_CASE("what a killed run left beside the files is no part of the output") {
  const ScratchFolder scratch;
  const fs::path output = scratch.path() / "model";
  WorkFolder folder(output, OutputKind::kFolder, "plan");
  folder.make_files({{"a", "head", 4}});
  std::ofstream(WorkFolder::path_beside(output) / "out" / ".config.json.77-1.tmp") << "{";
  folder.write_text("config.json", "{}");
  folder.publish();
  CHECK(read(output / "a") == "head");
  CHECK(read(output / "config.json") == "{}");
  CHECK(std::distance(fs::directory_iterator(output), fs::directory_iterator()) == 2);
}

TEST_CASE("two processes can't work on one output") {
  const ScratchFolder scratch;
  const WorkFolder first(scratch.path() / "model", OutputKind::kFolder, "plan");
  CHECK_THROWS_WITH(WorkFolder(scratch.path() / "model", OutputKind::kFolder, "plan"),
                    Contains("another process is converting to this output"));
}

TEST_CASE("an older output is replaced whole") {
  const ScratchFolder scratch;
  const fs::path output = scratch.path() / "model";
  scratch.write("model/old.safetensors", "old");
  WorkFolder folder(output, OutputKind::kFolder, "plan");
  folder.make_files({{"new.safetensors", "new", 3}});
  CHECK(fs::exists(output / "old.safetensors"));
  folder.publish();
  CHECK(read(output / "new.safetensors") == "new");
  CHECK_FALSE(fs::exists(output / "old.safetensors"));
}

TEST_CASE("a disk that has no room is said before anything is written, and what is done is kept") {
  const ScratchFolder scratch;
  WorkFolder folder(scratch.path() / "model", OutputKind::kFolder, "plan");
  constexpr std::uint64_t kTooMuch = std::uint64_t{1} << 60;
  CHECK_THROWS_AS(folder.make_files({{"a", "head", kTooMuch}}), model::OutputError);
  CHECK_THROWS_WITH(folder.make_files({{"b", "head", kTooMuch}}), Contains("the disk has"));
  CHECK(fs::exists(WorkFolder::path_beside(scratch.path() / "model") / "plan"));
}

}  // namespace ktjit::convert
