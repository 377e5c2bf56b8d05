"""ggml's formats: decode a tensor's bytes, or multiply them by activations; PreparedWeights for GPUs: faster products.

The bytes are a numpy uint8 array, a torch uint8 tensor, or any object with the buffer protocol
(bytes, a memory map); results are of the same kind, numpy's for plain buffers, on the same device.
Formats by name, whatever the case: "q4_K", "Q8_0", "iq4_xs", ...
"""

import numpy as np

from . import _kernels, _ktjit
from ._arrays import backend_of, require
from ._calls import (
    Launch,
    Plan,
    check_contiguous,
    check_devices,
    find_plan,
    keep_plan,
    preparable,
)
from ._errors import ArgumentError
from ._kernels import Spec

__all__ = ["PreparedWeights", "dequant", "matvec", "prepared_bytes"]

_IO_FORMATS = ("f32", "f16", "bf16")
_ELEMENT_BYTES = {"f32": 4, "f16": 2, "bf16": 2}
_MAX_COLUMNS = 8


def _dequant(sink, data, format, rows, cols, *, dtype=None):
    try:
        key = ("dequant", type(data), data.shape, data.dtype, data.device, format, rows, cols, dtype)
    except AttributeError:  # no array, but perhaps a buffer
        data, _ = _bytes_of(data)
        key = ("dequant", type(data), data.shape, data.dtype, None, format, rows, cols, dtype)
    plan = find_plan(key)
    if plan is None:
        plan = keep_plan(key, _plan_dequant(data, format, rows, cols, dtype))
    if not plan.backend.is_contiguous(data):
        check_contiguous(plan.backend, data=data)
    y = plan.empty(data)
    address = plan.address
    if sink is not None:
        sink.plan = plan
    plan.start(sink, address(data), 0, 0, 0, address(y))
    return y


@preparable(_dequant)
def dequant(data, format, rows, cols, *, dtype=None):
    """Decodes a tensor [rows, cols] to float32, bit for bit as ggml does; or to float16, bfloat16.

    Errors: SpecError for a format that is not known or not served; ArgumentError unless `data` has
    the bytes of the tensor.
    """
    return _dequant(None, data, format, rows, cols, dtype=dtype)


def _plan_dequant(data, format, rows, cols, dtype):
    data, backend = _bytes_of(data)
    y_format = _result_format(backend, dtype)
    spec = Spec("dequant", format, cols, y_format=y_format)
    plan = Plan(backend, data, [Launch(spec, rows)], (rows, cols), y_format)
    _check_bytes(plan, data, format, rows, cols)
    return plan


def _matvec(sink, data, format, rows, cols, x, *, dtype=None):
    try:
        device = data.device
    except AttributeError:  # no array, but perhaps a buffer
        data, _ = _bytes_of(data)
        device = None
    try:
        key = (
            "matvec", type(data), data.shape, data.dtype, device, format, rows, cols,
            type(x), x.shape, x.dtype, x.device, dtype,
        )  # fmt: skip
        plan = find_plan(key)
    except AttributeError:
        key = plan = None
    if plan is None:
        plan = _plan_matvec(data, format, rows, cols, x, dtype)
        if key is not None:
            keep_plan(key, plan)
    is_contiguous = plan.backend.is_contiguous
    if not (is_contiguous(data) and is_contiguous(x)):
        check_contiguous(plan.backend, data=data, x=x)
    y = plan.empty(x)
    address = plan.address
    if sink is not None:
        sink.plan = plan
    plan.start(sink, address(data), 0, address(x), 0, address(y))
    return y


@preparable(_matvec)
def matvec(data, format, rows, cols, x, *, dtype=None):
    """y = x w^T, w being the tensor [rows, cols]: sums of float32 quality, w exact.

    x [cols] or [n, cols], float32, float16 or bfloat16; result [rows] or [n, rows], float32 or
    `dtype`. Eight rows of x a launch.
    Errors: as dequant; ArgumentError for x of another shape.
    """
    return _matvec(None, data, format, rows, cols, x, dtype=dtype)


def _plan_matvec(data, format, rows, cols, x, dtype):
    data, backend = _bytes_of(data)
    plan = _plan_products(backend, data, format, rows, cols, x, dtype)
    _check_bytes(plan, data, format, rows, cols)
    return plan


