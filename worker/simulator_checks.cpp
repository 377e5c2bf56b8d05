// Checks of accesses, put in before any optimisation: what the text says is checked, not what is left
// of it. Accesses to local variables are compared here with the variable's size, which the optimiser
// can often prove right; all others are the device's to judge.
#include <llvm/Analysis/Utils/Local.h>
#include <llvm/Analysis/ValueTracking.h>
#include <llvm/IR/InstIterator.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/Transforms/Utils/BasicBlockUtils.h>
#include <vector>

#include "worker/simulator_module.h"

namespace ktjit::worker {
namespace {

namespace simulator = runtime::simulator;

struct Access {
  llvm::Instruction* instruction = nullptr;
  llvm::Value* pointer = nullptr;
  llvm::Value* bytes = nullptr;  ///< i64
  std::uint64_t alignment = 1;
  std::uint64_t flags = 0;

  std::uint64_t meta() const { return flags << 32 | alignment; }
};

class Checks {
 public:
  Checks(SimulatorModule& module, SimulatedKernel& kernel) : module_(module), kernel_(kernel) {}

  void insert() {
    // What the optimiser may not conclude: that accesses are right.
    for (llvm::Instruction& instruction : llvm::instructions(*kernel_.function)) {
      if (auto* step = llvm::dyn_cast<llvm::GetElementPtrInst>(&instruction))
        step->setIsInBounds(false);
    }
    for (llvm::Instruction& instruction : llvm::instructions(*kernel_.function))
      collect(instruction);
    for (const Access& access : accesses_) check(access);
  }

 private:
  void add(llvm::Instruction& instruction, llvm::Value* pointer, llvm::Type* type,
           llvm::Align alignment, std::uint64_t flags) {
    accesses_.push_back({&instruction, pointer,
                         module_.number(module_.layout().getTypeStoreSize(type)), alignment.value(),
                         flags});
  }

  void collect(llvm::Instruction& instruction) {
    if (auto* load = llvm::dyn_cast<llvm::LoadInst>(&instruction)) {
      for (llvm::Value* parameter : kernel_.parameters)
        if (parameter == load) return;  // ours
      add(instruction, load->getPointerOperand(), load->getType(), load->getAlign(),
          simulator::kRead);
    } else if (auto* store = llvm::dyn_cast<llvm::StoreInst>(&instruction)) {
      add(instruction, store->getPointerOperand(), store->getValueOperand()->getType(),
          store->getAlign(), simulator::kWrite);
    } else if (auto* update = llvm::dyn_cast<llvm::AtomicRMWInst>(&instruction)) {
      add(instruction, update->getPointerOperand(), update->getType(), update->getAlign(),
          simulator::kRead | simulator::kWrite | simulator::kAtomic);
    } else if (auto* exchange = llvm::dyn_cast<llvm::AtomicCmpXchgInst>(&instruction)) {
      add(instruction, exchange->getPointerOperand(), exchange->getCompareOperand()->getType(),
          exchange->getAlign(), simulator::kRead | simulator::kWrite | simulator::kAtomic);
    } else if (auto* memory = llvm::dyn_cast<llvm::MemIntrinsic>(&instruction)) {
      llvm::IRBuilder<> builder(&instruction);
      llvm::Value* bytes = builder.CreateZExtOrTrunc(memory->getLength(), module_.i64());
      if (auto* transfer = llvm::dyn_cast<llvm::MemTransferInst>(memory)) {
        accesses_.push_back({&instruction, transfer->getRawSource(), bytes,
                             transfer->getSourceAlign().valueOrOne().value(), simulator::kRead});
      }
      accesses_.push_back({&instruction, memory->getRawDest(), bytes,
                           memory->getDestAlign().valueOrOne().value(), simulator::kWrite});
    }
  }

  void check(const Access& access) {
    llvm::SmallVector<const llvm::Value*, 4> objects;
    llvm::getUnderlyingObjects(access.pointer, objects, nullptr, 0);
    const auto* local =
        objects.size() == 1 ? llvm::dyn_cast<llvm::AllocaInst>(objects.front()) : nullptr;
    if (local != nullptr && !local->isArrayAllocation()) {
      check_local(access, *local);
      return;
    }
    llvm::IRBuilder<> builder(access.instruction);
    llvm::Value* address = builder.CreatePtrToInt(access.pointer, module_.i64());
    module_.call(builder, Service::kCheck, llvm::Type::getVoidTy(module_.context()),
                 {kernel_.view, address, access.bytes, module_.number(access.meta()),
                  module_.number(module_.object_of(kernel_, access.pointer)),
                  module_.number(SimulatorModule::site_of(*access.instruction))});
  }

  /// Bytes from `local` to `pointer`, as a sum of the steps where that is known.
  llvm::Value* offset_from(llvm::IRBuilder<>& builder, const llvm::AllocaInst& local,
                           llvm::Value* pointer) {
    llvm::Value* offset = module_.number(0);
    llvm::Value* at = pointer;
    while (auto* step = llvm::dyn_cast<llvm::GEPOperator>(at)) {
      offset = builder.CreateAdd(
          offset, builder.CreateSExtOrTrunc(
                      llvm::emitGEPOffset(&builder, module_.layout(), step, true), module_.i64()));
      at = step->getPointerOperand();
    }
    if (at == &local) return offset;
    return builder.CreateSub(
        builder.CreatePtrToInt(pointer, module_.i64()),
        builder.CreatePtrToInt(const_cast<llvm::AllocaInst*>(&local), module_.i64()));
  }

  void check_local(const Access& access, const llvm::AllocaInst& local) {
    const std::uint64_t size = module_.layout().getTypeAllocSize(local.getAllocatedType());
    llvm::IRBuilder<> builder(access.instruction);
    llvm::Value* offset = offset_from(builder, local, access.pointer);
    // offset > size - bytes, where neither side may wrap.
    llvm::Value* outside = builder.CreateOr(
        builder.CreateICmpUGT(access.bytes, module_.number(size)),
        builder.CreateICmpUGT(offset, builder.CreateSub(module_.number(size), access.bytes)));
    if (auto* known = llvm::dyn_cast<llvm::ConstantInt>(outside);
        known != nullptr && known->isZero())
      return;
    llvm::Instruction* fault =
        llvm::SplitBlockAndInsertIfThen(outside, access.instruction->getIterator(), true);
    llvm::IRBuilder<> in_fault(fault);
    module_.call(
        in_fault, Service::kLocalFault, llvm::Type::getVoidTy(module_.context()),
        {kernel_.view, offset, module_.number(size), access.bytes, module_.number(access.meta()),
         module_.number(SimulatorModule::site_of(*access.instruction))});
  }

  SimulatorModule& module_;
  SimulatedKernel& kernel_;
  std::vector<Access> accesses_;
};

}  // namespace

void insert_checks(SimulatorModule& module, SimulatedKernel& kernel) {
  Checks(module, kernel).insert();
}

}  // namespace ktjit::worker
