"""Spectral norm by a hook before the forward: the form before ``parametrizations.spectral_norm``, which GANs and checkpoints still use."""
from __future__ import annotations

from typing import Any, TypeVar

from ...autograd import no_grad
from .. import functional as F
from ..modules.conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ..modules.module import Module
from ..parameter import Parameter

__all__ = ["SpectralNorm", "remove_spectral_norm", "spectral_norm"]

M = TypeVar("M", bound=Module)


class SpectralNorm:
    """The hook: weight = W / σ(W) anew before each forward. W is the parameter ``name_orig``; the buffers ``name_u`` and ``name_v``
    come closer to its first singular vectors with each forward of training."""

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def reshape_weight_to_matrix(self, weight: Any) -> Any:
        """(dimension ``dim``, all others)."""
        return weight.movedim(self.dim, 0).flatten(1) if weight.ndim > 1 else weight.reshape(len(weight), -1)

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Any:
        """The weight divided by its largest singular value, after ``n_power_iterations`` steps if asked for."""
        weight = getattr(module, self.name + "_orig")
        u, v = getattr(module, self.name + "_u"), getattr(module, self.name + "_v")
        matrix = self.reshape_weight_to_matrix(weight)
        if do_power_iteration:
            with no_grad():
                new_u, new_v = u, v
                for _ in range(self.n_power_iterations):
                    new_v = F.normalize(matrix.t().mv(new_u), dim=0, eps=self.eps)
                    new_u = F.normalize(matrix.mv(new_v), dim=0, eps=self.eps)
                v.copy_(new_v)  # in place: replicas and checkpoints keep the buffers
                u.copy_(new_u)
        # Copies: the next forward changes the buffers, perhaps before this one's backward.
        return weight / u.clone().dot(matrix.mv(v.clone()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, do_power_iteration=module.training))

    def remove(self, module: Module) -> None:
        """Make the weight a parameter again."""
        with no_grad():
            weight = self.compute_weight(module, do_power_iteration=False)
        delattr(module, self.name)
        for kept in (self.name + "_u", self.name + "_v", self.name + "_orig"):
            delattr(module, kept)
        module.register_parameter(self.name, Parameter(weight.detach()))

    def note_version(self, module: Module, state_dict: Any, prefix: str, local_metadata: dict) -> None:
        """Tell those who load the state how it is stored."""
        versions = local_metadata.setdefault("spectral_norm", {})
        key = self.name + ".version"
        if key in versions:
            raise RuntimeError(f"Unexpected key in metadata['spectral_norm']: {key}")
        versions[key] = 1


def _hooks_of(module: Module, name: str) -> list[int]:
    return [key for key, hook in module._forward_pre_hooks.items() if isinstance(hook, SpectralNorm) and hook.name == name]


def spectral_norm(module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None) -> M:
    """Divide a weight by its largest singular value, which a power iteration follows.

    Args:
        n_power_iterations: steps of the iteration in each forward of training.
        dim: the rows of the matrix that the weight is seen as; by default that of the output channels.

    Raises:
        RuntimeError: the weight has such a hook already.
        ValueError: no steps.
        KeyError: no such parameter.

    >>> layer = spectral_norm(nn.Linear(20, 40))
    >>> sorted(layer.state_dict())
    ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
    if _hooks_of(module, name):
        raise RuntimeError(f"Cannot register two spectral_norm hooks on the same parameter {name}")
    if dim is None:
        dim = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0
    hook = SpectralNorm(name, n_power_iterations, dim, eps)
    weight: Any = module._parameters[name]
    with no_grad():
        rows, columns = hook.reshape_weight_to_matrix(weight).shape
        u, v = (F.normalize(weight.new_empty(n).normal_(0, 1), dim=0, eps=eps) for n in (rows, columns))
    delattr(module, name)
    module.register_parameter(name + "_orig", weight)
    setattr(module, name, weight.data)
    module.register_buffer(name + "_u", u)
    module.register_buffer(name + "_v", v)
    module.register_forward_pre_hook(hook)
    module._register_state_dict_hook(hook.note_version)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """Undo ``spectral_norm``: the weight keeps the value that it has.

    Raises:
        ValueError: the weight has no such hook.
    """
    found = _hooks_of(module, name)
    if not found:
        raise ValueError(f"spectral_norm of '{name}' not found in {module}")
    hook: Any = module._forward_pre_hooks.pop(found[0])
    hook.remove(module)
    for key, noted in list(module._state_dict_hooks.items()):
        if getattr(noted, "__self__", None) is hook:
            del module._state_dict_hooks[key]
    return module
