"""Products with experts chosen by ids on the device, and products of few rows with a gate.

Weights are the bytes of a tensor: a numpy uint8 array or a torch uint8 tensor (FP8 also in its own type), x and
ids arrays of the same kind on the same device. Formats by name: "q4_K", "fp8_e4m3", "bf16", ...
"""

from . import _kernels
from ._arrays import backend_of, require
from ._calls import check_contiguous, check_devices
from ._kernels import Spec

__all__ = ["gated_matvec", "moe_matmul", "moe_matvec"]

_IO_FORMATS = ("f32", "f16", "bf16")
_ELEMENT_BYTES = {"f32": 4, "f16": 2, "bf16": 2}
_SCALE_TYPES = {"f32": "f32", "bf16": "bf16", "e8m0": "e8m0", "u8": "e8m0"}
_MAX_COLUMNS = 8


def moe_matvec(
    w, format, experts, rows, cols, ids, x, *,
    scale=None, scale_block=None, w_up=None, scale_up=None, gate="silu", dtype=None,
):  # fmt: skip
    """y[t, s] = w[ids[t, s]] x[t]: each slot by its expert, sums of float32 quality, w exact.

    w: a stack [experts, rows, cols], as a GGUF `*_exps.weight` has it. ids int32 [tokens, slots], read by the
    kernel alone; x [tokens, cols], or [tokens, slots, cols] where each slot has its own; result
    [tokens, slots, rows], float32 or `dtype`. Slots whose id is no expert's are NaN.
    With `w_up`, of the same format and shape: y = act(w x) * (w_up x) in one launch, act `gate`: "silu" or
    "gelu_tanh".
    `scale`, `scale_up`: float32, bfloat16 or E8M0 codes [experts, ceil(rows / R), ceil(cols / C)] with
    scale_block = (R, C), 0 for all.
    Errors: SpecError for a format that is not known or not served; ArgumentError for arrays of other sizes.
    """
    return _by_experts("moe_matvec", w, format, experts, rows, cols, ids, x, scale, scale_block, w_up, scale_up, gate, dtype)


def moe_matmul(
    w, format, experts, rows, cols, ids, x, *,
    scale=None, scale_block=None, w_up=None, scale_up=None, gate="silu", dtype=None,
):  # fmt: skip
    """As moe_matvec, for many tokens: in one launch the slots of each expert are multiplied together."""
    return _by_experts("moe_matmul", w, format, experts, rows, cols, ids, x, scale, scale_block, w_up, scale_up, gate, dtype)


def gated_matvec(
    w, w_up, format, rows, cols, x, *,
    scale=None, scale_up=None, scale_block=None, gate="silu", dtype=None,
):  # fmt: skip
    """y = act(w x) * (w_up x) in one launch for eight rows of x; w, w_up [rows, cols] of one format.

    x [cols] or [n, cols]; result [rows] or [n, rows]. The rest is as with moe_matvec.
    """
    call = _Call(w, format, cols, x, w_up, scale, scale_up, scale_block, gate, dtype)
    require(w_up is not None, "w_up is missing")
    call.check()
    require(
        len(x.shape) in (1, 2) and x.shape[-1] == cols,
        f"x has shape {tuple(x.shape)}, not ({cols},) or (n, {cols})",
    )
    n = 1 if len(x.shape) == 1 else x.shape[0]
    y = call.empty(tuple(x.shape[:-1]) + (rows,))
    for first in range(0, n, _MAX_COLUMNS):
        count = min(_MAX_COLUMNS, n - first)
        call.launch("matvec", y, rows, count, 0, 0, first=first, x_columns=1 << (count - 1).bit_length())
    return y


