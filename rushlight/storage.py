"""``torch.storage``: the classes of what lies under tensors."""
from .tensor.storage import TypedStorage, UntypedStorage

__all__ = ["TypedStorage", "UntypedStorage"]
