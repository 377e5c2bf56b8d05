"""Loaded kernels by what they do: a repeated call is one look-up and one launch."""

import os
import threading
from pathlib import Path
from typing import NamedTuple, Optional

from . import _ktjit


class Spec(NamedTuple):
    """What a kernel does; the fields are those of ktjit_kernel_desc in capi/ktjit.h."""

    op: str
    format: str
    cols: int
    scale_type: Optional[str] = None
    scale_block_rows: int = 0
    scale_block_cols: int = 0
    activation: Optional[str] = None
    x_format: Optional[str] = None
    x_scale_group: int = 0
    y_format: Optional[str] = None
    bias_format: Optional[str] = None
    x_columns: int = 0
    weights_finite: bool = False
    saturate: bool = True
    alignment: int = 0
    target: Optional[str] = None
    dependent_launch: bool = False
    rows: int = 0
    gate: Optional[str] = None
    residual_format: Optional[str] = None
    matrices: int = 0
    layout: Optional[str] = None
    constant_weights: bool = False
    tensor_core_precision: bool = False

    def description(self):
        fields = self._asdict()
        return _ktjit.Description(
            fields.pop("op"), fields.pop("format"), fields.pop("cols"), **fields
        )


_IN_ORDER = ("prepare", "restore")  # ops without dependent launches

_lock = threading.RLock()
_context = None
_target = None
_dependent_launch = False
_devices = {}
_kernels = {}
_forget = []


def on_configure(forget):
    """`forget` is called when loaded kernels are to be forgotten."""
    _forget.append(forget)


def _worker():
    """The compiler worker that was installed beside this file, if it was."""
    path = Path(__file__).resolve().parent / "ktjit-llvm"
    return str(path) if path.is_file() else None


def _path_list(paths):
    """Paths as the C interface takes them: one path or several, ':' between them."""
    if paths is None:
        return None
    if isinstance(paths, (str, os.PathLike)):
        return os.fspath(paths)
    return ":".join(os.fspath(path) for path in paths)


def _max_bytes(size):
    """None: the default; "none": no limit."""
    if size is None:
        return 0
    return 2**64 - 1 if size == "none" else int(size)


def configure(
    cache_dir=None,
    cache=True,
    threads=0,
    nvrtc=None,
    worker=None,
    target=None,
    cache_path=None,
    cache_shared=None,
    cache_max_bytes=None,
    sealed=False,
    dependent_launch=False,
    tuning=True,
):
    """Sets where compiled kernels are kept and which compilers are used.

    What is left out comes from the environment (KTJIT_CACHE_DIR and so on, docs/EMBEDDING.md).
    `cache_path` are packs and folders that are only looked in, `cache_shared` those of all these that
    several users write. `cache_max_bytes` caps `cache_dir` ("none": no cap). With `sealed` nothing
    is compiled: a kernel that is missing is an error.
    `target` ("sm_86"): GPU kernels are those of another GPU's code, to see what it would compute.
    `dependent_launch`: GPU kernels (sm_90 and up, else a SpecError) may start while the kernel ahead of them in
    the stream ends, and wait for it by themselves.
    Without `tuning` the knobs that `ktjit tune` measured on this device are not used.
    Kernels that are loaded are forgotten. Without a call, everything has its default.
    """
    global _context, _target, _dependent_launch
    context = _ktjit.Context(
        cache_dir=None if cache_dir is None else str(cache_dir),
        cache=cache,
        threads=threads,
        nvrtc=None if nvrtc is None else str(nvrtc),
        worker=None if worker is None else str(worker),
        cache_path=_path_list(cache_path),
        cache_shared=_path_list(cache_shared),
        cache_max_bytes=_max_bytes(cache_max_bytes),
        sealed=sealed,
        tuning=tuning,
    )
    with _lock:
        _context = context
        _target = target
        _dependent_launch = dependent_launch
        _devices.clear()
        _kernels.clear()
        for forget in _forget:
            forget()


def _get_context():
    with _lock:
        if _context is None:
            configure()
        return _context


def device(name=""):
    """The device "cuda:0", "cpu", ...; "": the first GPU, else the CPU."""
    with _lock:
        if name not in _devices:
            _devices[name] = _ktjit.Device(_get_context(), name)
        return _devices[name]


def target_of(device_name):
    """The target that GPU kernels for the device are made for, "sm_90a"; "cpu" for the CPU."""
    if device_name != "cpu" and _target is not None:
        return _target
    return device(device_name).target


def load(device_name, stream, spec):
    """The kernel for `spec` on a device, loaded at most once.

    `stream`: the caller's, so that a load under capture is named (CaptureError).
    """
    key = (device_name, spec)
    kernel = _kernels.get(key)
    if kernel is None:
        with _lock:
            kernel = _kernels.get(key)
            if kernel is None:
                wanted = spec if spec.target else spec._replace(target=_target)
                if _dependent_launch and device_name != "cpu" and spec.op not in _IN_ORDER:
                    wanted = wanted._replace(dependent_launch=True)
                kernel = device(device_name).load(wanted.description(), stream)
                _kernels[key] = kernel
    return kernel


def loaded_kernels():
    """Infos of the kernels loaded so far, by (device, spec)."""
    with _lock:
        return {key: kernel.info() for key, kernel in _kernels.items()}


def emit(op, format, cols, target, **fields):
    """The text of a kernel for any target, and how it decodes the format; needs no device.

    `fields`: as in Spec. Returns the kernel's info, a dict with "source", "lowering", "spec", ...
    """
    spec = Spec(op, format, cols, target=target, **fields)
    return _ktjit.emit(_get_context(), spec.description()).info()
