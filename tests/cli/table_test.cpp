// Tables and units: the plain parts of the command line's output.
#include "cli/table.h"

#include <catch2/catch.hpp>

#include "cli/exit_code.h"
#include "cli/units.h"
#include "model/output_file.h"

namespace cli = ktjit::cli;

TEST_CASE("a table aligns its columns and leaves out empty ones") {
  cli::Table table({{"name"}, {"empty"}, {"ms", cli::Align::kRight}});
  table.add_row({"a", "", "1.5"});
  table.add_row({"größe", "", "12.0"});
  CHECK(table.to_text(1) ==
        " name     ms\n"
        " a       1.5\n"
        " größe  12.0\n");
}

TEST_CASE("sizes for people") {
  CHECK(cli::human_bytes(0) == "0 B");
  CHECK(cli::human_bytes(1023) == "1023 B");
  CHECK(cli::human_bytes(1024) == "1.0 KiB");
  CHECK(cli::human_bytes(1024 * 1024 - 1) == "1.0 MiB");
  CHECK(cli::human_bytes(std::uint64_t{24} << 30) == "24.0 GiB");
}

TEST_CASE("sizes from people") {
  CHECK(cli::parse_bytes("--memory", "24G") == std::uint64_t{24} << 30);
  CHECK(cli::parse_bytes("--memory", "24GiB") == std::uint64_t{24} << 30);
  CHECK(cli::parse_bytes("--memory", "1.5m") == 3 << 19);
  CHECK(cli::parse_bytes("--memory", "1000") == 1000);
  for (const char* wrong : {"", "G", "-1G", "0", "1X", "1GBs", "1e400", "inf", "nan", "9999999T"}) {
    INFO(wrong);
    CHECK_THROWS_AS(cli::parse_bytes("--memory", wrong), cli::UsageError);
  }
}

TEST_CASE("shapes and scale blocks") {
  CHECK(cli::parse_shape("--shape", "4096x14336").cols == 14336);
  for (const char* wrong :
       {"", "x", "1x", "x1", "1x1x1", "-1x2", "1 x 2", "99999999999999999999x1"}) {
    INFO(wrong);
    CHECK_THROWS_AS(cli::parse_shape("--shape", wrong), cli::UsageError);
  }
  const auto f32 = ktjit::ScaleType::kF32;
  CHECK(cli::parse_scale_block("tensor", f32) == ktjit::ScaleGrid{0, 0, f32});
  CHECK(cli::parse_scale_block("row", f32) == ktjit::ScaleGrid{1, 0, f32});
  CHECK(cli::parse_scale_block("1x128", f32) == ktjit::ScaleGrid{1, 128, f32});
  CHECK_THROWS_AS(cli::parse_scale_block("128", f32), cli::UsageError);
}

TEST_CASE("every error type has its exit code") {
  CHECK(cli::exit_code_of(cli::UsageError("x")) == 2);
  CHECK(cli::exit_code_of(ktjit::SpecError("a", "b", "c")) == 2);
  CHECK(cli::exit_code_of(ktjit::InputError("a", "b")) == 3);
  CHECK(cli::exit_code_of(ktjit::ToolchainError("a", "b", "c")) == 4);
  CHECK(cli::exit_code_of(ktjit::DriverError("a", 1, "b", "c", "d")) == 4);
  CHECK(cli::exit_code_of(ktjit::CompileError("a", "b", "c", "d", "e")) == 5);
  CHECK(cli::exit_code_of(ktjit::model::OutputError("a", "b")) == 1);
  CHECK(cli::exit_code_of(std::bad_alloc()) == 5);
}
