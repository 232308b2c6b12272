"""``import torch`` served by Rushlight: programs, and libraries that are written for PyTorch, run without a changed line.

``python -m rushlight.compat train.py --epochs 3`` runs a program so, ``python -m rushlight.compat -m package`` a module.
Inside a program, :func:`install` does it, before anything else imports torch::

    import rushlight.compat
    rushlight.compat.install()
    import torch, torchvision        # Rushlight
    from einops.layers.torch import Rearrange  # made of Rushlight's modules
"""
from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import runpy
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["install", "uninstall"]

#: What stands for which package.
_ROOTS = {"torch": "rushlight", "torchvision": "rushlight.vision"}
_TENSORS = "rushlight.tensor.tensor"  # where the class is written


class _Installed(importlib.metadata.Distribution):
    """What ``importlib.metadata`` says of a package that is served: its name and the version whose interface it follows. Libraries ask
    for the version in this way, without an import."""

    def __init__(self, root: str) -> None:
        self.root = root

    def read_text(self, filename: str) -> str | None:
        """The name and the version, the folder that is imported; there are no other files."""
        if filename == "METADATA":
            return f"Metadata-Version: 2.1\nName: {self.root}\nVersion: {importlib.import_module(_ROOTS[self.root]).__version__}\n"
        return f"{self.root}\n" if filename == "top_level.txt" else None

    def locate_file(self, path: Any) -> Path:
        """Where a file of the package would be."""
        return Path(__file__).parent / path


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the modules of Rushlight second names: ``torch.nn`` is the very module ``rushlight.nn``."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        root, dot, rest = fullname.partition(".")
        if root not in _ROOTS:
            return None
        name = _ROOTS[root] + dot + rest
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=name)

    @staticmethod
    def find_distributions(context: Any = None) -> Iterable[importlib.metadata.Distribution]:
        """The packages that are served, or the one named."""
        asked = getattr(context, "name", None)
        return [_Installed(root) for root in _ROOTS if asked is None or asked.lower() == root]

    def create_module(self, spec: Any) -> ModuleType:
        module = sys.modules[spec.origin]
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has run. The import system has given it the second name's spec: it gets its own back. A package that a program
        knows by the second name alone says that name: libraries compare ``torch.__name__`` with names of functions, and take the first part
        of ``type(x).__module__`` for the library that a tensor is of."""
        spec = module.__spec__
        if spec is not None and spec.loader is self:
            module.__spec__ = spec.loader_state
            if spec.name in _ROOTS:
                module.__name__ = spec.name
            if spec.name == "torch":
                module.Tensor.__module__ = "torch"
            if not hasattr(module, "__path__"):  # the import system asks nobody for what is in a module that is no package
                own = module.__name__
                inner = [name for name in sys.modules if name.startswith(f"{own}.")]
                sys.modules.update((spec.name + name.removeprefix(own), sys.modules[name]) for name in inner)


_finder = _Finder()


def install() -> None:
    """From here on, ``import torch`` and ``import torchvision`` give Rushlight.

    Raises:
        RuntimeError: one of them has been imported already.
    """
    if _finder in sys.meta_path:
        return
    for root in _ROOTS:
        if root in sys.modules:
            raise RuntimeError(f"{root} has been imported: call rushlight.compat.install() before that")
    sys.meta_path.insert(0, _finder)


def uninstall() -> None:
    """From here on, ``import torch`` gives whatever is installed under that name. What was imported stays what it is."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
        for name in [name for name in sys.modules if name.partition(".")[0] in _ROOTS]:
            module = sys.modules.pop(name)
            if name in _ROOTS:
                module.__name__ = _ROOTS[name]
            if name == "torch":
                module.Tensor.__module__ = _TENSORS


def main(arguments: Sequence[str]) -> None:
    """Run ``program.py arguments...`` or ``-m module arguments...`` with ``import torch`` served by Rushlight."""
    if not arguments or arguments[0] in ("-h", "--help") or arguments == ["-m"]:
        print("usage: python -m rushlight.compat program.py [arguments]\n       python -m rushlight.compat -m module [arguments]")
        return
    install()
    if arguments[0] == "-m":
        sys.argv[:] = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    from rushlight.compat import main  # the module's own finder, not that of a copy named __main__

    main(sys.argv[1:])
