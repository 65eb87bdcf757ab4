"""fairseq2n, the native half of fairseq2: loaded without a system package, stubbed where another torch is installed."""

import ctypes
import importlib
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch


def prepare() -> bool:
    """Make `import fairseq2` work; False when everything but its C++ data pipeline will.

    To be called before the first import of fairseq2; later calls cost nothing.
    """
    return problem() == ""


@cache
def problem() -> str:
    """Load fairseq2n, or put a stub in its place: the reason why it does not load, or nothing."""
    preload_sndfile()
    try:
        native = importlib.import_module("fairseq2n")
        built, here = native.torch_version().split("+")[0], torch.__version__.split("+")[0]
        if built != here:
            raise ImportError(f"it is built for torch {built}, not {here}")  # noqa: TRY301  reported as below
        importlib.import_module("fairseq2n.bindings")
    except (ImportError, OSError, RuntimeError) as error:
        sys.modules["fairseq2n"] = stub()
        return str(error).splitlines()[0]
    return ""


def stub() -> ModuleType:
    """Stand in for fairseq2n: not a package, so that whatever needs `fairseq2n.bindings` fails at its import."""
    module = ModuleType("fairseq2n")
    module.__dict__.update(__version__="stub", DOC_MODE=False)
    return module


def preload_sndfile() -> None:
    """Load the libsndfile of the soundfile wheel, which fairseq2n then finds by its name."""
    wheel = find_spec("_soundfile_data")
    if wheel is not None and wheel.origin is not None:
        for library in Path(wheel.origin).parent.glob("libsndfile*"):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
