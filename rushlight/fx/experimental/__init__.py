"""``torch.fx.experimental``."""
from . import symbolic_shapes

__all__ = ["symbolic_shapes"]
