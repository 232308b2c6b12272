"""``torch.distributed.algorithms``: what is built upon collectives; for one process there is little to do."""
from . import join

__all__ = ["join"]
