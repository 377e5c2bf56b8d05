"""ggml's formats: decode a tensor's bytes, or multiply them by activations.

The bytes are a numpy uint8 array, a torch uint8 tensor, or any object with the buffer protocol
(bytes, a memory map); results are of the same kind, numpy's for plain buffers, on the same device.
Formats by name, whatever the case: "q4_K", "Q8_0", "iq4_xs", ...
"""

import numpy as np

from ._arrays import Place, backend_of, require
from ._errors import ArgumentError
from ._kernels import Spec, load

__all__ = ["dequant", "matvec"]

_IO_FORMATS = ("f32", "f16", "bf16")
_MAX_COLUMNS = 8


def dequant(data, format, rows, cols, *, dtype=None):
    """Decodes a tensor [rows, cols] to float32, bit for bit as ggml does; or to float16, bfloat16.

    Errors: SpecError for a format that is not known or not served; ArgumentError unless `data` has
    the bytes of the tensor.
    """
    data, backend = _bytes_of(data)
    y_format = _result_format(backend, dtype)
    y = backend.empty(data, (rows, cols), y_format)
    place = Place(backend, {"w": data, "y": y})
    spec = Spec(
        "dequant", format, cols, y_format=y_format, alignment=place.alignment("w", "y")
    )
    kernel = load(place.device, place.stream, spec)
    _check_bytes(kernel, data, format, rows, cols)
    kernel.launch(rows, stream=place.stream, **place.addresses)
    return y


def matvec(data, format, rows, cols, x, *, dtype=None):
    """y = x w^T, w being the tensor [rows, cols]: sums of float32 quality, w exact.

    x [cols] or [n, cols], float32, float16 or bfloat16; result [rows] or [n, rows], float32 or
    `dtype`. Eight rows of x a launch.
    Errors: as dequant; ArgumentError for x of another shape.
    """
    data, backend = _bytes_of(data)
    require(backend_of(x, "x") is backend, f"x is a {type(x).__name__}, unlike the tensor's bytes")
    require(
        x.ndim in (1, 2) and x.shape[-1] == cols,
        f"x has shape {tuple(x.shape)}, not ({cols},) or (n, {cols})",
    )
    x_format = backend.format_of(x)
    require(x_format in _IO_FORMATS, f"x has type {x.dtype}, not float32, float16 or bfloat16")
    y_format = _result_format(backend, dtype)
    n = 1 if x.ndim == 1 else x.shape[0]
    y = backend.empty(x, (n, rows), y_format)
    for first in range(0, n, _MAX_COLUMNS):
        some_x = x.reshape(n, cols)[first : first + _MAX_COLUMNS]
        some_y = y[first : first + _MAX_COLUMNS]
        count = some_x.shape[0]
        place = Place(backend, {"w": data, "x": some_x, "y": some_y})
        spec = Spec(
            "matvec",
            format,
            cols,
            x_format=x_format,
            y_format=y_format,
            x_columns=1 << (count - 1).bit_length(),
            alignment=place.alignment("w", "x", "y"),
        )
        kernel = load(place.device, place.stream, spec)
        _check_bytes(kernel, data, format, rows, cols)
        kernel.launch(rows, count, stream=place.stream, **place.addresses)
    return y[0] if x.ndim == 1 else y


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


def _check_bytes(kernel, data, format, rows, cols):
    expected = kernel.argument_bytes(rows)["w"]
    require(
        data.shape[0] == expected,
        f"data has {data.shape[0]} bytes, a {format} tensor [{rows}, {cols}] has {expected}",
    )


def _result_format(backend, dtype):
    format = "f32" if dtype is None else backend.as_format(dtype)
    require(format in _IO_FORMATS, f"results can't have type {format}")
    return format
