// The ABI of runtime/simulator_abi.h as IR.
#include "worker/simulator_module.h"

#include <algorithm>
#include <llvm/Analysis/ValueTracking.h>
#include <llvm/IR/Constants.h>
#include <llvm/IR/DebugInfoMetadata.h>
#include <llvm/IR/Instructions.h>
#include <llvm/IR/ReplaceConstant.h>
#include <llvm/Support/Alignment.h>
#include <llvm/Transforms/Utils/ModuleUtils.h>

namespace ktjit::worker {
namespace {

namespace simulator = runtime::simulator;

constexpr unsigned kSharedSpace =
    3;  // NVPTX's numbers of address spaces, from here on all the same
constexpr unsigned kGlobalSpace = 1;
constexpr std::uint64_t kDynamicAlignment = 128;
constexpr unsigned kServicesField = 10;  // of simulator::Module

/// A variable's name as the text has it, from the mangled name of a function's static variable.
std::string readable_name(llvm::StringRef symbol) {
  if (!symbol.starts_with("_ZZ")) return symbol.str();
  const auto local = symbol.rfind('E');
  llvm::StringRef rest = symbol.substr(local + 1);
  unsigned length = 0;
  if (rest.consumeInteger(10, length) || length > rest.size()) return symbol.str();
  return rest.substr(0, length).str();
}

}  // namespace

SimulatorModule::SimulatorModule(llvm::Module& module, std::string& log)
    : module_(module), log_(log) {
  llvm::Type* triple = llvm::ArrayType::get(i32(), 3);
  view_type_ = llvm::StructType::create(
      context(), {triple, triple, triple, triple, i32(), i32(), pointer(), pointer()},
      "ktjit.view");
  instruction_type_ = llvm::StructType::create(
      context(), {pointer(), i32(), i32(), i64(), pointer(), pointer()}, "ktjit.instruction");
  module_type_ = llvm::StructType::create(context(),
                                          {i32(), i32(), i32(), i32(), i32(), i32(), pointer(),
                                           pointer(), pointer(), pointer(), pointer()},
                                          "ktjit.module");
}

void SimulatorModule::fail(const std::string& message) {
  log_ += "error: " + message + "\n";
  ok_ = false;
}

std::uint64_t SimulatorModule::site_of(const llvm::Instruction& instruction) {
  std::vector<const llvm::DILocation*> locations;  // from the innermost to the kernel's own
  for (const llvm::DILocation* at = instruction.getDebugLoc(); at != nullptr;
       at = at->getInlinedAt()) {
    locations.push_back(at);
  }
  if (locations.empty()) return 0;
  const llvm::DILocation* outer = locations.back();
  // What the prelude does is the text's doing.
  const auto inner = std::find_if(
      locations.begin(), locations.end(),
      [outer](const llvm::DILocation* at) { return at->getFilename() == outer->getFilename(); });
  const std::uint64_t caller = *inner == outer ? 0 : outer->getLine();
  return caller << 32 | (*inner)->getLine();
}

void SimulatorModule::take_kernels() {
  std::vector<llvm::Function*> originals;
  if (const auto* annotations = module_.getNamedMetadata("nvvm.annotations")) {
    for (const llvm::MDNode* node : annotations->operands()) {
      if (node->getNumOperands() < 2 || !node->getOperand(0)) continue;
      const auto* name = llvm::dyn_cast_or_null<llvm::MDString>(node->getOperand(1));
      auto* function = llvm::mdconst::dyn_extract_or_null<llvm::Function>(node->getOperand(0));
      if (name == nullptr || name->getString() != "kernel" || function == nullptr) continue;
      if (std::find(originals.begin(), originals.end(), function) == originals.end())
        originals.push_back(function);
    }
  }
  if (originals.empty()) fail("the text has no kernel");
  for (llvm::Function* original : originals) take_kernel(*original);
  // What has been inlined is not needed any more.
  for (llvm::Function& function : module_) {
    const bool is_kernel =
        std::any_of(kernels_.begin(), kernels_.end(),
                    [&](const SimulatedKernel& kernel) { return kernel.function == &function; });
    if (is_kernel || function.isDeclaration()) continue;
    function.setComdat(nullptr);
    function.setLinkage(llvm::GlobalValue::InternalLinkage);
  }
}

void SimulatorModule::take_kernel(llvm::Function& original) {
  const std::string name = original.getName().str();
  original.setName(name + ".body");
  auto* type =
      llvm::FunctionType::get(llvm::Type::getVoidTy(context()), {pointer(), pointer()}, false);
  llvm::Function* function =
      llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage, name, module_);
  function->addFnAttr(llvm::Attribute::NoUnwind);
  // A frame that is larger than the guard below the stack touches every page of it.
  function->addFnAttr("probe-stack", "inline-asm");
  function->setSubprogram(original.getSubprogram());
  original.setSubprogram(nullptr);
  function->splice(function->begin(), &original);

  SimulatedKernel kernel;
  kernel.function = function;
  kernel.view = function->getArg(0);
  std::vector<std::uint8_t> is_pointer;
  llvm::BasicBlock& entry = function->getEntryBlock();
  llvm::IRBuilder<> builder(&entry, entry.begin());
  for (llvm::Argument& argument : original.args()) {
    llvm::Type* wanted = argument.getType();
    // A struct by value is a pointer to it here; its slot holds the address of one.
    const bool is_struct = argument.hasByValAttr();
    const bool pointer_like = wanted->isPointerTy() && !is_struct;
    if (!pointer_like && !is_struct && !wanted->isIntegerTy() && !wanted->isFloatTy() &&
        !wanted->isDoubleTy()) {
      fail("kernel " + name + " takes an argument that is no number and no pointer");
      return;
    }
    llvm::Value* at = builder.CreateConstGEP1_64(i64(), function->getArg(1), argument.getArgNo());
    llvm::Value* value = builder.CreateLoad(wanted, at);  // low bytes of the slot
    argument.replaceAllUsesWith(value);
    kernel.parameters.push_back(value);
    parameter_numbers_[value] = argument.getArgNo();
    is_pointer.push_back(pointer_like);
  }
  original.deleteBody();
  if (auto* annotations = module_.getNamedMetadata("nvvm.annotations"))
    annotations->eraseFromParent();
  for (const char* used : {"llvm.used", "llvm.compiler.used"}) {
    if (llvm::GlobalVariable* list = module_.getGlobalVariable(used)) list->eraseFromParent();
  }
  original.removeDeadConstantUsers();
  if (original.use_empty()) original.eraseFromParent();
  kernels_.push_back(std::move(kernel));
  pointer_parameters_.push_back(std::move(is_pointer));
}

void SimulatorModule::number_variables() {
  module_table_ =
      new llvm::GlobalVariable(module_, module_type_, false, llvm::GlobalValue::ExternalLinkage,
                               nullptr, simulator::kModuleSymbol);
  std::vector<llvm::GlobalVariable*> dynamic;
  std::uint64_t end = 0;
  for (llvm::GlobalVariable& variable : module_.globals()) {
    const unsigned space = variable.getAddressSpace();
    const std::uint64_t size = layout().getTypeAllocSize(variable.getValueType());
    if (space == kSharedSpace) {
      if (variable.isDeclaration()) {
        dynamic.push_back(&variable);
        continue;
      }
      const llvm::Align alignment = variable.getAlign().valueOrOne();
      if (alignment.value() > kDynamicAlignment) {
        fail("shared variable " + readable_name(variable.getName()) +
             " wants more than 128-byte alignment");
        return;
      }
      end = llvm::alignTo(end, alignment);
      shared_.push_back({&variable, readable_name(variable.getName()), end, size});
      end += size;
    } else if (!variable.isDeclaration() && &variable != module_table_) {
      variable.setLinkage(llvm::GlobalValue::InternalLinkage);
      variable.setExternallyInitialized(false);
      globals_.push_back(&variable);
    }
  }
  static_shared_bytes_ = llvm::alignTo(end, kDynamicAlignment);
  for (llvm::GlobalVariable* variable : dynamic)
    shared_.push_back({variable, readable_name(variable->getName()), static_shared_bytes_, 0});
  std::vector<llvm::Constant*> variables;
  for (const SharedPlace& place : shared_) variables.push_back(place.variable);
  llvm::convertUsersOfConstantsToInstructions(variables);
}

