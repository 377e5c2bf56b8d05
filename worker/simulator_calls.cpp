// The GPU's intrinsics and inline assembly as calls of the device. What has no place here becomes an
// instruction with the intrinsic's name, which the device knows or refuses by that name.
#include <algorithm>
#include <llvm/IR/InlineAsm.h>
#include <llvm/IR/InstIterator.h>
#include <llvm/IR/IntrinsicInst.h>
#include <map>
#include <optional>

#include "worker/ptx_template.h"
#include "worker/simulator_module.h"

namespace ktjit::worker {
namespace {

namespace simulator = runtime::simulator;
using simulator::BarrierOp;
using simulator::WarpOp;

constexpr unsigned kSharedSpace = 3;

class Calls {
 public:
  Calls(SimulatorModule& module, SimulatedKernel& kernel) : module_(module), kernel_(kernel) {}

  void lower() {
    std::vector<llvm::CallInst*> calls;
    std::vector<llvm::CastInst*> casts;
    for (llvm::Instruction& instruction : llvm::instructions(*kernel_.function)) {
      if (auto* call = llvm::dyn_cast<llvm::CallInst>(&instruction)) calls.push_back(call);
      if (auto* cast = llvm::dyn_cast<llvm::CastInst>(&instruction)) casts.push_back(cast);
    }
    for (llvm::CallInst* call : calls) lower_call(*call);
    for (llvm::CastInst* cast : casts) lower_shared_address(*cast);
  }

 private:
  using Builder = llvm::IRBuilder<>;

  void lower_call(llvm::CallInst& call) {
    if (call.isInlineAsm()) return lower_assembly(call);
    const llvm::Function* callee = call.getCalledFunction();
    if (callee == nullptr) return;  // ours: the services
    const llvm::StringRef name = callee->getName();
    if (!callee->isDeclaration()) {
      module_.fail("kernel " + kernel_.function->getName().str() + " calls " + name.str() +
                   ", which calls itself: recursion is not simulated");
      return;
    }
    Builder builder(&call);
    if (name == "llvm.fma.f32" || name == "llvm.fma.f64") {
      const bool is_f64 = name == "llvm.fma.f64";
      replace(call, module_.call(builder, is_f64 ? Service::kFmaF64 : Service::kFmaF32,
                                 call.getType(), arguments(call)));
    } else if (name == "llvm.trap" || name == "llvm.debugtrap") {
      module_.call(builder, Service::kTrap, builder.getVoidTy(), {kernel_.view, site(call)});
    } else if (name.starts_with("llvm.nvvm.")) {
      lower_intrinsic(call, name.drop_front(10));
    }
  }

  void lower_intrinsic(llvm::CallInst& call, llvm::StringRef name) {
    Builder builder(&call);
    if (llvm::Value* value = special_register(builder, name)) return replace(call, value);
    if (name.starts_with("membar.")) {
      builder.CreateFence(llvm::AtomicOrdering::SequentiallyConsistent);
      return replace(call, nullptr);
    }
    if (lower_barrier(call, name) || lower_warp_operation(call, name)) return;
    std::vector<llvm::Value*> operands;
    for (llvm::Value* argument : arguments(call)) {
      llvm::Value* slot = to_slot(builder, argument);
      if (slot == nullptr) {
        operands.clear();
        break;
      }
      operands.push_back(slot);
    }
    const bool has_result = to_bits(call.getType()) > 0;
    const auto results = module_.call_instruction(builder, kernel_, ("llvm.nvvm." + name).str(),
                                                  operands, has_result ? 1 : 0, site_number(call));
    replace(call, has_result ? from_slot(builder, results[0], call.getType())
                             : (call.getType()->isVoidTy() ? nullptr : poison(call)));
  }

