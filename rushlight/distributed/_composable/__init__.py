"""``torch.distributed._composable``: the older place of ``fully_shard``."""
from . import fsdp

__all__ = ["fsdp"]
