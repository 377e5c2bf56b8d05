"""ggml's formats: decode a tensor's bytes, or multiply them by activations.

The bytes are a numpy uint8 array, a torch uint8 tensor, or any object with the buffer protocol
(bytes, a memory map); results are of the same kind, numpy's for plain buffers, on the same device.
Formats by name, whatever the case: "q4_K", "Q8_0", "iq4_xs", ...
"""

import numpy as np

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

__all__ = ["dequant", "matvec"]

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
        )
        launches.append(Launch(spec, rows, count, first * x_row_bytes, first * y_row_bytes))
    plan = Plan(backend, data, launches, tuple(x.shape[:-1]) + (rows,), y_format)
    _check_bytes(plan, data, format, rows, cols)
    return plan


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