  /// "read.ptx.sreg.tid.x", or without what comes before "tid.x" as PTX has it.
  llvm::Value* special_register(Builder& builder, llvm::StringRef name) {
    name.consume_front("read.ptx.sreg.");
    static const std::map<std::string, ViewField> kTriples = {{"tid", ViewField::kTid},
                                                              {"ctaid", ViewField::kCtaid},
                                                              {"ntid", ViewField::kNtid},
                                                              {"nctaid", ViewField::kNctaid}};
    const auto [stem, dimension] = name.split('.');
    if (const auto found = kTriples.find(stem.str()); found != kTriples.end() &&
                                                      dimension.size() == 1 &&
                                                      dimension[0] >= 'x' && dimension[0] <= 'z') {
      return module_.view_field(builder, kernel_, found->second,
                                static_cast<unsigned>(dimension[0] - 'x'));
    }
    if (name == "warpsize" || name == "WARP_SZ") return builder.getInt32(32);
    if (name == "laneid") return module_.view_field(builder, kernel_, ViewField::kLane);
    if (name == "warpid") return module_.view_field(builder, kernel_, ViewField::kWarp);
    if (!name.starts_with("lanemask")) return nullptr;
    llvm::Value* own = builder.CreateShl(builder.getInt32(1),
                                         module_.view_field(builder, kernel_, ViewField::kLane));
    llvm::Value* below = builder.CreateSub(own, builder.getInt32(1));
    if (name.ends_with("eq")) return own;
    if (name.ends_with("lt")) return below;
    if (name.ends_with("le")) return builder.CreateOr(below, own);
    if (name.ends_with("gt")) return builder.CreateNot(builder.CreateOr(below, own));
    if (name.ends_with("ge")) return builder.CreateNot(below);
    return nullptr;
  }

  bool lower_barrier(llvm::CallInst& call, llvm::StringRef name) {
    static const std::map<std::string, BarrierOp> kOps = {
        {"barrier0", BarrierOp::kSync},      {"barrier.n", BarrierOp::kSync},
        {"bar.sync", BarrierOp::kSync},      {"barrier.sync", BarrierOp::kSync},
        {"barrier0.popc", BarrierOp::kPopc}, {"barrier0.and", BarrierOp::kAnd},
        {"barrier0.or", BarrierOp::kOr}};
    const auto found = kOps.find(name.str());
    if (found == kOps.end()) return false;
    Builder builder(&call);
    const bool combines = found->second != BarrierOp::kSync;
    llvm::Value* barrier =
        !combines && call.arg_size() == 1 ? call.getArgOperand(0) : builder.getInt32(0);
    llvm::Value* predicate = combines ? call.getArgOperand(0) : builder.getInt32(0);
    llvm::Value* result = meet(builder, barrier, found->second, predicate, site_number(call));
    replace(call, combines ? result : nullptr);
    return true;
  }

  llvm::Value* meet(Builder& builder, llvm::Value* barrier, BarrierOp op, llvm::Value* predicate,
                    std::uint64_t site) {
    return module_.call(builder, Service::kBarrier, builder.getInt32Ty(),
                        {kernel_.view, barrier, builder.getInt32(static_cast<unsigned>(op)),
                         predicate, module_.number(++meetings_), module_.number(site)});
  }

  bool lower_warp_operation(llvm::CallInst& call, llvm::StringRef name) {
    if (name == "bar.warp.sync") {
      Builder builder(&call);
      warp(builder, WarpOp::kSync, call.getArgOperand(0), {}, site_number(call));
      replace(call, nullptr);
      return true;
    }
    static const std::map<std::string, WarpOp> kVotes = {{"all", WarpOp::kVoteAll},
                                                         {"any", WarpOp::kVoteAny},
                                                         {"uni", WarpOp::kVoteUniform},
                                                         {"ballot", WarpOp::kVoteBallot}};
    static const std::map<std::string, WarpOp> kShuffles = {{"up", WarpOp::kShuffleUp},
                                                            {"down", WarpOp::kShuffleDown},
                                                            {"bfly", WarpOp::kShuffleXor},
                                                            {"idx", WarpOp::kShuffleIndex}};
    Builder builder(&call);
    if (name.consume_front("vote.") && name.consume_back(".sync")) {
      const auto op = kVotes.find(name.str());
      if (op == kVotes.end()) return false;
      llvm::Value* in = builder.CreateZExt(call.getArgOperand(1), module_.i64());
      llvm::Value* out = warp(builder, op->second, call.getArgOperand(0), {in}, site_number(call));
      llvm::Value* result = builder.CreateLoad(module_.i64(), out);
      replace(call, builder.CreateTrunc(result, call.getType()));
      return true;
    }
    if (name == "redux.sync.umax") {
      llvm::Value* in = to_slot(builder, call.getArgOperand(0));
      llvm::Value* out =
          warp(builder, WarpOp::kReduceMax, call.getArgOperand(1), {in}, site_number(call));
      replace(call, from_slot(builder, builder.CreateLoad(module_.i64(), out), call.getType()));
      return true;
    }
    if (!name.consume_front("shfl.sync.")) return false;
    const auto [mode, type] = name.split('.');
    const auto op = kShuffles.find(mode.str());
    if (op == kShuffles.end()) return false;
    std::vector<llvm::Value*> in;
    for (unsigned i = 1; i < 4; ++i) in.push_back(to_slot(builder, call.getArgOperand(i)));
    llvm::Value* out = warp(builder, op->second, call.getArgOperand(0), in, site_number(call));
    llvm::Value* value = builder.CreateLoad(module_.i64(), out);
    if (auto* pair = llvm::dyn_cast<llvm::StructType>(call.getType())) {
      llvm::Value* predicate =
          builder.CreateLoad(module_.i64(), builder.CreateConstGEP1_32(module_.i64(), out, 1));
      llvm::Value* result = builder.CreateInsertValue(
          llvm::PoisonValue::get(pair), from_slot(builder, value, pair->getElementType(0)), 0);
      result = builder.CreateInsertValue(result,
                                         from_slot(builder, predicate, pair->getElementType(1)), 1);
      replace(call, result);
    } else {
      replace(call, from_slot(builder, value, call.getType()));
    }
    return true;
  }

