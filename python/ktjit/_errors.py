"""Errors, one class per party that has to act; the message is that of the C interface."""

import builtins


class Error(RuntimeError):
    """Base of everything ktjit raises."""


class SpecError(Error, ValueError):
    """The caller asked for something that is not allowed, or not served yet."""


class ArgumentError(SpecError, AssertionError):
    """An array is not what a function asks for: its shape, type, layout or device.

    An AssertionError too, since that is what the functions raise that ktjit.fp8 stands in for.
    """


class InputError(Error, ValueError):
    """A file is damaged or odd."""


class ToolchainError(Error):
    """A device, a library or a compiler is missing on this machine, or too old."""


class CompileError(Error):
    """A compiler refused text of ktjit's."""


class DriverError(Error):
    """The GPU driver refused a call."""


class InternalError(Error):
    """A condition that ktjit's own code guarantees does not hold."""


class OutOfMemoryError(Error, MemoryError):
    """Host memory is short."""


class CaptureError(Error):
    """A kernel was to be loaded while a CUDA graph is being captured; load it before."""


class MissingKernelError(Error):
    """A kernel is in no cache and no pack, and sealed mode compiles nothing."""


class InterruptedError(Error, builtins.InterruptedError):
    """It was cancelled."""


# By ktjit_status.
_CLASSES = {
    1: SpecError,
    2: InputError,
    3: ToolchainError,
    4: CompileError,
    5: DriverError,
    6: InternalError,
    7: OutOfMemoryError,
    8: CaptureError,
    9: MissingKernelError,
    10: InterruptedError,
}


def class_of(status):
    return _CLASSES.get(status, Error)