def _plan_products(backend, data, format, rows, cols, x, dtype, layout=None):
    """The plan of x w^T for `data` in a layout, whose size is the caller's to check."""
    require(backend_of(x, "x") is backend, f"x is a {type(x).__name__}, unlike the tensor's bytes")
    require(
        x.ndim in (1, 2) and x.shape[-1] == cols,
        f"x has shape {tuple(x.shape)}, not ({cols},) or (n, {cols})",
    )
    x_format = backend.format_of(x)
    require(x_format in _IO_FORMATS, f"x has type {x.dtype}, not float32, float16 or bfloat16")
    check_contiguous(backend, x=x)
    check_devices(backend, data=data, x=x)
    y_format = _result_format(backend, dtype)
    n = 1 if x.ndim == 1 else x.shape[0]
    x_row_bytes = cols * _ELEMENT_BYTES[x_format]
    y_row_bytes = rows * _ELEMENT_BYTES[y_format]
    launches = []
    for first in range(0, n, _MAX_COLUMNS):
        count = min(_MAX_COLUMNS, n - first)
        spec = Spec(
            "matvec",
            format,
            cols,
            x_format=x_format,
            y_format=y_format,
            x_columns=1 << (count - 1).bit_length(),
            layout=layout,
        )
        launches.append(Launch(spec, rows, count, first * x_row_bytes, first * y_row_bytes))
    return Plan(backend, data, launches, tuple(x.shape[:-1]) + (rows,), y_format)


class PreparedWeights:
    """A tensor [rows, cols] that was rearranged once, for a GPU (sm_61, or sm_70 and up) or a CPU, so that matvec reads it
    faster.

    `data` is as for matvec. Bytes on a CUDA device are prepared there, on torch's current stream. Others are copied to
    `device` ("cpu", "cuda:0", or "sim", the simulator; None: the first GPU, else the CPU), and so is x for each product,
    which waits for its result. The native bytes are not kept: `restore` gives them again, for what else reads
    them. `nbytes` is the size, as in the file or a few percent more: rows are padded to a multiple of 16, columns of 256.
    On a CPU tq1_0, IQ1, IQ2 and IQ3 are up to 1.6 times as large (docs/CPU.md).
    Errors: SpecError for formats without this layout and other GPUs; ArgumentError unless `data` has
    the bytes of the tensor.
    """

    def __init__(self, data, format, rows, cols, *, device=None):
        data, backend = _bytes_of(data)
        home = backend.device(data)
        self.format, self.rows, self.cols = format, rows, cols
        self._backend = backend
        self._is_copied = home == "cpu"  # arrays lie in host memory
        if self._is_copied:
            self.device = _kernels.device("" if device is None else device).name
        else:
            require(device in (None, home), f"data is on {home}, not on {device}")
            self.device = home
        launch = Launch(Spec("prepare", format, cols, layout="prepared"), rows)
        stream = 0
        if not self._is_copied:
            get_stream, index = backend.stream_getter(data)
            stream = get_stream(index)
        prepare = _kernels.load(self.device, stream, launch.spec)
        sizes = prepare.argument_bytes(rows)
        require(
            data.shape[0] == sizes["w"],
            f"data has {data.shape[0]} bytes, a {format} tensor [{rows}, {cols}] has {sizes['w']}",
        )
        self.nbytes = sizes["y"]
        if self._is_copied:
            self._w = _kernels.device(self.device).allocate(self.nbytes)
            self._like = backend.empty(data, (0,), backend.dtype_of("u8"))
            native = _copy(self.device, backend, data, sizes["w"])
            prepare.launch(rows, w=native.address, y=self._w.address)
            self._w.wait()  # before the native bytes are freed
        else:
            self._w = self._like = backend.empty(data, (self.nbytes,), backend.dtype_of("u8"))
            plan = Plan(backend, data, [launch], (self.nbytes,), "u8")
            plan.start(None, backend.address(data), 0, 0, 0, backend.address(self._w))

    def matvec(self, x, *, dtype=None):
        """y = x w^T: as ktjit.gguf.matvec, x and y where the tensor's bytes were given."""
        return self._matvec(None, x, dtype=dtype)

    def dequant(self, *, dtype=None):
        """The tensor [rows, cols] as float32, the bits that ktjit.gguf.dequant gives; or float16, bfloat16."""
        if self.device == "cpu":
            return dequant(self.restore(), self.format, self.rows, self.cols, dtype=dtype)
        y_format = _result_format(self._backend, dtype)
        spec = Spec("dequant", self.format, self.cols, y_format=y_format, layout="prepared")
        return self._run(None, self._plan(spec, (self.rows, self.cols), y_format), None)

    def restore(self):
        """The tensor's bytes as they were given, but for those that mean the same as another (docs/EMBEDDING.md)."""
        spec = Spec("restore", self.format, self.cols, layout="prepared")
        size = _kernels.load(self.device, 0, spec).argument_bytes(self.rows)["y"]
        return self._run(None, self._plan(spec, (size,), "u8"), None)

    def _plan(self, spec, shape, y_format):
        return Plan(self._backend, self._like, [Launch(spec, self.rows)], shape, y_format)

    def _matvec(self, sink, x, *, dtype=None):
        try:
            key = (
                "prepared matvec", self.device, self._is_copied, self.format, self.rows, self.cols,
                type(x), x.shape, x.dtype, x.device if hasattr(x, "device") else None, dtype,
            )  # fmt: skip
            plan = find_plan(key)
        except AttributeError:
            key = plan = None
        if plan is None:
            plan = _plan_products(
                self._backend, self._like, self.format, self.rows, self.cols, x, dtype, "prepared"
            )
            if key is not None:
                keep_plan(key, plan)
        if not self._backend.is_contiguous(x):
            check_contiguous(self._backend, x=x)
        return self._run(sink, plan, x)

    def _run(self, sink, plan, x):
        """The result of the plan's launches."""
        backend = self._backend
        y = plan.empty(self._like)
        if not self._is_copied:
            if sink is not None:
                sink.plan = plan
            plan.start(
                sink, backend.address(self._w), 0, 0 if x is None else backend.address(x), 0,
                backend.address(y),
            )  # fmt: skip
            return y
        require(sink is None, "a call whose arrays are copied to a device can't be prepared")
        x_there = None if x is None else _copy(self.device, backend, x, x.nbytes)
        y_there = _kernels.device(self.device).allocate(max(y.nbytes, 1))
        for launch in plan.launches:
            kernel = _kernels.load(self.device, 0, launch.spec)
            kernel.launch(
                launch.rows, launch.n, w=self._w.address,
                x=0 if x is None else x_there.address + launch.x_offset,
                y=y_there.address + launch.y_offset,
            )  # fmt: skip
        if y.nbytes > 0:
            y_there.download(backend.address(y), y.nbytes)
        return y


