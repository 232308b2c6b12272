"""``SummaryWriter``: numbers, histograms, images and texts of a training, for TensorBoard to show."""
from __future__ import annotations

import datetime
import io
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...autograd.handle import Handle
from .records import double, doubles, message, record, single, text, whole

__all__ = ["SummaryWriter"]

_count, _counting = 0, threading.Lock()


def _array(x: Any) -> np.ndarray:
    """A number, sequence, array or tensor as an array."""
    return x.detach().cpu().numpy() if isinstance(x, Handle) else np.asarray(x)  # type: ignore[attr-defined]


def _number(name: str, x: Any) -> float:
    array = _array(x)
    if array.size != 1:
        raise ValueError(f"[{name}] a scalar has one element, not shape {array.shape}")
    return float(array.reshape(())[()])


class SummaryWriter:
    """Writes what happens in a training into a folder that ``tensorboard --logdir`` shows. TensorBoard is not needed for writing.

    Args:
        log_dir: the folder; by default ``runs/`` with the time and the machine's name.
        comment: what is added to the default name.
        purge_step: TensorBoard forgets what an earlier run wrote from this step on.
        max_queue, flush_secs: written to the disk when so many values wait, or so many seconds have passed.
        filename_suffix: what the file's name ends with.

    Example:
        >>> with SummaryWriter("/tmp/runs/first") as writer:
        ...     for step in range(3):
        ...         writer.add_scalar("loss/train", 1 / (step + 1), step)
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None = None, comment: str = "", purge_step: int | None = None, max_queue: int = 10,
                 flush_secs: int = 120, filename_suffix: str = "") -> None:
        if not log_dir:
            now = datetime.datetime.now().strftime("%b%d_%H-%M-%S")
            log_dir = os.path.join("runs", f"{now}_{socket.gethostname()}{comment}")
        self.log_dir = os.fspath(log_dir)
        self.purge_step, self.max_queue, self.flush_secs, self.filename_suffix = purge_step, max_queue, flush_secs, filename_suffix
        self._others: dict[str, SummaryWriter] = {}
        self._lock = threading.RLock()
        self._open()
        if purge_step is not None:
            self._write(message(7, whole(1, 1)), purge_step, None)  # a session starts: what was written before counts no more

    def _open(self) -> None:
        global _count
        with _counting:
            number, _count = _count, _count + 1
        Path(self.log_dir).mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{number}{self.filename_suffix}"
        self._file: Any = open(os.path.join(self.log_dir, name), "wb")  # noqa: SIM115
        self._waiting, self._written = 0, time.monotonic()
        self._write(text(3, "brain.Event:2"), None, None)
        self.flush()

    def _write(self, what: bytes, step: Any, walltime: float | None) -> None:
        with self._lock:
            if self._file is None:
                self._open()
            at = b"" if step is None else whole(2, int(_number("global_step", step)))
            self._file.write(record(double(1, time.time() if walltime is None else walltime) + at + what))
            self._waiting += 1
            if self._waiting > self.max_queue or time.monotonic() - self._written > self.flush_secs:
                self.flush()

    def _add(self, tag: str, value: bytes, step: Any, walltime: float | None) -> None:
        self._write(message(5, message(1, text(1, tag) + value)), step, walltime)

    def get_logdir(self) -> str:
        """The folder that is written to."""
        return self.log_dir

    def add_scalar(self, tag: str, scalar_value: Any, global_step: Any = None, walltime: float | None = None, new_style: bool = False,
                   double_precision: bool = False) -> None:
        """One number. ``new_style`` and ``double_precision`` are accepted; it is kept as float32.

        Raises:
            ValueError: more than one element.
        """
        self._add(tag, single(2, _number(tag, scalar_value)), global_step, walltime)

    def add_scalars(self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: Any = None,
                    walltime: float | None = None) -> None:
        """Several numbers for one diagram: each in a run of its own, in a folder below ``log_dir``."""
        for tag, value in tag_scalar_dict.items():
            folder = os.path.join(self.log_dir, f"{main_tag.replace('/', '_')}_{tag}")
            if folder not in self._others:
                self._others[folder] = SummaryWriter(folder, max_queue=self.max_queue, flush_secs=self.flush_secs,
                                                     filename_suffix=self.filename_suffix)
            self._others[folder].add_scalar(main_tag, value, global_step, walltime)

    def add_histogram(self, tag: str, values: Any, global_step: Any = None, bins: Any = "tensorflow", walltime: float | None = None,
                      max_bins: int | None = None) -> None:
        """How ``values`` are distributed.

        Args:
            bins: "tensorflow" for limits that grow by a tenth from 1e-12 on, or whatever ``numpy.histogram`` takes.
            max_bins: neighbours are put together where there are more.

        Raises:
            ValueError: no values.
        """
        x = _array(values).astype(np.float64).ravel()
        if not x.size:
            raise ValueError("The input has no element.")
        counts, limits = np.histogram(x, _limits() if isinstance(bins, str) and bins == "tensorflow" else bins)
        if max_bins is not None and len(counts) > max_bins:
            together = -(-len(counts) // max_bins)
            counts = np.add.reduceat(counts, np.arange(0, len(counts), together))
            limits = np.append(limits[:-1:together], limits[-1])
        counts = np.concatenate([[0], counts])  # what lies below the first limit: nothing
        some = np.flatnonzero(counts)
        kept = slice(some[0] - 1, some[-1] + 1) if len(some) else slice(None)
        data = double(1, x.min()) + double(2, x.max()) + double(3, x.size) + double(4, x.sum()) + double(5, float(x @ x))
        data += doubles(6, limits[kept].tolist()) + doubles(7, counts[kept].tolist())
        self._add(tag, message(5, data), global_step, walltime)

    def add_image(self, tag: str, img_tensor: Any, global_step: Any = None, walltime: float | None = None,
                  dataformats: str = "CHW") -> None:
        """One image: uint8, or floating-point numbers from 0 to 1, with its dimensions in the order of ``dataformats`` ("HW" is grey)."""
        self._add(tag, message(4, _png(_placed(_array(img_tensor), dataformats))), global_step, walltime)

    def add_images(self, tag: str, img_tensor: Any, global_step: Any = None, walltime: float | None = None,
                   dataformats: str = "NCHW") -> None:
        """A batch of images, in one picture, up to eight beside each other."""
        x = _array(img_tensor)
        images = [_placed(one, dataformats.replace("N", "")) for one in np.moveaxis(x, dataformats.index("N"), 0)]
        columns = min(len(images), 8)
        images += [np.zeros_like(images[0])] * (-len(images) % columns)
        rows = [np.concatenate(images[k:k + columns], 1) for k in range(0, len(images), columns)]
        self._add(tag, message(4, _png(np.concatenate(rows, 0))), global_step, walltime)

    def add_figure(self, tag: str, figure: Any, global_step: Any = None, close: bool = True, walltime: float | None = None) -> None:
        """A figure of matplotlib (or several, as one picture); ``close``: it is closed then."""
        figures = figure if isinstance(figure, list) else [figure]
        pictures = []
        for one in figures:
            one.canvas.draw()
            pictures.append(np.asarray(one.canvas.buffer_rgba())[..., :3])
            if close:
                import matplotlib.pyplot as plt

                plt.close(one)
        self.add_images(tag, np.stack(pictures), global_step, walltime, "NHWC")

    def add_text(self, tag: str, text_string: str, global_step: Any = None, walltime: float | None = None) -> None:
        """A text in Markdown."""
        tensor = whole(1, 7) + message(2, message(2, whole(1, 1))) + text(8, text_string)  # a tensor of one text
        self._add(f"{tag}/text_summary", message(8, tensor) + message(9, message(1, text(1, "text"))), global_step, walltime)

    def flush(self) -> None:
        """Everything that was added is in its file when this returns."""
        with self._lock:
            if self._file is not None:
                self._file.flush()
            self._waiting, self._written = 0, time.monotonic()
        for other in self._others.values():
            other.flush()

    def close(self) -> None:
        """Close the files; what is added later goes to a new one."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None
        for other in self._others.values():
            other.close()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _limits() -> list[float]:
    """Limits of a histogram: 0, and ± those that grow by a tenth from 1e-12 to 1e20."""
    up, x = [], 1e-12
    while x < 1e20:
        up.append(x)
        x *= 1.1
    return [*(-x for x in reversed(up)), 0.0, *up]


def _placed(x: np.ndarray, order: str) -> np.ndarray:
    """An image as uint8 of height, width and 1, 3 or 4 channels."""
    order = order.upper()
    if sorted(order) not in (["C", "H", "W"], ["H", "W"]) or len(order) != x.ndim:
        raise ValueError(f"an image of shape {x.shape} has no dimensions {order!r}")
    if x.dtype != np.uint8:
        x = (x.astype(np.float32) * 255).clip(0, 255).astype(np.uint8)
    x = x.transpose([order.index(d) for d in "HWC" if d in order])
    return x[..., None] if x.ndim == 2 else x


def _png(x: np.ndarray) -> bytes:
    """The fields of an image: height, width, channels, the file."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("images are written by Pillow, which is not installed: pip install 'rushlight[vision]'") from error
    file = io.BytesIO()
    Image.fromarray(x[..., 0] if x.shape[2] == 1 else x).save(file, "PNG")
    return whole(1, x.shape[0]) + whole(2, x.shape[1]) + whole(3, x.shape[2]) + message(4, file.getvalue())
