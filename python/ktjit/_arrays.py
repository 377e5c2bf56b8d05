"""numpy arrays and torch tensors behind one interface: where they lie, what they hold, new ones.

torch is never imported here: a tensor can only come from a caller who has imported it.
"""

import sys

import numpy as np

from ._errors import ArgumentError

# Number formats under the names that numpy (with ml_dtypes) and torch have for them.
_FORMATS = {
    "float64": "f64",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "uint8": "u8",
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2",
    "float8_e4m3fnuz": "fp8_e4m3fnuz",
    "float8_e5m2fnuz": "fp8_e5m2fnuz",
    "float8_e8m0fnu": "e8m0",
}
_DTYPE_NAMES = {format: name for name, format in _FORMATS.items()}


def require(condition, message):
    if not condition:
        raise ArgumentError(message)


def ceil_div(a, b):
    return -(-a // b)


class _Numpy:
    """numpy arrays. FP8 codes are uint8, or ml_dtypes' types; results have uint8."""

    xp = np

    def format_of(self, array):
        return _FORMATS.get(array.dtype.name, array.dtype.name)

    def address(self, array):
        return array.__array_interface__["data"][0]

    def check_aligned(self, array, name):
        require(array.flags.aligned, f"{name} is not aligned to its elements")

    def is_contiguous(self, array):
        return array.flags.c_contiguous

    def device(self, array):
        return "cpu"

    def stream_getter(self, array):
        return None, None

    def default_format(self):
        return "f32"

    def as_format(self, dtype):
        name = np.dtype(dtype).name
        return _FORMATS.get(name, name)

    def dtype_of(self, format):
        if format.startswith("fp8"):
            return np.uint8
        if format == "bf16":
            import ml_dtypes  # numpy itself has no bfloat16

            return ml_dtypes.bfloat16
        return np.dtype(_DTYPE_NAMES[format])

    def empty(self, like, shape, dtype):
        return np.empty(shape, dtype)

    def cast(self, array, format):
        return array.astype(self.dtype_of(format))


class _Torch:
    """torch tensors, on the CPU and on CUDA devices with torch's current stream."""

    def __init__(self, torch):
        self.xp = torch
        self._dtypes = {
            format: getattr(torch, name)
            for name, format in _FORMATS.items()
            if hasattr(torch, name)
        }
        self._formats = {dtype: format for format, dtype in self._dtypes.items()}
        self.address = torch.Tensor.data_ptr
        self.is_contiguous = torch.Tensor.is_contiguous

    def format_of(self, tensor):
        return self._formats.get(tensor.dtype) or str(tensor.dtype)

    def check_aligned(self, tensor, name):
        pass  # torch makes no others

    def device(self, tensor):
        device = tensor.device
        if device.type == "cuda":
            return f"cuda:{device.index}"
        require(device.type == "cpu", f"a tensor is on {device}, not on the CPU or a CUDA device")
        return "cpu"

    def stream_getter(self, tensor):
        """A function that gives the current stream's handle, and its argument; None for the CPU.

        torch's own short way where it has one: torch.cuda.current_stream makes an object each time.
        """
        if tensor.device.type != "cuda":
            return None, None
        raw = getattr(self.xp._C, "_cuda_getCurrentRawStream", None)
        if raw is None:
            current_stream = self.xp.cuda.current_stream

            def raw(index):
                return current_stream(index).cuda_stream

        return raw, tensor.device.index

    def default_format(self):
        return self._formats[self.xp.get_default_dtype()]

    def as_format(self, dtype):
        return self._formats.get(dtype) or str(dtype)

    def dtype_of(self, format):
        return self._dtypes[format]

    def empty(self, like, shape, dtype):
        return like.new_empty(shape, dtype=dtype)

    def cast(self, tensor, format):
        return tensor.to(self._dtypes[format])


_numpy = _Numpy()
_torch = None


def backend_of(array, name):
    """The functions for arrays of this kind. Errors: ArgumentError for other objects."""
    global _torch
    if isinstance(array, np.ndarray):
        return _numpy
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        if _torch is None:
            _torch = _Torch(torch)
        return _torch
    raise ArgumentError(f"{name} is a {type(array).__name__}, not a numpy array or a torch tensor")


def default_dtype():
    """torch's, if it is loaded: part of what a call without a dtype asks for."""
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_default_dtype()
