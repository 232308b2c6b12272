"""Which blocks of queries see which blocks of keys: ``BlockMask``, and how masks are made of functions of positions."""
from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ...autograd.handle import Handle
from ...autograd.modes import no_grad
from ...compile import dtypes as dt
from ...func import vmap
from ...tensor import FUNCTIONS

__all__ = ["DEFAULT_BLOCK", "BlockMask", "create_block_mask", "create_mask", "for_all", "noop_mask"]

DEFAULT_BLOCK = 128

MaskMod = Callable[[Any, Any, Any, Any], Any]


def noop_mask(batch: Any, head: Any, token_q: Any, token_kv: Any) -> Any:
    """Every query sees every key."""
    return batch.new_ones((), dtype=dt.bool_)


def for_all(mod: Callable[..., Any], leading: bool) -> Callable[..., Any]:
    """A function of one position, (score,) batch, head, query, key, as one of all positions: of vectors of these four numbers (and with
    ``leading`` of scores of shape (B, H, Q, KV)) it gives a tensor of shape (B, H, Q, KV)."""
    for dims in ((None, None, None, 0), (None, None, 0, None), (None, 0, None, None), (0, None, None, None)):
        mod = vmap(mod, in_dims=(0, *dims) if leading else dims)
    return mod


def positions(b: int, h: int, q_len: int, kv_len: int) -> list[Any]:
    """The numbers of batches, heads, queries and keys."""
    return [FUNCTIONS["arange"](n, device="cpu") for n in (b, h, q_len, kv_len)]


def create_mask(mod_fn: Callable[..., Any], B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: Any = None) -> Any:
    """What a ``mask_mod(b, h, q_idx, kv_idx)`` says of all positions, or where a ``score_mod(score, b, h, q_idx, kv_idx)`` leaves a score
    above minus infinity: bool, (B, H, Q_LEN, KV_LEN). None for B or H: 1.

    Example:
        >>> from rushlight.nn.attention.flex_attention import create_mask
        >>> create_mask(lambda b, h, q_idx, kv_idx: q_idx >= kv_idx, 1, 1, 2, 3)[0, 0]
        tensor([[ True, False, False],
                [ True,  True, False]])
    """
    b, h = B or 1, H or 1
    with no_grad():
        if _parameters_of(mod_fn) == 5:
            scores = FUNCTIONS["zeros"](b, h, Q_LEN, KV_LEN)
            return for_all(mod_fn, True)(scores, *positions(b, h, Q_LEN, KV_LEN)) > -float("inf")
        found = for_all(mod_fn, False)(*positions(b, h, Q_LEN, KV_LEN))
        return found if found.dtype is dt.bool_ else found != 0


