"""Block-scaled FP8: the functions of DeepSeek's inference code, on every GPU and on the CPU.

Arrays are numpy's or torch's, all of one kind and on one device, contiguous. With torch, results
have torch.get_default_dtype(), and CUDA work goes to the current stream; with numpy they are
float32, and FP8 codes are uint8 (ml_dtypes' types are taken too). e4m3 unless the array's type says
e5m2.

Where the originals go wrong, these don't: a group of zeros gives zeros and the scale 1 (not NaN),
scales of any block size are taken, and rows of b need not be a multiple of the block. What the
originals assert is an ktjit.ArgumentError here, which is an AssertionError.
"""

from . import _kernels
from ._arrays import backend_of, ceil_div, default_dtype, require
from ._calls import (
    Launch,
    Plan,
    check_contiguous,
    check_devices,
    find_plan,
    keep_plan,
    preparable,
)
from ._errors import SpecError
from ._install import install, uninstall
from ._kernels import Spec

__all__ = ["act_quant", "fp8_gemm", "install", "uninstall", "weight_dequant"]

_E4M3 = "fp8_e4m3"
_E4M3_MAX = 448.0
_FEW_ROWS = 16  # up to here a kernel with small tiles is faster
_SCALE_TYPES = ("f32", "bf16", "e8m0")
_IO_FORMATS = ("f32", "f16", "bf16")


def _act_quant(sink, x, block_size=128, scale_fmt=None):
    try:
        key = ("act_quant", type(x), x.shape, x.dtype, x.device, block_size, scale_fmt)
        plan = find_plan(key)
    except AttributeError:
        key = plan = None
    if plan is None:
        plan = _plan_act_quant(x, block_size, scale_fmt)
        if plan is not None and key is not None:
            keep_plan(key, plan)
    backend = backend_of(x, "x") if plan is None else plan.backend
    if not backend.is_contiguous(x):
        check_contiguous(backend, x=x)
    if plan is None:  # ue8m0: more than kernels
        require(sink is None, "act_quant with scale_fmt can't be prepared")
        return _act_quant_ue8m0(backend, x, block_size)
    y = plan.empty(x)
    s_shape, s_dtype = plan.extra
    s = backend.empty(x, s_shape, s_dtype)
    address = plan.address
    if sink is not None:
        sink.plan = plan
    plan.start(sink, address(y), address(s), address(x), 0, 0)
    return y, s


@preparable(_act_quant)
def act_quant(x, block_size=128, scale_fmt=None):
    """Quantises activations to e4m3, one scale for each `block_size` elements of a row.

    x [..., cols] f32, f16 or bf16. Returns (y, s): y [..., cols] e4m3, s [..., cols / block_size]
    float32, x being about y * s. A group's scale is its largest |x| / 448; with scale_fmt "ue8m0"
    it is rounded up to a power of two.
    Errors: ArgumentError unless x is contiguous and cols a multiple of block_size.
    """
    return _act_quant(None, x, block_size, scale_fmt)


def _plan_act_quant(x, block_size, scale_fmt):
    """None for scale_fmt ue8m0."""
    backend = backend_of(x, "x")
    _check_block_size(block_size)
    check_contiguous(backend, x=x)
    require(x.ndim >= 1, "x must have at least one dimension")
    shape = tuple(x.shape)
    cols = shape[-1]
    require(
        cols % block_size == 0,
        f"the last dimension of x, {cols}, must be divisible by block_size, {block_size}",
    )
    require(
        backend.format_of(x) in _IO_FORMATS, f"x has type {x.dtype}, not float32, float16, bfloat16"
    )
    if scale_fmt == "ue8m0":
        return None
    if scale_fmt is not None:
        raise SpecError(f"scale_fmt: {scale_fmt!r}, allowed: None, 'ue8m0'")
    return _plan_quantize(backend, x, block_size)