  /// Returns where the results lie.
  llvm::Value* warp(Builder& builder, WarpOp op, llvm::Value* mask, llvm::ArrayRef<llvm::Value*> in,
                    std::uint64_t site) {
    llvm::Value* operands = module_.store_slots(builder, kernel_, in);
    llvm::Value* out = module_.result_slots(kernel_, 2);
    module_.call(builder, Service::kWarp, builder.getVoidTy(),
                 {kernel_.view, builder.getInt32(static_cast<unsigned>(op)), mask, operands, out,
                  module_.number(site)});
    return out;
  }

  /// Shared memory has addresses of its own: as numbers, they count from the start of the CTA's.
  void lower_shared_address(llvm::CastInst& cast) {
    Builder builder(&cast);
    const auto base = [&] {
      return builder.CreatePtrToInt(module_.view_field(builder, kernel_, ViewField::kShared),
                                    module_.i64());
    };
    if (auto* to_number = llvm::dyn_cast<llvm::PtrToIntInst>(&cast);
        to_number != nullptr && to_number->getPointerAddressSpace() == kSharedSpace) {
      llvm::Value* address = builder.CreatePtrToInt(to_number->getPointerOperand(), module_.i64());
      replace(cast, builder.CreateZExtOrTrunc(builder.CreateSub(address, base()), cast.getType()));
    } else if (auto* to_pointer = llvm::dyn_cast<llvm::IntToPtrInst>(&cast);
               to_pointer != nullptr && to_pointer->getAddressSpace() == kSharedSpace) {
      llvm::Value* offset = builder.CreateZExtOrTrunc(to_pointer->getOperand(0), module_.i64());
      replace(cast, builder.CreateIntToPtr(builder.CreateAdd(offset, base()), cast.getType()));
    }
  }

  // Inline assembly -----------------------------------------------------------------------------

  /// The values that a template's statements see: operands of the asm statement and its own registers.
  struct Registers {
    std::vector<llvm::Value*> arguments;  ///< slots; null: not written yet
    std::vector<int> bits;
    std::map<std::string, llvm::Value*> declared;
  };

  void lower_assembly(llvm::CallInst& call) {
    const auto& assembly = *llvm::cast<llvm::InlineAsm>(call.getCalledOperand());
    PtxTemplate ptx;
    std::string problem;
    if (!parse_ptx_template(std::string(assembly.getAsmString()), ptx, problem))
      return fail(call, problem);
    Builder builder(&call);

    Registers registers;
    std::vector<llvm::Type*> results;
    if (auto* several = llvm::dyn_cast<llvm::StructType>(call.getType())) {
      results.assign(several->element_begin(), several->element_end());
    } else if (!call.getType()->isVoidTy()) {
      results.push_back(call.getType());
    }
    unsigned next_input = 0;
    unsigned outputs = 0;
    for (const auto& constraint : assembly.ParseConstraints()) {
      if (constraint.Type == llvm::InlineAsm::isClobber) continue;
      if (constraint.Type == llvm::InlineAsm::isOutput) {
        if (constraint.isIndirect || outputs >= results.size())
          return fail(call, "a result in memory");
        registers.arguments.push_back(nullptr);
        registers.bits.push_back(to_bits(results[outputs++]));
        continue;
      }
      llvm::Value* value = call.getArgOperand(next_input++);
      llvm::Value* slot = to_slot(builder, value);
      if (slot == nullptr) return fail(call, "an operand that is no number");
      registers.arguments.push_back(slot);
      registers.bits.push_back(to_bits(value->getType()));
      if (constraint.hasMatchingInput()) return fail(call, "an operand that can't be matched");
      const std::string& code = constraint.Codes.empty() ? "" : constraint.Codes.front();
      if (!code.empty() && code.find_first_not_of("0123456789") == std::string::npos)
        registers.arguments.at(static_cast<std::size_t>(std::stoul(code))) = slot;  // in and out
    }

    for (const PtxStatement& statement : ptx.statements) {
      if (!lower_statement(call, builder, statement, ptx, registers)) return;
    }

    llvm::Value* result = nullptr;
    if (results.size() == 1 && !call.getType()->isStructTy()) {
      result = result_of(builder, registers, 0, results[0]);
    } else if (!results.empty()) {
      result = llvm::PoisonValue::get(call.getType());
      for (unsigned i = 0; i < results.size(); ++i)
        result = builder.CreateInsertValue(result, result_of(builder, registers, i, results[i]), i);
    }
    replace(call, result);
  }

