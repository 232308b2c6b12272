"""The recorder: Meta, Value, Buffer, Trace, the trie, flush, random state."""
from .flush import batch_boundary, counters, flush
from .meta import CPU, Device, Meta, meta_of
from .op import Op
from .settings import settings
from .trace import local
from .value import Buffer, Value, value_from_array

__all__ = ["CPU", "Buffer", "Device", "Meta", "Op", "Value", "batch_boundary", "counters", "flush", "local", "meta_of",
           "settings", "value_from_array"]