std::uint64_t SimulatorModule::object_of(const SimulatedKernel&, const llvm::Value* pointer) const {
  const auto code = [](simulator::ObjectKind kind, std::uint64_t number) {
    return static_cast<std::uint64_t>(kind) << 32 | number;
  };
  llvm::SmallVector<const llvm::Value*, 4> objects;
  llvm::getUnderlyingObjects(pointer, objects, nullptr, 0);
  if (objects.size() != 1) return 0;
  const llvm::Value* object = objects.front();
  if (const auto found = parameter_numbers_.find(object); found != parameter_numbers_.end())
    return code(simulator::ObjectKind::kParameter, found->second);
  for (std::size_t i = 0; i < shared_.size(); ++i)
    if (shared_[i].variable == object) return code(simulator::ObjectKind::kShared, i);
  for (std::size_t i = 0; i < globals_.size(); ++i)
    if (globals_[i] == object) return code(simulator::ObjectKind::kGlobal, i);
  return 0;
}

void SimulatorModule::place_shared_variables() {
  for (const SharedPlace& place : shared_) {
    std::map<llvm::Function*, llvm::Value*> addresses;
    while (!place.variable->use_empty()) {
      llvm::Use& use = *place.variable->use_begin();
      auto* user = llvm::dyn_cast<llvm::Instruction>(use.getUser());
      if (user == nullptr) {
        place.variable->removeDeadConstantUsers();
        if (!place.variable->use_empty() &&
            place.variable->use_begin()->getUser() == use.getUser()) {
          fail("shared variable " + place.name + " is used outside of a function");
          return;
        }
        continue;
      }
      llvm::Value*& address = addresses[user->getFunction()];
      if (address == nullptr) {
        const auto kernel =
            std::find_if(kernels_.begin(), kernels_.end(), [&](const SimulatedKernel& candidate) {
              return candidate.function == user->getFunction();
            });
        if (kernel == kernels_.end()) {
          fail("shared variable " + place.name + " is used in a function that is not inlined");
          return;
        }
        llvm::BasicBlock& entry = kernel->function->getEntryBlock();
        llvm::IRBuilder<> builder(&entry, entry.begin());
        llvm::Value* base = view_field(builder, *kernel, ViewField::kShared);
        address = builder.CreateAddrSpaceCast(builder.CreateConstGEP1_64(i8(), base, place.offset),
                                              place.variable->getType());
      }
      use.set(address);
    }
  }
}

llvm::Value* SimulatorModule::view_field(llvm::IRBuilder<>& builder, const SimulatedKernel& kernel,
                                         ViewField field, unsigned index) {
  const auto number = static_cast<unsigned>(field);
  const bool is_triple = field <= ViewField::kNctaid;
  llvm::Value* at = builder.CreateStructGEP(view_type_, kernel.view, number);
  if (is_triple) at = builder.CreateConstGEP2_32(view_type_->getElementType(number), at, 0, index);
  llvm::Type* type = field == ViewField::kShared ? static_cast<llvm::Type*>(pointer()) : i32();
  llvm::LoadInst* value = builder.CreateLoad(type, at);
  value->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context(), {}));
  return value;
}