def _by_experts(op, w, format, experts, rows, cols, ids, x, scale, scale_block, w_up, scale_up, gate, dtype):
    call = _Call(w, format, cols, x, w_up, scale, scale_up, scale_block, gate, dtype)
    call.check(ids=ids)
    require(call.backend.format_of(ids) in ("int32", "torch.int32"), f"ids has type {ids.dtype}, not int32")
    require(len(ids.shape) == 2, f"ids has shape {tuple(ids.shape)}, not (tokens, slots)")
    tokens, slots = ids.shape
    shared, own = (tokens, cols), (tokens, slots, cols)
    require(tuple(x.shape) in (shared, own), f"x has shape {tuple(x.shape)}, not {shared} or {own}")
    y = call.empty((tokens, slots, rows))
    if tokens * slots == 0:
        return y
    slots_per_x = slots if len(x.shape) == 2 else 1
    # Kernels for about so many slots an expert: few different ones.
    average = max(1, tokens * slots // max(1, experts))
    x_columns = 1 << (average - 1).bit_length() if op == "moe_matmul" else 0
    call.launch(op, y, rows, tokens * slots, slots_per_x, experts, ids=ids, x_columns=x_columns)
    return y


class _Call:
    """What both functions have in common: arrays that are checked, and their launch."""

    def __init__(self, w, format, cols, x, w_up, scale, scale_up, scale_block, gate, dtype):
        self.backend = backend_of(w, "w")
        self.arrays = {"w": w, "x": x}
        for name, array in (("scale", scale), ("w_up", w_up), ("scale_up", scale_up)):
            if array is not None:
                self.arrays[name] = array
        require(scale_block is None or scale is not None, "scale_block needs scale")
        require(scale is None or scale_block is not None, "scale needs scale_block")
        require(
            (scale_up is None) == (scale is None or w_up is None),
            "scale_up goes with scale and w_up",
        )
        for name, array in self.arrays.items():
            require(
                backend_of(array, name) is self.backend,
                f"{name} is a {type(array).__name__}, unlike w",
            )
        self.x_format = self.backend.format_of(x)
        require(
            self.x_format in _IO_FORMATS, f"x has type {x.dtype}, not float32, float16 or bfloat16"
        )
        self.y_format = "f32" if dtype is None else self.backend.as_format(dtype)
        require(self.y_format in _IO_FORMATS, f"results can't have type {self.y_format}")
        scale_type = None
        if scale is not None:
            scale_type = _SCALE_TYPES.get(self.backend.format_of(scale))
            require(scale_type, f"scale has type {scale.dtype}, not float32, bfloat16 or e8m0")
            require(
                scale_up is None or scale_up.dtype == scale.dtype, "scale_up has another type than scale"
            )
        self.cols = cols
        self.spec = {
            "format": format,
            "cols": cols,
            "scale_type": scale_type,
            "scale_block_rows": 0 if scale_block is None else scale_block[0],
            "scale_block_cols": 0 if scale_block is None else scale_block[1],
            "x_format": self.x_format,
            "y_format": self.y_format,
            "gate": None if w_up is None else gate,
        }

    def check(self, **more):
        for name, array in more.items():
            require(
                backend_of(array, name) is self.backend,
                f"{name} is a {type(array).__name__}, unlike w",
            )
            self.arrays[name] = array
        check_contiguous(self.backend, **self.arrays)
        check_devices(self.backend, **self.arrays)

    def empty(self, shape):
        return self.backend.empty(self.arrays["x"], shape, self.backend.dtype_of(self.y_format))

    def launch(
        self, op, y, rows, n, slots_per_x, experts, *, ids=None, first=0, x_columns=0
    ):
        """Queues one launch, from row `first` of x and y on."""
        address = self.backend.address
        addresses = {name: address(array) for name, array in self.arrays.items()}
        addresses["x"] += first * self.cols * _ELEMENT_BYTES[self.x_format]
        addresses["y"] = address(y) + first * rows * _ELEMENT_BYTES[self.y_format]
        last_bits = 0
        for name in ("w", "w_up", "x", "y"):
            last_bits |= addresses.get(name, 0)
        alignment = min(16, last_bits & -last_bits)
        get_stream, index = self.backend.stream_getter(y)
        stream = 0 if get_stream is None else get_stream(index)
        spec = Spec(op, **self.spec, x_columns=x_columns, alignment=alignment)
        kernel = _kernels.load(self.backend.device(y), stream, spec)
        counts = (rows, n, slots_per_x, experts)
        for name, expected in kernel.counts_argument_bytes(*counts).items():
            array = self.arrays.get(name)
            if array is None or name == "x":
                continue
            size = array.nbytes
            require(size == expected, f"{name} has {size} bytes, {_words_for(spec, counts)} has {expected}")
        kernel.launch_counts(*counts, stream, **addresses)


def _words_for(spec, counts):
    rows, n, _, experts = counts
    stack = f"{experts}, " if experts else ""
    return f"the one of {spec.op} with a {spec.format} tensor [{stack}{rows}, {spec.cols}]"
