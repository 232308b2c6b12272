"""How a tensor is spread along one dimension of a mesh of processes: cut, copied, or as terms of a sum."""
from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Partial", "Placement", "Replicate", "Shard"]


class Placement:
    """The base of the three kinds."""

    def is_shard(self, dim: int | None = None) -> bool:
        """Whether the tensor is cut (along ``dim``, if given)."""
        return isinstance(self, Shard) and dim in (None, self.dim)

    def is_replicate(self) -> bool:
        """Whether every process has the whole tensor."""
        return isinstance(self, Replicate)

    def is_partial(self, reduce_op: str | None = None) -> bool:
        """Whether the tensor is what a reduction (``reduce_op``, if given) makes of the processes' tensors."""
        return isinstance(self, Partial) and reduce_op in (None, self.reduce_op)


@dataclass(frozen=True)
class Shard(Placement):
    """Cut along ``dim``, a piece for each process, as ``chunk`` cuts."""

    dim: int

    @staticmethod
    def local_shard_size_and_offset(curr_local_size: int, num_chunks: int, rank: int) -> tuple[int, int]:
        """(length, start) of the piece ``rank`` of ``num_chunks``."""
        piece = -(-curr_local_size // num_chunks)
        start = min(curr_local_size, piece * rank)
        return min(curr_local_size, start + piece) - start, start

    def __str__(self) -> str:
        return f"S({self.dim})"


@dataclass(frozen=True)
class _StridedShard(Shard):
    """Cut along ``dim``, each of ``split_factor`` stretches for itself, as where another dimension of the mesh cuts the same one."""

    split_factor: int = field(kw_only=True)

    def __str__(self) -> str:
        return f"_S({self.dim}, {self.split_factor})"


@dataclass(frozen=True)
class Replicate(Placement):
    """The whole tensor in every process."""

    def __str__(self) -> str:
        return "R"


@dataclass(frozen=True, repr=False)
class Partial(Placement):
    """A term in every process; ``reduce_op`` makes the tensor of them."""

    reduce_op: str = "sum"

    def __repr__(self) -> str:
        return f"Partial({self.reduce_op})"

    def __str__(self) -> str:
        return f"P({self.reduce_op})"
