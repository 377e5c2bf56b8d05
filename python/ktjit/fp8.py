"""Block-scaled FP8: the functions of DeepSeek's inference code, on every GPU and on the CPU.

Arrays are numpy's or torch's, all of one kind and on one device, contiguous. With torch, results
have torch.get_default_dtype(), and CUDA work goes to the current stream; with numpy they are
float32, and FP8 codes are uint8 (ml_dtypes' types are taken too). e4m3 unless the array's type says
e5m2.

Where the originals go wrong, these don't: a group of zeros gives zeros and the scale 1 (not NaN),
scales of any block size are taken, and rows of b need not be a multiple of the block. What the
originals assert is an ktjit.ArgumentError here, which is an AssertionError.
"""

from ._arrays import Place, backend_of, ceil_div, require
from ._errors import SpecError
from ._install import install, uninstall
from ._kernels import Spec, load

__all__ = ["act_quant", "fp8_gemm", "install", "uninstall", "weight_dequant"]

_E4M3 = "fp8_e4m3"
_E4M3_MAX = 448.0
_FEW_ROWS = 16  # up to here a kernel with small tiles is faster
_SCALE_TYPES = ("f32", "bf16", "e8m0")
_IO_FORMATS = ("f32", "f16", "bf16")


def act_quant(x, block_size=128, scale_fmt=None):
    """Quantises activations to e4m3, one scale for each `block_size` elements of a row.

    x [..., cols] f32, f16 or bf16. Returns (y, s): y [..., cols] e4m3, s [..., cols / block_size]
    float32, x being about y * s. A group's scale is its largest |x| / 448; with scale_fmt "ue8m0"
    it is rounded up to a power of two.
    Errors: ArgumentError unless x is contiguous and cols a multiple of block_size.
    """
    backend = backend_of(x, "x")
    _check_block_size(block_size)
    require(backend.is_contiguous(x), "x must be contiguous")
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
        return _act_quant_ue8m0(backend, x, block_size)
    if scale_fmt is not None:
        raise SpecError(f"scale_fmt: {scale_fmt!r}, allowed: None, 'ue8m0'")

    y = backend.empty(x, shape, _E4M3)
    s = backend.empty(x, shape[:-1] + (cols // block_size,), "f32")
    _quantize(backend, x, y, s, block_size)
    return y, s


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

    y = backend.empty(x, shape, _E4M3)
    _quantize(backend, scaled.reshape(shape), y, None, 0)
    return y, scale.reshape(shape[:-1] + (shape[-1] // block_size,))


def _quantize(backend, x, y, s, block_size):
    """Fills y, and s if it is given, with one scale for each block_size elements."""
    cols = x.shape[-1]
    rows = _count(x) // cols if cols else 0
    if rows == 0:
        return
    arrays = {"x": x, "w": y}
    if s is not None:
        arrays["scale"] = s
    place = Place(backend, arrays)
    grouped = s is not None
    kernel = load(
        place.device,
        place.stream,
        Spec(
            "quantize",
            _E4M3,
            cols,
            scale_type="f32" if grouped else None,
            scale_block_rows=1 if grouped else 0,
            scale_block_cols=block_size if grouped else 0,
            x_format=backend.format_of(x),
            alignment=place.alignment("x", "w"),
        ),
    )
    kernel.launch(rows, stream=place.stream, **place.addresses)


def weight_dequant(x, s, block_size=128, *, dtype=None):
    """Multiplies the e4m3 (or e5m2) matrix x by the scales of its blocks, rounding once.

    x [rows, cols]; s [ceil(rows / block_size), ceil(cols / block_size)] float32, bfloat16 or E8M0;
    result [rows, cols] of `dtype`, or the default type.
    Errors: ArgumentError unless both are contiguous matrices of those shapes.
    """
    backend = backend_of(x, "x")
    _check_block_size(block_size)
    require(backend_of(s, "s") is backend, "x and s must be of one kind")
    require(backend.is_contiguous(x) and backend.is_contiguous(s), "x and s must be contiguous")
    require(x.ndim == 2 and s.ndim == 2, "x and s must have 2 dimensions")
    rows, cols = x.shape
    _check_shape("s", s, (ceil_div(rows, block_size), ceil_div(cols, block_size)))
    scale_type = _scale_type(backend, s, "s")
    y_format, y_type = _result_formats(backend, dtype)

    y = backend.empty(x, (rows, cols), y_format)
    if rows and cols:
        place = Place(backend, {"w": x, "scale": s, "y": y})
        kernel = load(
            place.device,
            place.stream,
            Spec(
                "dequant",
                _weight_format(backend, x, "x"),
                cols,
                scale_type=scale_type,
                scale_block_rows=block_size,
                scale_block_cols=block_size,
                y_format=y_format,
                alignment=place.alignment("w", "y"),
            ),
        )
        kernel.launch(rows, stream=place.stream, **place.addresses)
    return y if y_type == y_format else backend.cast(y, y_type)


def fp8_gemm(a, a_s, b, b_s, *, block_size=None, dtype=None):
    """c = (a * a_s) (b * b_s)^T, both of FP8 with block scales, sums of float32 quality.

    a [..., k] e4m3, a_s [..., ceil(k / block)] float32, as act_quant makes them; b [n, k] e4m3 or
    e5m2, b_s [ceil(n / block), ceil(k / block)]; result [..., n] of `dtype`, or the default type.
    The block is `block_size`, or 128 where the scales' shapes allow it, else what they ask for.
    Errors: ArgumentError unless all are contiguous and their shapes agree.
    """
    backend = backend_of(a, "a")
    arrays = {"x": a, "x_scale": a_s, "w": b, "scale": b_s}
    for name, array in (("a", a), ("a_s", a_s), ("b", b), ("b_s", b_s)):
        require(backend_of(array, name) is backend, "the arguments must be of one kind")
        require(backend.is_contiguous(array), f"{name} must be contiguous")
    require(a.ndim >= 1 and a_s.ndim == a.ndim, "a and a_s must have the same number of dimensions")
    require(b.ndim == 2 and b_s.ndim == 2, "b and b_s must have 2 dimensions")
    k = a.shape[-1]
    n = b.shape[0]
    require(b.shape[1] == k, f"a has {k} columns, b {b.shape[1]}")
    require(
        _weight_format(backend, a, "a") == _E4M3, f"a has type {a.dtype}, not e4m3 (or uint8 codes)"
    )
    require(backend.format_of(a_s) == "f32", f"a_s has type {a_s.dtype}, not float32")
    block = _gemm_block(block_size, a, a_s, b, b_s)
    scale_type = _scale_type(backend, b_s, "b_s")
    y_format, y_type = _result_formats(backend, dtype)

    shape = tuple(a.shape[:-1]) + (n,)
    c = backend.empty(a, shape, y_format)
    m = _count(a) // k if k else 0
    if m and n:
        arrays["y"] = c
        place = Place(backend, arrays)
        kernel = load(
            place.device,
            place.stream,
            Spec(
                "matmul",
                _weight_format(backend, b, "b"),
                k,
                scale_type=scale_type,
                scale_block_rows=block,
                scale_block_cols=block,
                activation="afp8",
                x_columns=_FEW_ROWS if m <= _FEW_ROWS else 0,
                x_format=_E4M3,
                x_scale_group=block,
                y_format=y_format,
                alignment=place.alignment("x", "w", "y"),
            ),
        )
        kernel.launch(n, m, stream=place.stream, **place.addresses)
    return c if y_type == y_format else backend.cast(c, y_type)


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
    """What the kernel writes, and what the caller gets: float64 is made from float32."""
    wanted = backend.default_format() if dtype is None else backend.as_format(dtype)
    if wanted == "f64":
        return "f32", "f64"
    require(wanted in _IO_FORMATS, f"results can't have type {wanted}")
    return wanted, wanted