llvm::CallInst* SimulatorModule::call(llvm::IRBuilder<>& builder, Service service,
                                      llvm::Type* result, llvm::ArrayRef<llvm::Value*> arguments) {
  llvm::LoadInst* services = builder.CreateLoad(
      pointer(), builder.CreateStructGEP(module_type_, module_table_, kServicesField));
  services->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context(), {}));
  llvm::LoadInst* target = builder.CreateLoad(
      pointer(), builder.CreateConstGEP1_32(pointer(), services, static_cast<unsigned>(service)));
  target->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context(), {}));
  std::vector<llvm::Type*> types;
  for (llvm::Value* argument : arguments) types.push_back(argument->getType());
  llvm::CallInst* call =
      builder.CreateCall(llvm::FunctionType::get(result, types, false), target, arguments);
  call->setDoesNotThrow();
  return call;
}

llvm::Value* SimulatorModule::slots(const SimulatedKernel& kernel, bool results, unsigned count) {
  llvm::AllocaInst*& area = slots_[{kernel.function, results}];
  if (area == nullptr) {
    llvm::BasicBlock& entry = kernel.function->getEntryBlock();
    llvm::IRBuilder<> builder(&entry, entry.begin());
    area = builder.CreateAlloca(llvm::ArrayType::get(i64(), 1), nullptr,
                                results ? "result_slots" : "operand_slots");
  }
  if (area->getAllocatedType()->getArrayNumElements() < count)
    area->setAllocatedType(llvm::ArrayType::get(i64(), count));
  return area;
}

llvm::Value* SimulatorModule::store_slots(llvm::IRBuilder<>& builder, const SimulatedKernel& kernel,
                                          llvm::ArrayRef<llvm::Value*> values) {
  llvm::Value* area = slots(kernel, false, static_cast<unsigned>(values.size()));
  for (unsigned i = 0; i < values.size(); ++i)
    builder.CreateStore(values[i], builder.CreateConstGEP1_32(i64(), area, i));
  return area;
}

llvm::Value* SimulatorModule::result_slots(const SimulatedKernel& kernel, unsigned count) {
  return slots(kernel, true, count);
}

std::vector<llvm::Value*> SimulatorModule::call_instruction(llvm::IRBuilder<>& builder,
                                                            const SimulatedKernel& kernel,
                                                            const std::string& opcode,
                                                            llvm::ArrayRef<llvm::Value*> operands,
                                                            unsigned results, std::uint64_t site) {
  const auto operand_count = static_cast<unsigned>(operands.size());
  auto found = std::find_if(uses_.begin(), uses_.end(), [&](const InstructionUse& use) {
    return use.opcode == opcode && use.results == results && use.operands == operand_count;
  });
  if (found == uses_.end()) {
    uses_.push_back({opcode, results, operand_count, site});
    llvm::Constant* null = llvm::ConstantPointerNull::get(pointer());
    auto* row = llvm::ConstantStruct::get(instruction_type_,
                                          {string(opcode), llvm::ConstantInt::get(i32(), results),
                                           llvm::ConstantInt::get(i32(), operand_count),
                                           llvm::ConstantInt::get(i64(), site), null, null});
    // The device writes into it: neither constant nor internal, or its fields would be folded away.
    auto* handle = new llvm::GlobalVariable(module_, instruction_type_, false,
                                            llvm::GlobalValue::ExternalLinkage, row,
                                            "ktjit_instruction_" + std::to_string(uses_.size()));
    handle->setVisibility(llvm::GlobalValue::HiddenVisibility);
    use_handles_.push_back(handle);
    found = uses_.end() - 1;
  }
  llvm::GlobalVariable* handle = use_handles_[static_cast<std::size_t>(found - uses_.begin())];
  llvm::Value* in = store_slots(builder, kernel, operands);
  llvm::Value* out = result_slots(kernel, results);
  llvm::Value* target =
      builder.CreateLoad(pointer(), builder.CreateStructGEP(instruction_type_, handle, 4));
  auto* type = llvm::FunctionType::get(llvm::Type::getVoidTy(context()),
                                       {pointer(), pointer(), pointer(), pointer(), i64()}, false);
  builder.CreateCall(type, target, {kernel.view, handle, out, in, number(site)})->setDoesNotThrow();
  std::vector<llvm::Value*> values;
  for (unsigned i = 0; i < results; ++i)
    values.push_back(builder.CreateLoad(i64(), builder.CreateConstGEP1_32(i64(), out, i)));
  return values;
}