def _plan_quantize(backend, x, block_size):
    """x to e4m3, with one scale for each block_size elements; 0: without scales."""
    check_devices(backend, x=x)
    shape = tuple(x.shape)
    cols = shape[-1]
    rows = _count(x) // cols if cols else 0
    spec = Spec(
        "quantize",
        _E4M3,
        cols,
        scale_type="f32" if block_size else None,
        scale_block_rows=1 if block_size else 0,
        scale_block_cols=block_size,
        x_format=backend.format_of(x),
    )
    scales = None
    if block_size:
        scales = (shape[:-1] + (cols // block_size,), backend.dtype_of("f32"))
    return Plan(backend, x, [Launch(spec, rows)] if rows else [], shape, _E4M3, extra=scales)


def _act_quant_ue8m0(backend, x, block_size):
    """Scales by a few array operations (exact on any device), then a plain cast of x / scale."""
    xp = backend.xp
    shape = tuple(x.shape)
    groups = backend.cast(x, "f32").reshape(-1, block_size)
    largest = xp.amax(xp.abs(groups), -1) if groups.shape[0] else groups[:, 0]
    mantissa, exponent = xp.frexp(largest / _E4M3_MAX)  # mantissa in [0.5, 1)
    exponent = xp.where(mantissa == 0.5, exponent - 1, exponent)
    exponent = xp.where(largest == 0, xp.zeros_like(exponent), exponent)
    exponent = exponent.clip(-126, 127)  # normal numbers, as is their reciprocal
    one = xp.ones_like(largest)
    # A NaN or an infinity has no group to be scaled with: all of it becomes NaN.
    one = xp.where(xp.isfinite(largest), one, one * float("nan"))
    scale = xp.ldexp(one, exponent)
    scaled = groups * xp.ldexp(one, -exponent)[:, None]

    scaled = scaled.reshape(shape)
    plan = _plan_quantize(backend, scaled, 0)
    y = plan.empty(x)
    plan.start(None, plan.address(y), 0, plan.address(scaled), 0, 0)
    return y, scale.reshape(shape[:-1] + (shape[-1] // block_size,))


def _weight_dequant(sink, x, s, block_size=128, *, dtype=None):
    try:
        key = (
            "weight_dequant", type(x), x.shape, x.dtype, x.device,
            type(s), s.shape, s.dtype, s.device, block_size, dtype, default_dtype(),
        )  # fmt: skip
        plan = find_plan(key)
    except AttributeError:
        key = plan = None
    if plan is None:
        plan = _plan_weight_dequant(x, s, block_size, dtype)
        if key is not None:
            keep_plan(key, plan)
    backend = plan.backend
    if not (backend.is_contiguous(x) and backend.is_contiguous(s)):
        require(False, "x and s must be contiguous")
    y = plan.empty(x)
    address = plan.address
    if sink is not None:
        sink.plan = plan
    plan.start(sink, address(x), address(s), 0, 0, address(y))
    return y if plan.wanted is None else plan.finish(y)


@preparable(_weight_dequant)
def weight_dequant(x, s, block_size=128, *, dtype=None):
    """Multiplies the e4m3 (or e5m2) matrix x by the scales of its blocks, rounding once.

    x [rows, cols]; s [ceil(rows / block_size), ceil(cols / block_size)] float32, bfloat16 or E8M0;
    result [rows, cols] of `dtype`, or the default type.
    Errors: ArgumentError unless both are contiguous matrices of those shapes.
    """
    return _weight_dequant(None, x, s, block_size, dtype=dtype)


def _plan_weight_dequant(x, s, block_size, dtype):
    backend = backend_of(x, "x")
    _check_block_size(block_size)
    require(backend_of(s, "s") is backend, "x and s must be of one kind")
    require(backend.is_contiguous(x) and backend.is_contiguous(s), "x and s must be contiguous")
    require(x.ndim == 2 and s.ndim == 2, "x and s must have 2 dimensions")
    check_devices(backend, x=x, s=s)
    rows, cols = x.shape
    _check_shape("s", s, (ceil_div(rows, block_size), ceil_div(cols, block_size)))
    y_format, wanted = _result_formats(backend, dtype)
    spec = Spec(
        "dequant",
        _weight_format(backend, x, "x"),
        cols,
        scale_type=_scale_type(backend, s, "s"),
        scale_block_rows=block_size,
        scale_block_cols=block_size,
        y_format=y_format,
    )
    launches = [Launch(spec, rows)] if rows and cols else []
    return Plan(backend, x, launches, (rows, cols), y_format, wanted)


def _fp8_gemm(sink, a, a_s, b, b_s, *, block_size=None, dtype=None, precise=False):
    try:
        key = (
            "fp8_gemm", type(a), a.shape, a.dtype, a.device, type(a_s), a_s.shape, a_s.dtype,
            a_s.device, type(b), b.shape, b.dtype, b.device, type(b_s), b_s.shape, b_s.dtype,
            b_s.device, block_size, dtype, default_dtype(), precise,
        )  # fmt: skip
        plan = find_plan(key)
    except AttributeError:
        key = plan = None
    if plan is None:
        plan = _plan_fp8_gemm(a, a_s, b, b_s, block_size, dtype, precise)
        if key is not None:
            keep_plan(key, plan)
    is_contiguous = plan.backend.is_contiguous
    if not (is_contiguous(a) and is_contiguous(a_s) and is_contiguous(b) and is_contiguous(b_s)):
        check_contiguous(plan.backend, a=a, a_s=a_s, b=b, b_s=b_s)
    c = plan.empty(a)
    address = plan.address
    if sink is not None:
        sink.plan = plan
    plan.start(sink, address(b), address(b_s), address(a), address(a_s), address(c))
    return c if plan.wanted is None else plan.finish(c)


@preparable(_fp8_gemm)
def fp8_gemm(a, a_s, b, b_s, *, block_size=None, dtype=None, precise=False):
    """c = (a * a_s) (b * b_s)^T, both of FP8 with block scales.

    Sums have float32 quality, but on Hopper, where those of e4m3 and blocks of 128 are its FP8 tensor cores': sums of 128
    columns keep 14 bits, as those of Triton's kernels. `precise`: float32 quality there too.

    a [..., k] e4m3, a_s [..., ceil(k / block)] float32, as act_quant makes them; b [n, k] e4m3 or
    e5m2, b_s [ceil(n / block), ceil(k / block)]; result [..., n] of `dtype`, or the default type.
    The block is `block_size`, or 128 where the scales' shapes allow it, else what they ask for.
    Errors: ArgumentError unless all are contiguous and their shapes agree.
    """
    return _fp8_gemm(
        None, a, a_s, b, b_s, block_size=block_size, dtype=dtype, precise=precise
    )


def _plan_fp8_gemm(a, a_s, b, b_s, block_size, dtype, precise):
    backend = backend_of(a, "a")
    for name, array in (("a", a), ("a_s", a_s), ("b", b), ("b_s", b_s)):
        require(backend_of(array, name) is backend, "the arguments must be of one kind")
        check_contiguous(backend, **{name: array})
    require(a.ndim >= 1 and a_s.ndim == a.ndim, "a and a_s must have the same number of dimensions")
    require(b.ndim == 2 and b_s.ndim == 2, "b and b_s must have 2 dimensions")
    k = a.shape[-1]
    n = b.shape[0]
    require(b.shape[1] == k, f"a has {k} columns, b {b.shape[1]}")
    require(
        _weight_format(backend, a, "a") == _E4M3, f"a has type {a.dtype}, not e4m3 (or uint8 codes)"
    )
    require(backend.format_of(a_s) == "f32", f"a_s has type {a_s.dtype}, not float32")
    check_devices(backend, a=a, a_s=a_s, b=b, b_s=b_s)
    block = _gemm_block(block_size, a, a_s, b, b_s)
    y_format, wanted = _result_formats(backend, dtype)
    m = _count(a) // k if k else 0
    has_fp8_sums = not precise and _has_fp8_sums(backend, a, b, block)
    spec = Spec(
        "matmul",
        _weight_format(backend, b, "b"),
        k,
        scale_type=_scale_type(backend, b_s, "b_s"),
        scale_block_rows=block,
        scale_block_cols=block,
        activation="afp8",
        x_columns=m if m <= _FEW_ROWS or has_fp8_sums else 0,
        x_format=_E4M3,
        x_scale_group=block,
        y_format=y_format,
        rows=n if has_fp8_sums else 0,
        tensor_core_precision=has_fp8_sums,
    )
    launches = [Launch(spec, n, m)] if m and n else []
    return Plan(backend, a, launches, tuple(a.shape[:-1]) + (n,), y_format, wanted)


def _has_fp8_sums(backend, a, b, block):
    """Whether Hopper's FP8 tensor cores take the product: ktjit_kernel_desc's tensor_core_precision."""
    formats = (_weight_format(backend, a, "a"), _weight_format(backend, b, "b"))
    fits = formats == (_E4M3, _E4M3) and block == 128 and b.shape[1] % 16 == 0
    return fits and _kernels.target_of(backend.device(a)) == "sm_90a"


def _gemm_block(block_size, a, a_s, b, b_s):
    """The block size that the shapes of the scales agree with."""
    n, k = b.shape

    def fits(block):
        a_s_shape = tuple(a.shape[:-1]) + (ceil_div(k, block),)
        b_s_shape = (ceil_div(n, block), ceil_div(k, block))
        return tuple(a_s.shape) == a_s_shape and tuple(b_s.shape) == b_s_shape

    if block_size is not None:
        _check_block_size(block_size)
        candidates = [block_size]
    else:
        candidates = [128]
        if a_s.shape[-1] and k % a_s.shape[-1] == 0:
            candidates.append(k // a_s.shape[-1])
    for block in candidates:
        if block and fits(block):
            return block
    require(
        False,
        f"a_s of shape {tuple(a_s.shape)} and b_s of shape {tuple(b_s.shape)} don't fit a of shape "
        f"{tuple(a.shape)} and b of shape {tuple(b.shape)} with blocks of "
        f"{' or '.join(str(block) for block in candidates)}",
    )


def _check_block_size(block_size):
    require(
        isinstance(block_size, int) and block_size > 0,
        f"block_size is {block_size!r}, not a positive integer",
    )


def _check_shape(name, array, shape):
    require(tuple(array.shape) == shape, f"{name} has shape {tuple(array.shape)}, not {shape}")


def _count(array):
    count = 1
    for extent in array.shape:
        count *= extent
    return count


def _weight_format(backend, array, name):
    format = backend.format_of(array)
    if format == "u8":
        return _E4M3
    require(format.startswith("fp8_"), f"{name} has type {array.dtype}, not FP8 (or uint8 codes)")
    return format


def _scale_type(backend, array, name):
    format = backend.format_of(array)
    require(
        format in _SCALE_TYPES, f"{name} has type {array.dtype}, not float32, bfloat16 or E8M0"
    )
    return format


def _result_formats(backend, dtype):
    """What the kernel writes, and what it is converted to, None for nothing: float64 is made from float32."""
    wanted = backend.default_format() if dtype is None else backend.as_format(dtype)
    if wanted == "f64":
        return "f32", "f64"
    require(wanted in _IO_FORMATS, f"results can't have type {wanted}")
    return wanted, None
