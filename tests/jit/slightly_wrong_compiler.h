// A compiler whose kernels are wrong by a thousandth: what checks of results must find.
#pragma once

#include <array>
#include <string>
#include <string_view>

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
    struct Change {
      std::string_view right, wrong;
    };
    constexpr std::array kChanges = {
        Change{", F32Run) * d;", ", F32Run) * d * 1.001f;"},
        Change{", chain[j]);", ", chain[j] * 1.001f);"},
        Change{"y_row[r] = total[r]", "y_row[r] = total[r] * 1.001f"},
        Change{" * x[j]->factor;", " * x[j]->factor * 1.001f;"},
        Change{"store_y(y_row + at, weight)", "store_y(y_row + at, weight * 1.001f)"}};
    for (const Change& change : kChanges) {
      std::size_t at = wrong.source.find(change.right);
      if (at == std::string::npos) continue;
      for (; at != std::string::npos; at = wrong.source.find(change.right, at)) {
        wrong.source.replace(at, change.right.size(), change.wrong);
        at += change.wrong.size();
      }
      break;
    }
    return llvm_.compile(wrong);
  }

 private:
  LlvmCompiler& llvm_;
};

}  // namespace ktjit::test