preparable(PreparedWeights._matvec)(PreparedWeights.matvec)


def prepared_bytes(format, rows, cols, *, device="cuda"):
    """The size that PreparedWeights of a tensor [rows, cols] have, in bytes. Errors: SpecError, as there."""
    if device == "cpu":
        return _ktjit.prepared_bytes_for("cpu", format, rows, cols)
    return _ktjit.prepared_bytes(format, rows, cols)


def _copy(device, backend, array, size):
    """A copy of a host array's bytes on the device."""
    there = _kernels.device(device).allocate(max(size, 1))
    if size > 0:
        there.upload(backend.address(array), size)
    return there


def _bytes_of(data):
    """The bytes as a flat array, and the functions for arrays of its kind."""
    try:
        backend = backend_of(data, "data")
    except ArgumentError:
        try:
            data = np.frombuffer(data, np.uint8)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"data is no array and no buffer: {error}") from None
        backend = backend_of(data, "data")
    require(backend.format_of(data) == "u8", f"data has type {data.dtype}, not uint8")
    require(backend.is_contiguous(data), "data must be contiguous")
    return data.reshape(-1), backend


def _check_bytes(plan, data, format, rows, cols):
    for launch in plan.launches[:1]:
        kernel = plan.load(launch)
        expected = kernel.argument_bytes(rows)["w"]
        require(
            data.shape[0] == expected,
            f"data has {data.shape[0]} bytes, a {format} tensor [{rows}, {cols}] has {expected}",
        )


def _result_format(backend, dtype):
    format = "f32" if dtype is None else backend.as_format(dtype)
    require(format in _IO_FORMATS, f"results can't have type {format}")
    return format