def _parameters_of(mod: Callable[..., Any]) -> int:
    """How many positional arguments a function takes."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in inspect.signature(mod).parameters.values())


def create_block_mask(mask_mod: MaskMod, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: Any = None,
                      BLOCK_SIZE: int | tuple[int, int] = DEFAULT_BLOCK, _compile: bool = False, separate_full_blocks: bool = True,
                      compute_dq_write_order: bool = False, dq_kv_order: bool = True) -> BlockMask:
    """The ``BlockMask`` of a function that tells whether a query sees a key.

    Args:
        mask_mod: ``(b, h, q_idx, kv_idx) -> bool``, of integer tensors without dimensions. It is called once for all positions.
        B, H: number of batches and heads, None where the mask is the same for all.
        Q_LEN, KV_LEN: number of queries and keys.
        BLOCK_SIZE: length of blocks, or (of queries, of keys).
        separate_full_blocks: whether blocks of which everything is seen are listed apart.
        device, _compile, compute_dq_write_order, dq_kv_order: accepted for compatibility.

    Example:
        >>> from rushlight.nn.attention.flex_attention import create_block_mask
        >>> create_block_mask(lambda b, h, q_idx, kv_idx: q_idx >= kv_idx, None, None, 256, 256).kv_num_blocks
        tensor([[[1, 1]]], dtype=torch.int32)
    """
    size = BLOCK_SIZE if isinstance(BLOCK_SIZE, tuple) else (BLOCK_SIZE, BLOCK_SIZE)
    mask = create_mask(mask_mod, B, H, Q_LEN, KV_LEN)
    with no_grad():
        seen = _counted(mask, size)
        full = seen == size[0] * size[1] if separate_full_blocks else FUNCTIONS["zeros_like"](seen, dtype=dt.bool_)
        partial = (seen > 0) & ~full
        full_counts, full_indices = _listed(full) if separate_full_blocks else (None, None)
    made = BlockMask.from_kv_blocks(*_listed(partial), full_counts, full_indices, size, mask_mod, (Q_LEN, KV_LEN))
    made._known = mask_mod, mask
    return made


def _counted(mask: Any, size: tuple[int, int]) -> Any:
    """How many pairs of each block are seen, int64."""
    b, h, q, k = mask.shape
    rows, columns = -(-q // size[0]), -(-k // size[1])
    whole = mask.new_zeros((b, h, rows * size[0], columns * size[1]))
    whole[:, :, :q, :k] = mask
    return whole.view(b, h, rows, size[0], columns, size[1]).sum((3, 5))


def _listed(dense: Any) -> tuple[Any, Any]:
    """(number of blocks in each row, their numbers, those of blocks that are not there behind them), both int32."""
    return dense.sum(-1).to(dt.int32), dense.to(dt.int32).argsort(-1, descending=True, stable=True).to(dt.int32)


def _dense(counts: Any, indices: Any) -> Any:
    """Which blocks are listed: bool, (..., rows, columns)."""
    columns = indices.shape[-1]
    there = FUNCTIONS["arange"](columns, device="cpu") < counts.unsqueeze(-1)
    return FUNCTIONS["zeros_like"](there).scatter(-1, indices.to(dt.int64), there)


class BlockMask:
    """Which blocks of queries see which blocks of keys, wholly or as a ``mask_mod`` says. Made by ``create_block_mask`` or
    ``from_kv_blocks``.

    Attributes:
        kv_num_blocks: int32, (B, H, rows of blocks): how many blocks of keys a block of queries sees in part; ``kv_indices``: int32,
            (B, H, rows, columns), their numbers first. ``full_kv_num_blocks``, ``full_kv_indices``: likewise those that it sees wholly, or
            None. ``q_num_blocks``, ``q_indices``, ``full_q_num_blocks``, ``full_q_indices``: the same from the keys' side, or None.
        BLOCK_SIZE: (queries, keys) of a block. seq_lengths: (queries, keys) in all.
        mask_mod: what is seen in blocks that are seen in part.
    """

    _LISTS = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices", "q_num_blocks", "q_indices", "full_q_num_blocks",
              "full_q_indices")

    def __init__(self, seq_lengths: tuple[int, int], kv_num_blocks: Any, kv_indices: Any, full_kv_num_blocks: Any, full_kv_indices: Any,
                 q_num_blocks: Any, q_indices: Any, full_q_num_blocks: Any, full_q_indices: Any,
                 BLOCK_SIZE: tuple[int, int] = (DEFAULT_BLOCK, DEFAULT_BLOCK), mask_mod: MaskMod = noop_mask, *, dq_write_order: Any = None,
                 dq_write_order_full: Any = None, dq_kv_order: Any = None, dq_kv_order_spt: bool | None = None) -> None:
        if kv_indices.dim() < 2:
            raise RuntimeError("BlockMask must have at least 2 dimensions")
        if (full_kv_num_blocks is None) is not (full_kv_indices is None) or (full_q_num_blocks is None) is not (full_q_indices is None):
            raise AssertionError("full blocks are given by their numbers and their indices, or not at all")
        self.seq_lengths = seq_lengths
        self.kv_num_blocks, self.kv_indices = kv_num_blocks, kv_indices
        self.full_kv_num_blocks, self.full_kv_indices = full_kv_num_blocks, full_kv_indices
        self.q_num_blocks, self.q_indices = q_num_blocks, q_indices
        self.full_q_num_blocks, self.full_q_indices = full_q_num_blocks, full_q_indices
        self.dq_write_order, self.dq_write_order_full = dq_write_order, dq_write_order_full
        self.dq_kv_order, self.dq_kv_order_spt = dq_kv_order, dq_kv_order_spt
        self.BLOCK_SIZE, self.mask_mod = BLOCK_SIZE, mask_mod
        self._known: tuple[MaskMod, Any] | None = None  # a mask_mod and what it says of all positions

    @classmethod
    def from_kv_blocks(cls, kv_num_blocks: Any, kv_indices: Any, full_kv_num_blocks: Any = None, full_kv_indices: Any = None,
                       BLOCK_SIZE: int | tuple[int, int] = DEFAULT_BLOCK, mask_mod: MaskMod | None = None,
                       seq_lengths: tuple[int, int] | None = None, compute_q_blocks: bool = True, **orders: Any) -> BlockMask:
        """A mask from what each block of queries sees.

        Raises:
            RuntimeError: ``kv_indices`` of fewer than two dimensions. AssertionError: full blocks without their indices.
        """
        if kv_indices.dim() < 2:
            raise RuntimeError("BlockMask must have at least 2 dimensions")
        if (full_kv_num_blocks is None) is not (full_kv_indices is None):
            raise AssertionError("full_kv_num_blocks and full_kv_indices must be both provided or omitted")
        size = BLOCK_SIZE if isinstance(BLOCK_SIZE, tuple) else (BLOCK_SIZE, BLOCK_SIZE)
        mirrored: list[Any] = [None] * 4
        if compute_q_blocks:
            mirrored[:2] = _listed(_dense(kv_num_blocks, kv_indices).transpose(-2, -1))
            if full_kv_indices is not None:
                mirrored[2:] = _listed(_dense(full_kv_num_blocks, full_kv_indices).transpose(-2, -1))
        lengths = seq_lengths or (kv_indices.shape[-2] * size[0], kv_indices.shape[-1] * size[1])
        return cls(lengths, kv_num_blocks, kv_indices, full_kv_num_blocks, full_kv_indices, mirrored[0], mirrored[1], mirrored[2],
                   mirrored[3], size, mask_mod or noop_mask, **orders)

    def _tensors(self) -> list[Any]:
        return [getattr(self, name) for name in self._LISTS]

    def as_tuple(self, flatten: bool = True) -> tuple[Any, ...]:
        """Everything that makes the mask, lengths and block sizes one by one unless not ``flatten``."""
        lengths, size = (self.seq_lengths, self.BLOCK_SIZE) if flatten else ((self.seq_lengths,), (self.BLOCK_SIZE,))
        return (*lengths, *self._tensors(), self.dq_write_order, self.dq_write_order_full, self.dq_kv_order, self.dq_kv_order_spt, *size,
                self.mask_mod)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.kv_indices.shape[:-2], *self.seq_lengths)

    def numel(self) -> int:
        """How many pairs of queries and keys there are."""
        n = 1
        for extent in self.shape:
            n *= extent
        return n

    def sparsity(self) -> float:
        """The share of pairs, in percent, that lie in blocks of which nothing is seen (less than 0 where blocks reach beyond the end)."""
        seen = int(self.kv_num_blocks.sum()) + (0 if self.full_kv_num_blocks is None else int(self.full_kv_num_blocks.sum()))
        return 100 * (1 - seen * self.BLOCK_SIZE[0] * self.BLOCK_SIZE[1] / self.numel())

    def to_dense(self) -> Any:
        """Which blocks are seen: int32, (B, H, rows of blocks, columns of blocks)."""
        seen = _dense(self.kv_num_blocks, self.kv_indices)
        if self.full_kv_indices is not None:
            seen = seen | _dense(self.full_kv_num_blocks, self.full_kv_indices)
        return seen.to(dt.int32)

    def to(self, device: Any) -> BlockMask:
        """The mask on a device."""
        made = copy.copy(self)
        for name in self._LISTS:
            t = getattr(self, name)
            setattr(made, name, t.to(device) if isinstance(t, Handle) else t)
        return made

    def __getitem__(self, index: Any) -> BlockMask:
        """The mask of some batches, heads and rows of blocks. Its ``mask_mod`` has to be set: positions count from elsewhere."""
        index = index if isinstance(index, tuple) else (index,)
        n = self.kv_num_blocks.dim()
        index = tuple(slice(k, None if k == -1 else k + 1) if isinstance(k, int) else k for k in index) + (slice(None),) * (n - len(index))
        tensors = [None if t is None else t[index] for t in self._tensors()[:4]]
        return BlockMask.from_kv_blocks(tensors[0], tensors[1], tensors[2], tensors[3], self.BLOCK_SIZE, _sliced, self.seq_lengths,
                                        self.q_indices is not None)

    def mask(self, b: int, h: int, q_len: int, kv_len: int) -> Any:
        """What queries see of keys: bool, of a shape that broadcasts to (b, h, q_len, kv_len)."""
        known = self._known
        if known is not None and known[0] is self.mask_mod and tuple(known[1].shape[-2:]) == (q_len, kv_len):
            return known[1]
        with no_grad():
            seen = self._spread(self.kv_num_blocks, self.kv_indices, q_len, kv_len) & create_mask(self.mask_mod, b, h, q_len, kv_len)
            if self.full_kv_indices is not None:
                seen = seen | self._spread(self.full_kv_num_blocks, self.full_kv_indices, q_len, kv_len)
        if tuple(self.shape[:-2]) == (b, h):
            self._known = self.mask_mod, seen
        return seen

    def _spread(self, counts: Any, indices: Any, q_len: int, kv_len: int) -> Any:
        blocks = _dense(counts, indices)
        return blocks.repeat_interleave(self.BLOCK_SIZE[0], -2).repeat_interleave(self.BLOCK_SIZE[1], -1)[..., :q_len, :kv_len]

    # -- printed ---------------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        def told(value: Any) -> str:
            return str(value.shape) if isinstance(value, Handle) else str(value)
        lines = [f"    {name}={told(t)}" for name, t in zip(self._LISTS, self._tensors())]
        lines += [f"    BLOCK_SIZE={self.BLOCK_SIZE}", f"    shape={self.shape}", f"    sparsity={self.sparsity():.2f}%",
                  f"    mask_mod={getattr(self.mask_mod, '__name__', self.mask_mod)}"]
        return "BlockMask(\n" + ",\n".join(lines) + "\n)"

    def __str__(self) -> str:
        return f"BlockMask(shape={self.shape}, sparsity={self.sparsity():.2f}%, \n{self.to_string().strip()}\n)"

    def to_string(self, grid_size: int | tuple[int, int] = (20, 20), limit: int = 4) -> str:
        """A picture of the mask of the first ``limit`` batches and heads: two characters a block, full ones for blocks that are seen
        in part or wholly. Of more blocks than ``grid_size`` (-1: all of them), one place stands for several, and is lighter the fewer of
        them are seen."""
        seen = self.to_dense()
        seen = seen.reshape((-1, *seen.shape[-2:])) if seen.dim() > 2 else seen.unsqueeze(0)
        heads = [()] if self.kv_indices.dim() == 2 else [_unravelled(k, self.kv_indices.shape[:-2]) for k in range(seen.shape[0])]
        grid = (grid_size, grid_size) if isinstance(grid_size, int) else grid_size
        parts = []
        for at, one in zip(heads[:limit], seen[:limit]):
            parts.append(f"{at}\n{_picture(one.tolist(), grid)}\n")
        text = "\n".join(parts)
        if len(heads) > limit:
            text += ("\n...\nTo print out more, set BlockMask.to_string(limit=N)\nYou can also index (BlockMask[batch, head]) to choose a "
                     "specific batch or head")
        return text


def _unravelled(k: int, shape: Sequence[int]) -> tuple[int, ...]:
    at: list[int] = []
    for n in reversed(shape):
        at.append(k % n)
        k //= n
    return tuple(reversed(at))


def _picture(rows: list[list[int]], grid: tuple[int, int]) -> str:
    steps = [1 if most == -1 else max(1, -(-n // most)) for n, most in zip((len(rows), len(rows[0])), grid)]
    lines = []
    for r in range(0, len(rows), steps[0]):
        line = ""
        for c in range(0, len(rows[0]), steps[1]):
            cells = [x for row in rows[r:r + steps[0]] for x in row[c:c + steps[1]]]
            line += " ░▒▓█"[-(-4 * sum(cells) // len(cells))] * 2
        lines.append(line)
    return "\n".join(lines)


def _sliced(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    raise RuntimeError("Cannot use mask_mod from a sliced BlockMask: its positions count from elsewhere. Set the attribute mask_mod, made "
                       "of the mask_mod of the whole mask, as in sliced.mask_mod = moved(whole.mask_mod, offset).")

