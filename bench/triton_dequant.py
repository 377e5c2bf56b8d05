"""Block dequantising of FP8 in Triton: what ktjit's dequant is measured beside. Needs torch and Triton."""

import triton
import triton.language as tl

BLOCK = 128  # rows and columns that share a scale


@triton.jit
def dequant_kernel(codes, scales, out, rows, cols, SIDE: tl.constexpr):
    row_block = tl.program_id(0)
    col_block = tl.program_id(1)
    row = row_block * SIDE + tl.arange(0, SIDE)
    col = col_block * SIDE + tl.arange(0, SIDE)
    at = row[:, None] * cols + col[None, :]
    inside = (row[:, None] < rows) & (col[None, :] < cols)
    scale = tl.load(scales + row_block * tl.cdiv(cols, SIDE) + col_block)
    value = tl.load(codes + at, mask=inside).to(tl.float32) * scale
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


def triton_dequant(codes, scales, out, warps=4):
    """out = codes * scales, one scale for each 128 x 128 block, rounded to out's type. Fewer than 2^31 elements."""
    rows, cols = codes.shape
    grid = (triton.cdiv(rows, BLOCK), triton.cdiv(cols, BLOCK))
    dequant_kernel[grid](codes, scales, out, rows, cols, SIDE=BLOCK, num_warps=warps)


def triton_refusal(capability=86):
    """What Triton says when it compiles the kernel for a GPU without FP8 conversions; None if it does compile."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {"codes": "*fp8e4nv", "scales": "*fp32", "out": "*bf16", "rows": "i32",
                 "cols": "i32", "SIDE": "constexpr"}
    source = ASTSource(fn=dequant_kernel, signature=signature, constexprs={(5,): BLOCK})
    try:
        triton.compile(source, target=GPUTarget("cuda", capability, 32))
    except Exception as error:  # CompilationError, whose cause has the words
        parts = []
        while error is not None:
            parts.append(str(error).strip().splitlines()[-1])
            error = error.__cause__
        return parts[-1]
    return None
