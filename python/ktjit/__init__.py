"""Kernels for GGUF and FP8 models, compiled for any NVIDIA GPU from Pascal on, or for the CPU.

ktjit.fp8   act_quant, weight_dequant, fp8_gemm, and install() to put them in the place of the
            Triton functions of those names
ktjit.gguf  dequant and matvec of ggml's formats, and PreparedWeights: rearranged once for faster matvec on GPUs
ktjit.moe_matvec, ktjit.moe_matmul    products with experts chosen by ids, of few tokens and of many
ktjit.gated_matvec                   matvec with a gate
ktjit.prepare  a call that is repeated with the same arrays, at a launch's cost

Both take numpy arrays and torch tensors; torch is not needed. docs/EMBEDDING.md has more.
"""

from . import fp8, gguf
from ._calls import prepare
from ._errors import (
    ArgumentError,
    CaptureError,
    CompileError,
    DriverError,
    Error,
    InputError,
    InternalError,
    InterruptedError,
    MissingKernelError,
    OutOfMemoryError,
    SpecError,
    ToolchainError,
)
from ._kernels import Spec, configure, device, emit, loaded_kernels
from ._ktjit import version as __version__
from .moe import gated_matvec, moe_matmul, moe_matvec

__all__ = [
    "ArgumentError",
    "CaptureError",
    "CompileError",
    "DriverError",
    "Error",
    "InputError",
    "InternalError",
    "InterruptedError",
    "MissingKernelError",
    "OutOfMemoryError",
    "Spec",
    "SpecError",
    "ToolchainError",
    "configure",
    "device",
    "emit",
    "fp8",
    "gated_matvec",
    "gguf",
    "loaded_kernels",
    "moe_matmul",
    "moe_matvec",
    "prepare",
]
