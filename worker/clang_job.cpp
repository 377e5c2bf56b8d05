// Drives a clang::CompilerInstance: no driver, no files, no headers. The text and its prelude lie
// in a file system of their own, so a text can include nothing from the machine.
#include "worker/clang_job.h"

#include <clang/Basic/DiagnosticOptions.h>
#include <clang/CodeGen/CodeGenAction.h>
#include <clang/Frontend/CompilerInstance.h>
#include <clang/Frontend/CompilerInvocation.h>
#include <clang/Frontend/TextDiagnosticPrinter.h>
#include <llvm/Support/CommandLine.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/VirtualFileSystem.h>
#include <llvm/Support/raw_ostream.h>
#include <memory>
#include <vector>

namespace ktjit::worker {
namespace {

// Relative names resolve against this folder of the in-memory file system.
constexpr const char* kFolder = "/ktjit";
constexpr const char* kPreludeName = "ktjit_prelude.h";

llvm::IntrusiveRefCntPtr<llvm::vfs::FileSystem> make_files(const Request& request) {
  auto files = llvm::makeIntrusiveRefCnt<llvm::vfs::InMemoryFileSystem>();
  files->setCurrentWorkingDirectory(kFolder);
  files->addFile(request.file_name, 0, llvm::MemoryBuffer::getMemBuffer(request.source));
  files->addFile(kPreludeName, 0, llvm::MemoryBuffer::getMemBuffer(request.prelude));
  return files;
}

std::unique_ptr<clang::CodeGenAction> make_action(OutputKind output) {
  switch (output) {
    case OutputKind::kSharedObject:
      return std::make_unique<clang::EmitObjAction>();
    case OutputKind::kAssembly:
      return std::make_unique<clang::EmitAssemblyAction>();
    case OutputKind::kLlvmIr:
      return std::make_unique<clang::EmitLLVMAction>();
    case OutputKind::kSimulatorObject:
      break;  // simulator_job.cpp's
  }
  return nullptr;
}

bool parse_arguments(const Request& request, clang::CompilerInvocation& invocation,
                     llvm::raw_ostream& log) {
  std::vector<const char*> arguments;
  for (const std::string& argument : request.clang_arguments) arguments.push_back(argument.c_str());
  if (!request.prelude.empty()) arguments.insert(arguments.end(), {"-include", kPreludeName});
  arguments.insert(arguments.end(), {"-main-file-name", request.file_name.c_str()});
  arguments.push_back(request.file_name.c_str());

  auto options = llvm::makeIntrusiveRefCnt<clang::DiagnosticOptions>();
  clang::DiagnosticsEngine diagnostics(
      llvm::makeIntrusiveRefCnt<clang::DiagnosticIDs>(), options,
      new clang::TextDiagnosticPrinter(log, options.get()));  // owned by `diagnostics`
  return clang::CompilerInvocation::CreateFromArgs(invocation, arguments, diagnostics);
}

/// Sets LLVM's process-wide options; lld resets them whenever it runs.
void set_llvm_options() {
  // Assembly for people is in Intel's syntax, as in Intel's and AMD's manuals.
  const char* const options[] = {"ktjit-llvm", "-x86-asm-syntax=intel"};
  llvm::cl::ResetAllOptionOccurrences();
  llvm::cl::ParseCommandLineOptions(2, options);
}

}  // namespace

void initialize_llvm() {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmParser();  // inline assembly
  LLVMInitializeX86AsmPrinter();
  LLVMInitializeNVPTXTargetInfo();
  LLVMInitializeNVPTXTarget();
  LLVMInitializeNVPTXTargetMC();
  LLVMInitializeNVPTXAsmPrinter();
}

bool run_front_end(const Request& request, clang::CodeGenAction& action, std::string& log_text,
                   std::unique_ptr<llvm::raw_pwrite_stream> output) {
  llvm::raw_string_ostream log(log_text);
  set_llvm_options();

  auto invocation = std::make_shared<clang::CompilerInvocation>();
  if (!parse_arguments(request, *invocation, log)) return false;

  clang::CompilerInstance compiler;
  compiler.setInvocation(invocation);
  compiler.setVerboseOutputStream(llvm::nulls());  // "1 warning generated."
  compiler.createDiagnostics(
      new clang::TextDiagnosticPrinter(log, &invocation->getDiagnosticOpts()));
  compiler.createFileManager(make_files(request));
  if (output) compiler.setOutputStream(std::move(output));
  return compiler.ExecuteAction(action);
}

JobResult run_clang(const Request& request) {
  JobResult result;
  llvm::SmallVector<char, 0> output;
  const std::unique_ptr<clang::CodeGenAction> action = make_action(request.output);
  result.ok = run_front_end(request, *action, result.log,
                            std::make_unique<llvm::raw_svector_ostream>(output));
  if (result.ok) result.bytes.assign(output.begin(), output.end());
  return result;
}

}  // namespace ktjit::worker
