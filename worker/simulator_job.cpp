// The steps from CUDA text to an object for the simulator.
#include "worker/simulator_job.h"

#include <clang/CodeGen/CodeGenAction.h>
#include <llvm/IR/DebugInfo.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/Transforms/IPO/AlwaysInliner.h>
#include <llvm/Transforms/IPO/GlobalDCE.h>
#include <llvm/Transforms/Utils/Mem2Reg.h>
#include <memory>
#include <optional>

#include "worker/simulator_module.h"

namespace ktjit::worker {
namespace {

constexpr const char* kTriple = "x86_64-unknown-linux-gnu";

/// Pass managers with LLVM's analyses.
class Passes {
 public:
  explicit Passes(llvm::TargetMachine* machine) : builder_(machine) {
    builder_.registerModuleAnalyses(modules_);
    builder_.registerCGSCCAnalyses(calls_);
    builder_.registerFunctionAnalyses(functions_);
    builder_.registerLoopAnalyses(loops_);
    builder_.crossRegisterProxies(loops_, functions_, calls_, modules_);
  }

  llvm::PassBuilder& builder() { return builder_; }
  void run(llvm::ModulePassManager& passes, llvm::Module& module) { passes.run(module, modules_); }

 private:
  llvm::LoopAnalysisManager loops_;
  llvm::FunctionAnalysisManager functions_;
  llvm::CGSCCAnalysisManager calls_;
  llvm::ModuleAnalysisManager modules_;
  llvm::PassBuilder builder_;
};

/// This CPU's part of the work must not know what the GPU's front end promised it.
void drop_attributes(llvm::Module& module) {
  for (llvm::Function& function : module) {
    for (const char* name : {"target-cpu", "target-features", "tune-cpu"})
      function.removeFnAttr(name);
    if (function.isIntrinsic()) continue;
    for (const auto kind : {llvm::Attribute::NoInline, llvm::Attribute::OptimizeNone,
                            llvm::Attribute::MustProgress, llvm::Attribute::Convergent}) {
      function.removeFnAttr(kind);
    }
    for (llvm::Argument& argument : function.args()) {
      for (const auto kind :
           {llvm::Attribute::NoAlias, llvm::Attribute::NonNull, llvm::Attribute::Dereferenceable,
            llvm::Attribute::NoUndef, llvm::Attribute::Alignment}) {
        argument.removeAttr(kind);
      }
    }
    if (!function.isDeclaration()) function.addFnAttr(llvm::Attribute::AlwaysInline);
    for (llvm::BasicBlock& block : function) {
      for (llvm::Instruction& instruction : block) {
        auto* call = llvm::dyn_cast<llvm::CallBase>(&instruction);
        if (call == nullptr) continue;
        for (unsigned i = 0; i < call->arg_size(); ++i) {
          for (const auto kind : {llvm::Attribute::NoAlias, llvm::Attribute::NonNull,
                                  llvm::Attribute::Dereferenceable, llvm::Attribute::NoUndef}) {
            call->removeParamAttr(i, kind);
          }
        }
      }
    }
  }
}

/// One function for each kernel, with its scalars in registers and its arrays in memory.
void inline_all(llvm::Module& module) {
  Passes passes(nullptr);
  llvm::ModulePassManager manager;
  manager.addPass(llvm::AlwaysInlinerPass(/*InsertLifetime=*/false));
  manager.addPass(llvm::createModuleToFunctionPassAdaptor(llvm::PromotePass()));
  passes.run(manager, module);
}

void drop_unused_functions(llvm::Module& module) {
  Passes passes(nullptr);
  llvm::ModulePassManager manager;
  manager.addPass(llvm::GlobalDCEPass());
  passes.run(manager, module);
}

std::unique_ptr<llvm::TargetMachine> make_machine() {
  std::string problem;
  const llvm::Target* target = llvm::TargetRegistry::lookupTarget(kTriple, problem);
  if (target == nullptr) return nullptr;
  // Plain x86-64: one object for all machines, and no fused multiply-add but where the text asks.
  return std::unique_ptr<llvm::TargetMachine>(
      target->createTargetMachine(kTriple, "x86-64", "", llvm::TargetOptions(), llvm::Reloc::PIC_));
}

/// A kernel is simulated for a moment, so little is optimised: compiling would take longer than running.
/// Loops are not unrolled as the text asks, since checks make them long.
void emit_object(llvm::Module& module, llvm::TargetMachine& machine, std::string& object) {
  for (llvm::Function& function : module) {
    for (llvm::BasicBlock& block : function) {
      if (llvm::Instruction* end = block.getTerminator())
        end->setMetadata(llvm::LLVMContext::MD_loop, nullptr);
    }
  }
  Passes passes(&machine);
  llvm::ModulePassManager optimise =
      passes.builder().buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O1);
  passes.run(optimise, module);

  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager emit;
  machine.addPassesToEmitFile(emit, stream, nullptr, llvm::CodeGenFileType::ObjectFile);
  emit.run(module);
  object.assign(bytes.begin(), bytes.end());
}

}  // namespace

JobResult run_simulator_job(const Request& request) {
  JobResult result;
  llvm::LLVMContext context;
  clang::EmitLLVMOnlyAction front_end(&context);
  if (!run_front_end(request, front_end, result.log, nullptr)) return result;
  const std::unique_ptr<llvm::Module> module = front_end.takeModule();
  const std::unique_ptr<llvm::TargetMachine> machine = make_machine();
  if (!module || !machine) {
    result.log += "error: LLVM has no x86-64 back end\n";
    return result;
  }

  drop_attributes(*module);
  inline_all(*module);
  SimulatorModule simulated(*module, result.log);
  simulated.take_kernels();
  if (!simulated.ok()) return result;
  drop_unused_functions(*module);
  module->setTargetTriple(kTriple);
  module->setDataLayout(machine->createDataLayout());
  simulated.number_variables();
  if (!simulated.ok()) return result;
  for (SimulatedKernel& kernel : simulated.kernels()) {
    insert_checks(simulated, kernel);
    lower_calls(simulated, kernel);
  }
  if (simulated.ok()) simulated.place_shared_variables();
  if (!simulated.ok()) return result;
  simulated.write_tables();

  llvm::StripDebugInfo(*module);
  llvm::raw_string_ostream log(result.log);
  if (llvm::verifyModule(*module, &log)) {
    log << "\nerror: the code for the simulator is not valid\n";
    return result;
  }
  emit_object(*module, *machine, result.bytes);
  result.ok = true;
  return result;
}

}  // namespace ktjit::worker
