// Whatever PTX the emitted kernels can contain is modelled.
#include "tests/runtime/ptx_inline_text.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "core/target.h"
#include "runtime/ptx_instructions.h"

namespace ktjit {
namespace {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

const runtime::PtxInstruction* find_model(const test::InlineInstruction& instruction) {
  for (const runtime::PtxInstruction& known : runtime::all_ptx_instructions()) {
    // wgmma names its sums once, which are results and operands.
    const bool adds = known.memory.action == runtime::PtxMemoryAction::kWarpgroupProduct;
    const int slots = known.results + known.operands - (adds ? known.results : 0);
    if (known.opcode == instruction.opcode && slots == instruction.slots) return &known;
  }
  return nullptr;
}

bool is_modelled(const test::InlineInstruction& instruction) {
  return find_model(instruction) != nullptr;
}

/// The target that a golden text's name ends with: "q4_K_f32_sm_86.cu". Nothing for a template.
std::optional<Target> target_of(const std::string& name) {
  const std::size_t begin = name.rfind("sm_");
  if (begin == std::string::npos || name.find(".cu.in") != std::string::npos) return std::nullopt;
  return parse_target(name.substr(begin, name.rfind(".cu") - begin), {});
}

/// How many instructions the CUDA texts below `folder` have. Unmodelled ones fail, and ones that the
/// text's own target lacks.
int check_folder(const fs::path& folder) {
  int found = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name.find(".cu") == std::string::npos) continue;
    const std::optional<Target> target = target_of(name);
    for (const test::InlineInstruction& instruction :
         test::find_inline_ptx(read_text(entry.path()))) {
      INFO(entry.path().native() << ":" << instruction.line << ": " << instruction.opcode
                                 << " with " << instruction.slots << " registers and immediates");
      const runtime::PtxInstruction* model = find_model(instruction);
      CHECK(model != nullptr);
      if (model != nullptr && target.has_value()) CHECK(model->exists_on(*target));
      ++found;
    }
  }
  return found;
}

}  // namespace

TEST_CASE("every instruction that templates name in inline assembly is modelled") {
  CHECK(check_folder(fs::path(KTJIT_SOURCE_DIR) / "templates" / "cuda") >= 15);
}

TEST_CASE(
    "every instruction of the emitted golden kernels is modelled, and their targets have it") {
  CHECK(check_folder(fs::path(KTJIT_SOURCE_DIR) / "tests" / "golden") >= 40);
}

TEST_CASE("inline PTX is found across literals, scopes and several instructions a statement") {
  const auto found = test::find_inline_ptx(R"cuda(
// asm("in.a.comment %0;" : "=r"(x));
const char* text = "asm(\"in.a.literal %0;\")";
/* asm("also.a.comment %0;"); */ int plasm(int);
asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
asm volatile(
    "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
    "{%0, %1, %2, %3};"
    : "+f"(s[0]));
__asm__ __volatile__ ("{\n\t.reg .b8 code;\n\t"
    "cvt.rn.satfinite.e2m1x2.f32 code, %1, %2;\n\t" "cvt.u16.u8 %0, code;\n}" : "=h"(h) : "f"(a));
asm volatile("@p cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" :: "r"(a), "l"(b));
asm volatile("loop: bar.sync 0;");
asm volatile("cp.async.wait_all;" ::: "memory");
)cuda");
  std::vector<std::string> seen;
  for (const auto& instruction : found)
    seen.push_back(std::to_string(instruction.line) + " " + instruction.opcode + " " +
                   std::to_string(instruction.slots));
  CHECK(seen == std::vector<std::string>{
                    "5 prmt.b32 4",
                    "6 mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 11",
                    "10 cvt.rn.satfinite.e2m1x2.f32 3",
                    "10 cvt.u16.u8 2",
                    "12 cp.async.cg.shared.global.L2::128B 3",
                    "13 bar.sync 1",
                    "14 cp.async.wait_all 0",
                });
  // An instruction that nobody models is seen as such, and so is a known name with other operands.
  CHECK_FALSE(is_modelled({"tcgen05.fence::before_thread_sync", 0, 1}));
  CHECK_FALSE(is_modelled({"prmt.b32.f4e", 4, 1}));
  CHECK_FALSE(is_modelled({"prmt.b32", 3, 1}));
  CHECK(is_modelled({"prmt.b32", 4, 1}));
  CHECK_THROWS_WITH(test::find_inline_ptx("\nasm(name);"), "line 2: asm without a string literal");
  CHECK_THROWS_WITH(test::find_inline_ptx("asm(\"a;\""), "line 1: asm without an end");
}

}  // namespace ktjit