llvm::Constant* SimulatorModule::string(const std::string& text) {
  auto* data = llvm::ConstantDataArray::getString(context(), text);
  return new llvm::GlobalVariable(module_, data->getType(), true, llvm::GlobalValue::PrivateLinkage,
                                  data, "ktjit_text");
}

llvm::GlobalVariable* SimulatorModule::table(llvm::Type* type, llvm::ArrayRef<llvm::Constant*> rows,
                                             const char* name) {
  auto* array = llvm::ArrayType::get(type, rows.size());
  return new llvm::GlobalVariable(module_, array, true, llvm::GlobalValue::InternalLinkage,
                                  llvm::ConstantArray::get(array, rows), name);
}

void SimulatorModule::write_tables() {
  const auto constant32 = [this](std::uint64_t value) {
    return llvm::ConstantInt::get(i32(), value);
  };
  const auto constant64 = [this](std::uint64_t value) {
    return llvm::ConstantInt::get(i64(), value);
  };

  std::vector<llvm::Constant*> instructions(use_handles_.begin(), use_handles_.end());

  auto* shared_type = llvm::StructType::get(context(), {pointer(), i64(), i64()});
  std::vector<llvm::Constant*> shared;
  for (const SharedPlace& place : shared_) {
    shared.push_back(llvm::ConstantStruct::get(
        shared_type, {string(place.name), constant64(place.offset), constant64(place.size)}));
    place.variable->eraseFromParent();
  }

  auto* global_type = llvm::StructType::get(context(), {pointer(), pointer(), i64(), i32(), i32()});
  std::vector<llvm::Constant*> globals;
  for (llvm::GlobalVariable* variable : globals_) {
    const bool writable = variable->getAddressSpace() == kGlobalSpace && !variable->isConstant();
    globals.push_back(llvm::ConstantStruct::get(
        global_type, {string(readable_name(variable->getName())),
                      llvm::ConstantExpr::getAddrSpaceCast(variable, pointer()),
                      constant64(layout().getTypeAllocSize(variable->getValueType())),
                      constant32(writable), constant32(0)}));
  }

  auto* kernel_type = llvm::StructType::get(context(), {pointer(), i32(), i32(), pointer()});
  std::vector<llvm::Constant*> kernels;
  for (std::size_t i = 0; i < kernels_.size(); ++i) {
    std::vector<llvm::Constant*> flags;
    for (std::uint8_t flag : pointer_parameters_[i])
      flags.push_back(llvm::ConstantInt::get(i8(), flag));
    kernels.push_back(llvm::ConstantStruct::get(
        kernel_type, {string(kernels_[i].function->getName().str()), constant32(flags.size()),
                      constant32(0), table(i8(), flags, "ktjit_parameters")}));
  }

  module_table_->setInitializer(llvm::ConstantStruct::get(
      module_type_,
      {constant32(simulator::kVersion), constant32(static_shared_bytes_),
       constant32(instructions.size()), constant32(shared.size()), constant32(globals.size()),
       constant32(kernels.size()), table(pointer(), instructions, "ktjit_instructions"),
       table(shared_type, shared, "ktjit_shared"), table(global_type, globals, "ktjit_globals"),
       table(kernel_type, kernels, "ktjit_kernels"), llvm::ConstantPointerNull::get(pointer())}));
}

}  // namespace ktjit::worker
