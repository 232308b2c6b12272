"""Small datasets in the public formats, written for the tests."""

import gzip
import struct

import numpy as np


def idx(array):
    codes = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
    header = bytes([0, 0, codes[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


RNG = np.random.RandomState(0)
IMAGES = {
    "train": RNG.randint(0, 256, (30, 28, 28)).astype(np.uint8),
    "t10k": RNG.randint(0, 256, (7, 28, 28)).astype(np.uint8),
}
LABELS = {part: RNG.randint(0, 10, len(images)).astype(np.uint8) for part, images in IMAGES.items()}


def mnist_files():
    for part in ("train", "t10k"):
        yield f"{part}-images-idx3-ubyte", idx(IMAGES[part])
        yield f"{part}-labels-idx1-ubyte", idx(LABELS[part])


def write_mnist(folder, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in mnist_files():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder
