"""``torch.autograd.grad_mode``: the grad modes by their older place."""
from .modes import enable_grad, inference_mode, no_grad, set_grad_enabled

__all__ = ["enable_grad", "inference_mode", "no_grad", "set_grad_enabled"]
