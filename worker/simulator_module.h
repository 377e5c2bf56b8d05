// What the passes of a simulator job share: the module, the device's services as IR, messages.
#pragma once

#include <cstdint>
#include <llvm/ADT/DenseMap.h>
#include <llvm/ADT/MapVector.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Module.h>
#include <map>
#include <string>
#include <vector>

#include "runtime/simulator_abi.h"

namespace ktjit::worker {

/// A kernel with the simulator's signature, (view, arguments), and what its values mean.
struct SimulatedKernel {
  llvm::Function* function = nullptr;
  llvm::Argument* view = nullptr;
  std::vector<llvm::Value*> parameters;  ///< loaded at the entry, in order
};

/// Fields of ThreadView and Services, in their order.
enum class ViewField : unsigned { kTid, kCtaid, kNtid, kNctaid, kLane, kWarp, kShared };
enum class Service : unsigned { kCheck, kLocalFault, kBarrier, kWarp, kTrap, kFmaF32, kFmaF64 };

class SimulatorModule {
 public:
  SimulatorModule(llvm::Module& module, std::string& log);

  llvm::Module& module() { return module_; }
  llvm::LLVMContext& context() { return module_.getContext(); }
  const llvm::DataLayout& layout() const { return module_.getDataLayout(); }
  llvm::Type* i8() { return llvm::Type::getInt8Ty(context()); }
  llvm::Type* i32() { return llvm::Type::getInt32Ty(context()); }
  llvm::Type* i64() { return llvm::Type::getInt64Ty(context()); }
  llvm::PointerType* pointer() { return llvm::PointerType::getUnqual(context()); }
  llvm::StructType* view_type() { return view_type_; }

  /// Turns every kernel of the text into a SimulatedKernel.
  void take_kernels();
  std::vector<SimulatedKernel>& kernels() { return kernels_; }

  /// Gives each shared variable its place, each device variable its number, so that checks can name
  /// them; address spaces stay, because this CPU's are all the same.
  void number_variables();
  /// Replaces shared variables by their places in the CTA's shared memory.
  void place_shared_variables();
  /// {kind, number} of what `pointer` was made from, as the ABI has it; `kernel` is the function's.
  std::uint64_t object_of(const SimulatedKernel& kernel, const llvm::Value* pointer) const;

  /// Calls one of the device's services; the thread's view is passed by the caller where it is needed.
  llvm::CallInst* call(llvm::IRBuilder<>& builder, Service service, llvm::Type* result,
                       llvm::ArrayRef<llvm::Value*> arguments);
  /// Calls an instruction by its name, with `operands` and as many results as are asked for, all i64.
  std::vector<llvm::Value*> call_instruction(llvm::IRBuilder<>& builder,
                                             const SimulatedKernel& kernel,
                                             const std::string& opcode,
                                             llvm::ArrayRef<llvm::Value*> operands,
                                             unsigned results, std::uint64_t site);
  llvm::Value* view_field(llvm::IRBuilder<>& builder, const SimulatedKernel& kernel,
                          ViewField field, unsigned index = 0);
  /// Values in memory of the thread, for services that take arrays of slots.
  llvm::Value* store_slots(llvm::IRBuilder<>& builder, const SimulatedKernel& kernel,
                           llvm::ArrayRef<llvm::Value*> values);
  llvm::Value* result_slots(const SimulatedKernel& kernel, unsigned count);

  /// Writes the ABI's tables. The last step.
  void write_tables();

  void fail(const std::string& message);
  bool ok() const { return ok_; }

  /// Line of the text, and of the call in the kernel's own lines; see runtime::simulator::Site.
  static std::uint64_t site_of(const llvm::Instruction& instruction);
  llvm::Value* number(std::uint64_t value) { return llvm::ConstantInt::get(i64(), value); }
  llvm::Value* number32(std::uint64_t value) { return llvm::ConstantInt::get(i32(), value); }

 private:
  struct InstructionUse {
    std::string opcode;
    unsigned results = 0;
    unsigned operands = 0;
    std::uint64_t site = 0;
  };
  struct SharedPlace {
    llvm::GlobalVariable* variable = nullptr;
    std::string name;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };

  void take_kernel(llvm::Function& original);
  llvm::Value* slots(const SimulatedKernel& kernel, bool results, unsigned count);
  llvm::Constant* string(const std::string& text);
  llvm::GlobalVariable* table(llvm::Type* type, llvm::ArrayRef<llvm::Constant*> rows,
                              const char* name);

  llvm::Module& module_;
  std::string& log_;
  bool ok_ = true;
  llvm::StructType* view_type_ = nullptr;
  llvm::StructType* instruction_type_ = nullptr;
  llvm::GlobalVariable* module_table_ = nullptr;
  llvm::StructType* module_type_ = nullptr;
  std::vector<SimulatedKernel> kernels_;
  std::vector<std::vector<std::uint8_t>> pointer_parameters_;
  std::vector<SharedPlace> shared_;
  std::uint64_t static_shared_bytes_ = 0;
  std::vector<llvm::GlobalVariable*> globals_;
  std::vector<InstructionUse> uses_;
  std::vector<llvm::GlobalVariable*> use_handles_;  ///< one for each of uses_
  llvm::DenseMap<const llvm::Value*, unsigned> parameter_numbers_;
  std::map<std::pair<llvm::Function*, bool>, llvm::AllocaInst*> slots_;
};

/// Inserts a check before every access to memory that isn't seen to be right.
void insert_checks(SimulatorModule& module, SimulatedKernel& kernel);

/// Replaces the GPU's intrinsics and inline assembly by calls of the device.
void lower_calls(SimulatorModule& module, SimulatedKernel& kernel);

}  // namespace ktjit::worker
