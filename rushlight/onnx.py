"""``torch.onnx`` for programs that import it and export only if asked: nothing is exported here."""
from __future__ import annotations

from typing import Any

__all__ = ["export", "is_in_onnx_export"]


def is_in_onnx_export() -> bool:
    """Whether a model is being exported: never."""
    return False


def export(model: Any, *args: Any, **options: Any) -> Any:
    """Raises NotImplementedError: there is no export to ONNX. ``torch.save`` writes a state that PyTorch reads and can export."""
    raise NotImplementedError("Rushlight exports no ONNX files. torch.save(model.state_dict(), path) writes a file that PyTorch loads: "
                              "load it there into the same model, and export that.")
