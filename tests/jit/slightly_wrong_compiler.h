// A compiler whose kernels are wrong by a thousandth: what checks of results must find.
#pragma once

#include <string>

#include "jit/compiler.h"
#include "jit/llvm_compiler.h"

namespace ktjit::test {

/// Compiles every text with the result of its first multiplication off by one part in a thousand.
class SlightlyWrongCompiler : public Compiler {
 public:
  explicit SlightlyWrongCompiler(LlvmCompiler& llvm) : llvm_(llvm) {}
  std::string name() const override { return "wrong"; }
  bool serves(const Target& target, ArtifactKind kind) const override {
    return llvm_.serves(target, kind);
  }
  CompilerIdentity identity(const Target& target, ArtifactKind kind) const override {
    return llvm_.identity(target, kind);
  }
  Artifact compile(const CompileRequest& request) override {
    CompileRequest wrong = request;
    for (const char* right :
         {", F32Run) * d;", ", chain[j]);", ", tile[r][j]);", "store_y(y_row + at, weight)"}) {
      const std::string find = right;
      if (const std::size_t at = wrong.source.find(find); at != std::string::npos) {
        const std::string changed = find == "store_y(y_row + at, weight)"
                                        ? "store_y(y_row + at, weight * 1.001f)"
                                    : find == ", chain[j]);"   ? ", chain[j] * 1.001f);"
                                    : find == ", tile[r][j]);" ? ", tile[r][j] * 1.001f);"
                                                               : ", F32Run) * d * 1.001f;";
        wrong.source.replace(at, find.size(), changed);
        break;
      }
    }
    return llvm_.compile(wrong);
  }

 private:
  LlvmCompiler& llvm_;
};

}  // namespace ktjit::test
