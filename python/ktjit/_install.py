"""Puts ktjit's functions where inference code imports the Triton ones from, and back."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys

# Modules that define the Triton functions: KTransformers' and DeepSeek's.
MODULES = (
    "ktransformers.ktransformers_ext.triton.fp8gemm",
    "archive.ktransformers.ktransformers_ext.triton.fp8gemm",
    "kernel",
    "inference.kernel",
)
FUNCTIONS = ("act_quant", "weight_dequant", "fp8_gemm")

_finder = None
_patched = []  # (module, attribute, what was there)
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
        if module is not None:
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
    """Undoes install(). Returns what was restored or removed, as install() names it."""
    global _finder
    report = []
    while _patched:
        module, name, original = _patched.pop()
        if getattr(module, name, None) in _ours().values():
            setattr(module, name, original)
            report.append(f"{module.__name__}.{name}")
    while _provided:
        name = _provided.pop()
        if sys.modules.pop(name, None) is not None:
            report.append(name)
    if _finder is not None:
        sys.meta_path.remove(_finder)
        _finder = None
    return report


def _ours():
    from . import fp8

    return {name: getattr(fp8, name) for name in FUNCTIONS}


def _patch(module):
    """Replaces the functions that the module has, there and where others took them from."""
    report = []
    for name, function in _ours().items():
        original = module.__dict__.get(name)
        if original is None or original is function:
            continue
        for user in list(sys.modules.values()):
            attributes = getattr(user, "__dict__", None)
            if not isinstance(attributes, dict):
                continue
            for attribute in [key for key, value in attributes.items() if value is original]:
                setattr(user, attribute, function)
                _patched.append((user, attribute, original))
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
        module.__dict__.update(_ours())
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
