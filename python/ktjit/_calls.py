"""Plans: what a function has found out about a kind of call, so that the next one of the kind is cheap.

A plan is kept under the types, shapes, devices and options of the arguments, whose checks it has passed; what
can differ between two such calls is looked at each time: whether arrays are contiguous, their addresses, and
the current stream. Options that are equal share a plan: 128.0 is taken for 128 once 128 has been.
"""

import math

from . import _kernels, _ktjit
from ._arrays import require

_MOST_PLANS = 4096  # shapes of activations may differ from call to call


_TUNED_OPS = ("dequant", "matvec", "matmul")


def _size_class(device, launch):
    """About how many rows, where knobs can be tuned for them: the power of two nearest to them, so that tensors
    share kernels. Kernels for CPUs have no knobs, and are the same for all rows."""
    if device == "cpu" or launch.spec.op not in _TUNED_OPS or launch.rows < 1:
        return 0
    return 1 << round(math.log2(launch.rows))


class Launch:
    """One launch of a plan: a kernel's spec, its counts, and where in x and y it works (bytes)."""

    __slots__ = ("spec", "rows", "n", "x_offset", "y_offset", "queue")

    def __init__(self, spec, rows, n=1, x_offset=0, y_offset=0):
        self.spec = spec
        self.rows = rows
        self.n = n
        self.x_offset = x_offset
        self.y_offset = y_offset
        self.queue = None  # of the kernel for addresses that are multiples of 16


class Plan:
    """What one kind of call does.

    `shape` and `format` are those of the result; `wanted`: what it is converted to, None for nothing. An empty
    list of launches leaves the result as it was allocated.
    """

    __slots__ = (
        "backend", "device", "launches", "shape", "dtype", "wanted", "extra",
        "address", "get_stream", "device_index",
    )  # fmt: skip

    def __init__(self, backend, like, launches, shape, format, wanted=None, extra=None):
        self.backend = backend
        self.device = backend.device(like)
        self.launches = launches
        self.shape = shape
        self.dtype = backend.dtype_of(format)
        self.wanted = wanted
        self.extra = extra  # for the function that made it
        self.address = backend.address
        self.get_stream, self.device_index = backend.stream_getter(like)

    def empty(self, like):
        return self.backend.empty(like, self.shape, self.dtype)

    def start(self, sink, w, scale, x, x_scale, y):
        """Queues the launches on the current stream, or adds them to `sink`, a _ktjit.Prepared.

        Arguments are addresses, 0 for none.
        """
        get_stream = self.get_stream
        stream = 0 if get_stream is None else get_stream(self.device_index)
        for launch in self.launches:
            x_at = x + launch.x_offset
            y_at = y + launch.y_offset
            queue = launch.queue
            if queue is None or (w | x_at | y_at) & 15 or sink is not None:
                kernel = self._load(launch, (w | x_at | y_at) & 15, stream)
                if sink is not None:
                    sink.add(kernel, launch.rows, launch.n, w, scale, x_at, x_scale, 0, y_at, 0)
                    continue
                queue = kernel.queue
            queue(launch.rows, launch.n, stream, w, scale, x_at, x_scale, 0, y_at, 0)

    def finish(self, y):
        return y if self.wanted is None else self.backend.cast(y, self.wanted)

    def load(self, launch):
        """The kernel of a launch whose addresses are multiples of 16."""
        get_stream = self.get_stream
        return self._load(launch, 0, 0 if get_stream is None else get_stream(self.device_index))

    def _load(self, launch, misaligned, stream):
        """The kernel for addresses whose last four bits are these."""
        alignment = misaligned & -misaligned if misaligned else 16
        spec = launch.spec._replace(alignment=alignment, rows=_size_class(self.device, launch))
        kernel = _kernels.load(self.device, stream, spec)
        if not misaligned:
            launch.queue = kernel.queue
        return kernel


_plans = {}
_kernels.on_configure(_plans.clear)


def find_plan(key):
    """The plan kept for a call, or None; None too if the key can't be hashed."""
    try:
        return _plans.get(key)
    except TypeError:
        return None


def keep_plan(key, plan):
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    _plans[key] = plan
    return plan


def check_contiguous(backend, **arrays):
    for name, array in arrays.items():
        require(backend.is_contiguous(array), f"{name} must be contiguous")


def check_devices(backend, **arrays):
    """Errors: ArgumentError unless all arrays are on one device, and aligned to their elements."""
    first = None
    for name, array in arrays.items():
        device = backend.device(array)
        require(first in (None, device), f"{name} is on {device}, others are on {first}")
        first = device
        backend.check_aligned(array, name)


_cores = {}


def preparable(core):
    """Makes a function of `core(sink, ...)`, which `prepare` can call with a sink of its own."""

    def decorate(function):
        _cores[function] = core
        return function

    return decorate


def prepare(function, *arguments, **options):
    """A call to be repeated: what `function(*arguments, **options)` does, with the same arrays each time.

    `function` is weight_dequant, fp8_gemm or act_quant of ktjit.fp8, dequant or matvec of ktjit.gguf, or the
    matvec of a ktjit.gguf.PreparedWeights.
    Returns a callable: each call of it queues the kernels on the stream that is current then, and returns the
    same result array, written again; `.result` is that array before. Nothing is checked any more, so arrays
    keep their memory, and only their contents may change.
    Errors: as of `function`; ArgumentError for another function, or a result that kernels alone don't give
    (float64, act_quant with scale_fmt).
    """
    core = _cores.get(getattr(function, "__func__", function))
    require(core is not None, f"{function!r} can't be prepared")
    sink = Sink()
    if hasattr(function, "__self__"):
        method = core.__get__(function.__self__)
        result = method(sink, *arguments, **options)
    else:
        result = core(sink, *arguments, **options)
    return sink.make(result, (function, arguments, options))


class Sink:
    """Collects the launches of one call."""

    def __init__(self):
        self._launches = []
        self.plan = None

    def add(self, *launch):
        self._launches.append(launch)

    def make(self, result, keep):
        plan = self.plan
        require(plan.wanted is None, f"a result of type {plan.wanted} can't be prepared")
        prepared = _ktjit.Prepared(result, keep, plan.get_stream, plan.device_index)
        for launch in self._launches:
            prepared.add(*launch)
        return prepared
