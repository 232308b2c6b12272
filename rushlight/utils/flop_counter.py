"""``torch.utils.flop_counter``: the region that counts multiplications and additions by module, for libraries that import its name."""
from __future__ import annotations

from typing import Any

__all__ = ["FlopCounterMode"]


class FlopCounterMode:
    """What would count operations by module. Operations are not told to modules here; ``torch.profiler`` counts them by kernel.

    Args:
        depth: modules below this depth would be counted with those above them; display: whether a table would be printed at the end.

    Raises:
        NotImplementedError: where the region begins.

    Example:
        >>> from rushlight.utils.flop_counter import FlopCounterMode
        >>> FlopCounterMode(display=False).get_total_flops()
        0
    """

    def __init__(self, mods: Any = None, depth: int = 2, display: bool = True, custom_mapping: dict[Any, Any] | None = None) -> None:
        self.depth, self.display = depth, display

    def get_total_flops(self) -> int:
        """What has been counted: 0 before the region."""
        return 0

    def get_flop_counts(self) -> dict[str, dict[Any, int]]:
        """What has been counted, by module and operation: nothing before the region."""
        return {}

    def __enter__(self) -> Any:
        raise NotImplementedError("FlopCounterMode: operations are not counted by module. torch.profiler.profile(with_flops=True) counts "
                                  "those of each kernel")

    def __exit__(self, *error: Any) -> None:
        """The region never began."""
