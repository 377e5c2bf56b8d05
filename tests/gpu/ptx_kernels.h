// Kernels of one PTX instruction each, which tests/gpu/ptx_conformance.cpp runs.
#pragma once

#include <string>

#include "runtime/ptx_instructions.h"

namespace ktjit::test {

inline constexpr const char* kPtxKernelName = "run_instruction";
inline constexpr int kPtxThreads = 128;  ///< of a block
inline constexpr int kPtxLaneBytes =
    16;  ///< what memory kernels read, and write, at most for a thread

/// For instructions on registers, of a thread or a warp:
///   run_instruction(const u64* operands, u64* results, u64 n)
/// Shapes: operands [entry.operands, n], results [entry.results, n]; element i of each is thread
/// i's slot. n is a multiple of kPtxThreads.
std::string make_register_kernel(const runtime::PtxInstruction& entry);

/// For instructions that move memory:
///   run_instruction(const u8* in, const u64* parameter, u8* out)
/// Shapes: in [n, 16], parameter [n], out [n, 16]. For a grid of n / kPtxThreads blocks.
/// What of out is written: loads, stores and copies give in's bytes back; ldmatrix its registers,
/// with `parameter` the row of its warp's 32 that a thread gives; cp.async writes copy_bytes, of
/// which those from `parameter` on are 0 in the form that says how many to read; cvta.to.shared the
/// distance (u64) from the first thread's part of shared memory to that of thread i of the block.
/// copy_bytes: of cp.async 4, 8 or 16; else ignored.
std::string make_memory_kernel(const runtime::PtxInstruction& entry, int copy_bytes = 16);

}  // namespace ktjit::test
