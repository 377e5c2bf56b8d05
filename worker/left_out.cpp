// Stands in for what LLVM's libraries name and this program leaves out: lld asks for every target, to
// optimise at link time, and Clang for the Polly plugin. Without these the linker would take in 19
// back ends that never run.
#include <llvm/Passes/PassPlugin.h>

#define KTJIT_NO_TARGET(name)                           \
  extern "C" void LLVMInitialize##name##TargetInfo() {} \
  extern "C" void LLVMInitialize##name##Target() {}     \
  extern "C" void LLVMInitialize##name##TargetMC() {}   \
  extern "C" void LLVMInitialize##name##AsmParser() {}  \
  extern "C" void LLVMInitialize##name##AsmPrinter() {}

KTJIT_NO_TARGET(AArch64)
KTJIT_NO_TARGET(AMDGPU)
KTJIT_NO_TARGET(ARM)
KTJIT_NO_TARGET(AVR)
KTJIT_NO_TARGET(BPF)
KTJIT_NO_TARGET(Hexagon)
KTJIT_NO_TARGET(Lanai)
KTJIT_NO_TARGET(LoongArch)
KTJIT_NO_TARGET(M68k)
KTJIT_NO_TARGET(Mips)
KTJIT_NO_TARGET(MSP430)
KTJIT_NO_TARGET(PowerPC)
KTJIT_NO_TARGET(RISCV)
KTJIT_NO_TARGET(Sparc)
KTJIT_NO_TARGET(SystemZ)
KTJIT_NO_TARGET(VE)
KTJIT_NO_TARGET(WebAssembly)
KTJIT_NO_TARGET(XCore)
KTJIT_NO_TARGET(Xtensa)

// Clang calls this once a module, to let Polly add its passes: it adds none.
llvm::PassPluginLibraryInfo getPollyPluginInfo() {
  return {LLVM_PLUGIN_API_VERSION, "none", "0", [](llvm::PassBuilder&) {}};
}
