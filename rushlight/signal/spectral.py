"""The short-time Fourier transform and its inverse."""
from __future__ import annotations

import operator
from typing import Any

from ..autograd.autocast import full_precision
from ..autograd.titles import titled
from ..fft import fft, ifft, irfft, rfft
from ..nn.functional import pad
from ..ops.views import put_view

__all__ = ["stft", "istft"]


def _window(window: Any, win_length: int, n_fft: int, x: Any) -> Any:
    """The window in the middle of ``n_fft`` places (ones where none is given)."""
    if window is None:
        window = x.detach().new_ones((win_length,), dtype=x.dtype.to_real())
    left = (n_fft - win_length) // 2
    return pad(window, (left, n_fft - win_length - left)) if win_length < n_fft else window


def _title(input: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Any = None, center: bool = True,
           pad_mode: str = "reflect", normalized: bool = False, onesided: bool | None = None, return_complex: bool | None = None,
           align_to_window: bool | None = None) -> str | None:
    return None if return_complex is False else "TransposeBackward1" if input.ndim > 1 else "SqueezeBackward4"


@full_precision
@titled(_title)
def stft(input: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Any = None, center: bool = True,
         pad_mode: str = "reflect", normalized: bool = False, onesided: bool | None = None, return_complex: bool | None = None,
         align_to_window: bool | None = None) -> Any:
    """Fourier transforms of overlapping windows of a signal: (..., frequencies, frames).

    Raises:
        RuntimeError: sizes that do not fit, or a real result asked for implicitly.
    """
    n_fft = operator.index(n_fft)
    hop = n_fft // 4 if hop_length is None else operator.index(hop_length)
    size = n_fft if win_length is None else operator.index(win_length)
    complex_input = input.dtype.kind == "c" or window is not None and window.dtype.kind == "c"
    if input.dtype.kind not in "fc":
        raise RuntimeError(f"stft({input.dtype}[{list(input.shape)}]): expected a tensor of floating point or complex values")
    if len(input.shape) not in (1, 2):
        raise RuntimeError(f"stft: expected a 1D or 2D tensor, got {list(input.shape)}")
    if return_complex is None and not complex_input:
        raise RuntimeError("stft requires the return_complex parameter be given for real inputs, and will further require that "
                           "return_complex=True in a future PyTorch release.")
    batched = len(input.shape) == 2
    x = input if batched else input.unsqueeze(0)
    if center:
        half = n_fft // 2
        x = pad(x.unsqueeze(1), (half, half), mode=pad_mode).squeeze(1)
    n = x.shape[-1]
    if not 0 < n_fft <= n:
        raise RuntimeError(f"stft: expected 0 < n_fft < {n}, but got n_fft={n_fft}")
    if hop <= 0:
        raise RuntimeError(f"stft: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < size <= n_fft:
        raise RuntimeError(f"stft: expected 0 < win_length <= n_fft, but got win_length={size}")
    if window is not None and tuple(window.shape) != (size,):
        raise RuntimeError(f"stft: expected a 1D window tensor of size equal to win_length={size}, but got window with size "
                           f"{list(window.shape)}")
    frames = x.unfold(-1, n_fft, hop)
    if window is not None or size < n_fft:
        frames = frames * _window(window, size, n_fft, x)
    one = not complex_input if onesided is None else onesided
    norm = "ortho" if normalized else None
    if complex_input:
        if one:
            raise RuntimeError("Cannot have onesided output if window or input is complex")
        made = fft(frames, norm=norm)
    else:
        made = rfft(frames, norm=norm) if one else fft(frames, norm=norm)
    made = made.transpose(-2, -1)
    made = made if batched else made.squeeze(0)
    return made if return_complex or return_complex is None else made.view_as_real()


def _overlap(frames: Any, hop: int) -> Any:
    """Frames (..., count, n) added up at places ``hop`` apart."""
    count, n = frames.shape[-2:]
    total = n + hop * (count - 1)
    lead = tuple(frames.shape[:-2])
    strides: list[int] = []
    step = total
    for m in reversed(lead):
        strides.insert(0, step)
        step *= m
    return put_view(frames, (*lead, total), tuple(frames.shape), (*strides, hop, 1), 0)


def istft(input: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Any = None, center: bool = True,
          normalized: bool = False, onesided: bool | None = None, length: int | None = None, return_complex: bool = False) -> Any:
    """The signal whose ``stft`` is nearest to ``input`` (least squares).

    Raises:
        RuntimeError: sizes that do not fit, or windows that leave a place uncovered.
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    size = n_fft if win_length is None else win_length
    if input.dtype.kind != "c":
        raise RuntimeError("istft requires a complex-valued input tensor matching the output from stft with return_complex=True.")
    if input.numel() == 0:
        raise RuntimeError("istft: input tensor cannot be empty.")
    if len(input.shape) not in (2, 3):
        raise RuntimeError(f"istft: expected a tensor with 2 or 3 dimensions, but got {len(input.shape)}")
    one = n_fft != input.shape[-2] if onesided is None else onesided
    if input.shape[-2] != (n_fft // 2 + 1 if one else n_fft):
        raise RuntimeError(f"istft: expected the frequency dimension (3rd to the last) of the input tensor to match n_fft "
                           f"{'/ 2 + 1 ' if one else ''}but got {input.shape[-2]}")
    if not 0 < hop <= size:
        raise RuntimeError("istft: expected 0 < hop_length <= win_length")
    if not 0 < size <= n_fft:
        raise RuntimeError("istft: expected 0 < win_length <= n_fft")
    if window is not None and tuple(window.shape) != (size,):
        raise RuntimeError("istft: Invalid window shape. window has to be 1D and length of `win_length`")
    batched = len(input.shape) == 3
    x = (input if batched else input.unsqueeze(0)).transpose(1, 2)  # (batch, frames, frequencies)
    norm = "ortho" if normalized else None
    if return_complex:
        if one:
            raise RuntimeError("istft: cannot have onesided output if window or input is complex")
        frames = ifft(x, n_fft, -1, norm)
    else:
        frames = irfft(x if one else x.narrow(-1, 0, n_fft // 2 + 1), n_fft, -1, norm)
    w = _window(window, size, n_fft, frames)
    made = _overlap(frames * w, hop)
    weight = _overlap((w * w).expand((1, frames.shape[1], n_fft)).contiguous(), hop)
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else made.shape[-1] - (n_fft // 2 if center else 0)
    stop = min(end, made.shape[-1])
    made, weight = made.narrow(-1, start, stop - start), weight.narrow(-1, start, stop - start)
    if not float(weight.detach().abs().min()) > 1e-11:
        raise RuntimeError("istft: the windows leave places of the signal uncovered (window overlap add min: 1)")
    made = made / weight
    if end > stop:
        made = pad(made, (0, end - stop))
    return made if batched else made.squeeze(0)