  llvm::Value* result_of(Builder& builder, const Registers& registers, unsigned i,
                         llvm::Type* type) {
    llvm::Value* slot = registers.arguments[i];
    return slot == nullptr ? llvm::PoisonValue::get(type) : from_slot(builder, slot, type);
  }

  bool lower_statement(llvm::CallInst& call, Builder& builder, const PtxStatement& statement,
                       const PtxTemplate& ptx, Registers& registers) {
    const std::string& opcode = statement.opcode;
    if (opcode.starts_with("membar.") ||
        (opcode.starts_with("fence.") && opcode.find("proxy") == std::string::npos)) {
      builder.CreateFence(llvm::AtomicOrdering::SequentiallyConsistent);
      return true;
    }
    const bool has_result = statement.has_result();
    std::vector<llvm::Value*> operands;
    // wgmma adds to its result.
    const std::size_t first = has_result && !opcode.starts_with("wgmma.") ? 1 : 0;
    for (std::size_t i = first; i < statement.operands.size(); ++i) {
      for (const PtxOperand& operand : statement.operands[i].registers) {
        llvm::Value* value = read(builder, operand, registers);
        const bool is_sum = opcode.starts_with("wgmma.") && i == 0;
        if (value == nullptr && is_sum) value = module_.number(0);  // that wgmma starts
        if (value == nullptr) {
          fail(call, "'" + opcode + "' reads a register that is not written");
          return false;
        }
        if (statement.operands[i].offset != 0)
          value = builder.CreateAdd(
              value, module_.number(static_cast<std::uint64_t>(statement.operands[i].offset)));
        operands.push_back(value);
      }
    }
    if (is_barrier(opcode) && operands.size() == 1) {
      meet(builder, builder.CreateTrunc(operands[0], module_.i32()), BarrierOp::kSync,
           builder.getInt32(0), site_number(call));
      return true;
    }
    std::vector<llvm::Value*> results;
    const std::vector<PtxOperand> none;
    const std::vector<PtxOperand>& targets = has_result ? statement.operands[0].registers : none;
    if (opcode.starts_with("mov.")) {
      results = move(builder, operands, targets, opcode, ptx, registers);
    } else {
      results = module_.call_instruction(builder, kernel_, opcode, operands,
                                         static_cast<unsigned>(targets.size()), site_number(call));
    }
    if (results.size() != targets.size()) {
      fail(call, "'" + opcode + "' moves registers of other widths");
      return false;
    }
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (targets[i].kind == PtxOperand::Kind::kRegister) {
        registers.declared[targets[i].name] = results[i];
      } else if (targets[i].kind == PtxOperand::Kind::kArgument &&
                 static_cast<std::size_t>(targets[i].argument) < registers.arguments.size()) {
        registers.arguments[static_cast<std::size_t>(targets[i].argument)] = results[i];
      } else if (!(targets[i].kind == PtxOperand::Kind::kSpecial)) {
        fail(call, "'" + opcode + "' writes to what is no register");
        return false;
      }
    }
    return true;
  }

  static bool is_barrier(const std::string& opcode) {
    return opcode == "bar.sync" || opcode == "barrier.sync" || opcode == "barrier.sync.aligned" ||
           opcode == "bar.cta.sync" || opcode == "barrier.cta.sync" ||
           opcode == "barrier.cta.sync.aligned";
  }

