"""Puts ktjit's functions where inference code imports the Triton ones from, and back."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types

# Modules that define the Triton functions: KTransformers' and DeepSeek's.
MODULES = (
    "ktransformers.ktransformers_ext.triton.fp8gemm",
    "archive.ktransformers.ktransformers_ext.triton.fp8gemm",
    "kernel",
    "inference.kernel",
)
FUNCTIONS = ("act_quant", "weight_dequant", "fp8_gemm")

_finder = None
_originals = {}  # id of a stand-in -> (the stand-in, what it stands in for)
_provided = []  # names of modules that only hold our functions


def install(modules=MODULES):
    """Replaces act_quant, weight_dequant and fp8_gemm in these modules, and wherever they were
    imported from there by name.

    A module that is not imported yet is patched when it is; one that can't be imported, because
    it, or Triton, is not there, is provided with these functions alone. Modules of these names
    that hold none of the functions are left alone.

    Returns what was replaced now, as "module.function", and what will be, as "module (on import)".
    A second call does only what is left to do. uninstall() undoes all of it.
    """
    global _finder
    report = []
    for name in modules:
        module = sys.modules.get(name)
        if module is not None and name not in _provided:
            report += _patch(module)
    if _finder is None:
        _finder = _Finder()
        sys.meta_path.insert(0, _finder)
    for name in modules:
        if name not in sys.modules and name not in _finder.names:
            _finder.names.add(name)
            report.append(f"{name} (on import)")
    return report


def uninstall():
    """Undoes install(), also where the functions were imported by name since then.

    Returns what was restored or removed, as install() names it.
    """
    global _finder
    report = []
    for user, attribute, stand_in in _uses(lambda value: id(value) in _originals):
        setattr(user, attribute, _originals[id(stand_in)][1])
        report.append(f"{user.__name__}.{attribute}")
    _originals.clear()
    while _provided:
        name = _provided.pop()
        if sys.modules.pop(name, None) is not None:
            report.append(name)
    if _finder is not None:
        sys.meta_path.remove(_finder)
        _finder = None
    return report


def _stand_in(name):
    """A function like ours of that name, but an object of its own, so that it can be told from one
    that somebody took from ktjit.fp8."""
    from . import fp8

    ours = getattr(fp8, name)
    copy = types.FunctionType(
        ours.__code__, ours.__globals__, ours.__name__, ours.__defaults__, ours.__closure__
    )
    copy.__kwdefaults__ = ours.__kwdefaults__
    copy.__doc__ = ours.__doc__
    copy.__module__ = ours.__module__
    return copy


def _uses(is_wanted):
    """(module, attribute, value) of all modules' attributes whose value is wanted."""
    found = []
    for module in list(sys.modules.values()):
        attributes = getattr(module, "__dict__", None)
        if isinstance(attributes, dict):
            found += [(module, key, value) for key, value in attributes.items() if is_wanted(value)]
    return found


def _patch(module):
    """Replaces the functions that the module has, there and where others took them from."""
    report = []
    for name in FUNCTIONS:
        original = module.__dict__.get(name)
        if original is None or id(original) in _originals:
            continue
        stand_in = _stand_in(name)
        _originals[id(stand_in)] = (stand_in, original)
        for user, attribute, _ in _uses(lambda value: value is original):
            setattr(user, attribute, stand_in)
            report.append(f"{user.__name__}.{attribute}")
    return report


class _Finder(importlib.abc.MetaPathFinder):
    """Patches modules as they are imported."""

    def __init__(self):
        self.names = set()
        self._searching = set()

    def find_spec(self, name, path=None, target=None):
        if name not in self.names or name in self._searching:
            return None
        self._searching.add(name)
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            spec = None
        finally:
            self._searching.discard(name)
        if spec is None:
            return importlib.machinery.ModuleSpec(name, _Provider())
        if spec.loader is None:  # a folder without __init__.py: no functions in there
            return None
        spec.loader = _PatchingLoader(spec.loader)
        return spec


class _Provider(importlib.abc.Loader):
    """Makes a module that holds our functions and nothing else."""

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__dict__.update({name: _stand_in(name) for name in FUNCTIONS})
        _provided.append(module.__name__)


class _PatchingLoader(importlib.abc.Loader):
    """Runs the real module, then replaces its functions."""

    def __init__(self, real):
        self._real = real

    def __getattr__(self, name):  # get_data, get_source, ... of the real one
        return getattr(self._real, name)

    def create_module(self, spec):
        return self._real.create_module(spec)

    def exec_module(self, module):
        try:
            self._real.exec_module(module)
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "triton":
                raise
            _Provider().exec_module(module)  # no Triton here: our functions are what there is
            return
        _patch(module)
