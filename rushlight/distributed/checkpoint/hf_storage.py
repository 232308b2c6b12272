"""Files of safetensors that many processes write together."""
from . import FileSystemReader, FileSystemWriter

__all__ = ["HuggingFaceStorageReader", "HuggingFaceStorageWriter"]


class HuggingFaceStorageReader(FileSystemReader):
    """Raises NotImplementedError when one is to be made."""


class HuggingFaceStorageWriter(FileSystemWriter):
    """Raises NotImplementedError when one is to be made."""