  llvm::Value* read(Builder& builder, const PtxOperand& operand, const Registers& registers) {
    switch (operand.kind) {
      case PtxOperand::Kind::kImmediate:
        return module_.number(operand.immediate);
      case PtxOperand::Kind::kArgument:
        return static_cast<std::size_t>(operand.argument) < registers.arguments.size()
                   ? registers.arguments[static_cast<std::size_t>(operand.argument)]
                   : nullptr;
      case PtxOperand::Kind::kRegister: {
        const auto found = registers.declared.find(operand.name);
        return found == registers.declared.end() ? nullptr : found->second;
      }
      case PtxOperand::Kind::kSpecial: {
        llvm::Value* value = special_register(builder, operand.name);
        return value == nullptr ? nullptr : builder.CreateZExt(value, module_.i64());
      }
    }
    return nullptr;
  }

  /// mov of one register, or between a register and a group that shares its bits, low ones first.
  std::vector<llvm::Value*> move(Builder& builder, const std::vector<llvm::Value*>& from,
                                 const std::vector<PtxOperand>& to, const std::string& opcode,
                                 const PtxTemplate&, const Registers&) {
    unsigned bits = 0;
    const llvm::StringRef type = llvm::StringRef(opcode).drop_front(4);
    if (type.size() < 2 || type.drop_front(1).getAsInteger(10, bits) || bits > 64) {
      if (type == "pred" && from.size() == 1) return from;
      return {};
    }
    if (from.size() == to.size()) return from;
    if (from.size() == 1) {
      const unsigned width = bits / static_cast<unsigned>(to.size());
      std::vector<llvm::Value*> parts;
      for (unsigned i = 0; i < to.size(); ++i) {
        parts.push_back(builder.CreateAnd(builder.CreateLShr(from[0], i * width),
                                          module_.number((std::uint64_t{1} << width) - 1)));
      }
      return parts;
    }
    if (to.size() != 1) return {};
    const unsigned width = bits / static_cast<unsigned>(from.size());
    llvm::Value* whole = module_.number(0);
    for (unsigned i = 0; i < from.size(); ++i) {
      llvm::Value* part =
          builder.CreateAnd(from[i], module_.number((std::uint64_t{1} << width) - 1));
      whole = builder.CreateOr(whole, builder.CreateShl(part, i * width));
    }
    return {whole};
  }

  // Values --------------------------------------------------------------------------------------

  /// Width of a value that fits a slot, or 0.
  static int to_bits(llvm::Type* type) {
    if (type->isPointerTy()) return 64;
    const bool is_number = type->isIntegerTy() || type->isFloatingPointTy() || type->isVectorTy();
    const auto bits = is_number ? type->getPrimitiveSizeInBits().getFixedValue() : 0;
    return bits <= 64 ? static_cast<int>(bits) : 0;
  }

  /// Raw bits of a value in the low bits of an i64, or null.
  llvm::Value* to_slot(Builder& builder, llvm::Value* value) {
    llvm::Type* type = value->getType();
    const int bits = to_bits(type);
    if (bits == 0) return nullptr;
    if (type->isPointerTy()) return builder.CreatePtrToInt(value, module_.i64());
    llvm::Value* raw = builder.CreateBitCast(value, builder.getIntNTy(static_cast<unsigned>(bits)));
    return builder.CreateZExt(raw, module_.i64());
  }

  llvm::Value* from_slot(Builder& builder, llvm::Value* slot, llvm::Type* type) {
    if (type->isPointerTy()) return builder.CreateIntToPtr(slot, type);
    const auto bits = static_cast<unsigned>(to_bits(type));
    return builder.CreateBitCast(builder.CreateTrunc(slot, builder.getIntNTy(bits)), type);
  }

  static std::vector<llvm::Value*> arguments(llvm::CallInst& call) {
    return {call.arg_begin(), call.arg_end()};
  }
  static llvm::Value* poison(llvm::CallInst& call) {
    return llvm::PoisonValue::get(call.getType());
  }
  static std::uint64_t site_number(const llvm::Instruction& instruction) {
    return SimulatorModule::site_of(instruction);
  }
  llvm::Value* site(const llvm::Instruction& instruction) {
    return module_.number(site_number(instruction));
  }

  static void replace(llvm::Instruction& instruction, llvm::Value* value) {
    if (value != nullptr) instruction.replaceAllUsesWith(value);
    instruction.eraseFromParent();
  }

  void fail(const llvm::CallInst& call, const std::string& problem) {
    module_.fail("line " + std::to_string(site_number(call) & 0xffffffffu) +
                 ": inline assembly: " + problem);
  }

  SimulatorModule& module_;
  SimulatedKernel& kernel_;
  std::uint64_t meetings_ = 0;
};

}  // namespace

void lower_calls(SimulatorModule& module, SimulatedKernel& kernel) {
  Calls(module, kernel).lower();
}

}  // namespace ktjit::worker
