"""Event files, read back by a decoder of their format: records with checksums around protocol-buffer messages."""
from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rushlight as torch
from rushlight.utils.tensorboard import SummaryWriter, records


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def checked(data, masked):
    crc = crc32c(data)
    assert struct.unpack("<I", masked)[0] == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % (1 << 32)
    return data


def fields(data):
    """Field number -> its values: numbers, or bytes."""
    found, at = {}, 0

    def varint():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at, n, shift = at + 1, n | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return n

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        elif kind == 2:
            size = varint()
            value, at = data[at:at + size], at + size
        else:
            size = 8 if kind == 1 else 4
            value, at = struct.unpack("<d" if kind == 1 else "<f", data[at:at + size])[0], at + size
        found.setdefault(key >> 3, []).append(value)
    return found


def events(folder):
    """(step, time, tag, fields of the value) of all events but the first one of each file, which names the version."""
    out = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        file, first = io.BytesIO(path.read_bytes()), True
        while length := file.read(8):
            size = struct.unpack("<Q", checked(length, file.read(4)))[0]
            event = fields(checked(file.read(size), file.read(4)))
            if first:
                assert event[3] == [b"brain.Event:2"]
                first = False
                continue
            if 5 not in event:
                out.append((event[2][0], event[1][0], None, event))
                continue
            value = fields(fields(event[5][0])[1][0])
            out.append((event.get(2, [0])[0], event[1][0], value[1][0].decode(), value))
    return out


def test_the_checksum_is_crc32c():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of its definition


@given(st.binary(max_size=300))
def test_a_record_is_what_was_put_in(data):
    made = records.record(data)
    assert struct.unpack("<Q", checked(made[:8], made[8:12]))[0] == len(data)
    assert checked(made[12:-4], made[-4:]) == data


@given(st.integers(-1 << 63, (1 << 63) - 1))
def test_whole_numbers(n):
    assert fields(records.whole(3, n)) == {3: [n % (1 << 64)]}


def test_scalars(tmp_path):
    with SummaryWriter(tmp_path, max_queue=1, filename_suffix=".x") as writer:
        for step, x in enumerate((0.5, torch.tensor(2.0, requires_grad=True), np.float64(3), torch.tensor([[4]]))):
            writer.add_scalar("loss/train", x, step, walltime=10.0 + step)
        writer.add_scalar("no step", 1)
        writer.add_scalars("both", {"a": 1.0, "b": 2.0}, 7)
        with pytest.raises(ValueError, match="one element"):
            writer.add_scalar("loss", torch.ones(2))
        assert writer.get_logdir() == str(tmp_path)
    found = events(tmp_path)
    assert [(step, at, tag, v[2]) for step, at, tag, v in found[:4]] == [
        (k, 10 + k, "loss/train", [x]) for k, x in enumerate((0.5, 2, 3, 4))]
    assert found[4][2] == "no step" and len(found) == 5
    for name, x in (("a", 1), ("b", 2)):
        assert [(step, tag, v[2]) for step, _, tag, v in events(tmp_path / f"both_{name}")] == [(7, "both", [x])]
    assert next(tmp_path.glob("events*")).name.endswith(".x")


@pytest.mark.parametrize("options", [{}, {"bins": "auto"}, {"bins": 7}, {"max_bins": 20}])
@pytest.mark.parametrize("values", [np.random.default_rng(0).normal(size=300), np.zeros(4), np.array([1, 2, 2])])
def test_a_histogram_counts_everything_once(values, options, tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_histogram("h", torch.tensor(values), 3, **options)
        with pytest.raises(ValueError, match="no element"):
            writer.add_histogram("none", torch.ones(0))
    (step, _, tag, value), = events(tmp_path)
    histogram = fields(value[5][0])
    low, high, count, total, squares = (histogram[k][0] for k in (1, 2, 3, 4, 5))
    assert (step, tag, low, high, count) == (3, "h", values.min(), values.max(), len(values))
    np.testing.assert_allclose([total, squares], [values.sum(), (values.astype(float) ** 2).sum()])
    limits, counts = (np.frombuffer(histogram[k][0], "<f8") for k in (6, 7))
    assert len(limits) == len(counts) and counts.sum() == len(values) and (np.diff(limits) > 0).all()
    for k, limit in enumerate(limits):
        assert (values < limit).sum() <= counts[:k + 1].sum() <= (values <= limit).sum()


def test_images_and_texts(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    x = np.random.default_rng(0).random((10, 3, 4, 5)).astype(np.float32)
    with SummaryWriter(tmp_path) as writer:
        writer.add_image("one", torch.tensor(x[0]), 1)
        writer.add_image("grey", x[0, 0], 1, dataformats="HW")
        writer.add_image("bytes", (x[0] * 255).astype(np.uint8).transpose(1, 2, 0), 1, dataformats="HWC")
        writer.add_images("all", torch.tensor(x), 1)
        writer.add_text("note", "a *b*", 1)
        with pytest.raises(ValueError, match="no dimensions"):
            writer.add_image("wrong", x[0], dataformats="HW")
    found = {tag: v for _, _, tag, v in events(tmp_path)}

    def picture(tag):
        image = fields(found[tag][4][0])
        pixels = np.asarray(Image.open(io.BytesIO(image[4][0])))
        assert (image[1][0], image[2][0]) == pixels.shape[:2]
        return pixels

    want = (x * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(picture("one"), want[0])
    np.testing.assert_array_equal(picture("bytes"), want[0])
    np.testing.assert_array_equal(picture("grey"), want[0, :, :, 0])
    assert picture("all").shape == (8, 40, 3)
    np.testing.assert_array_equal(picture("all")[4:, 5:10], want[9])
    assert not picture("all")[4:, 10:].any()
    assert fields(found["note/text_summary"][8][0])[8] == [b"a *b*"]


def test_what_comes_after_closing_goes_to_a_new_file(tmp_path):
    writer = SummaryWriter(tmp_path, purge_step=4)
    writer.close()
    writer.add_scalar("x", 1, 5)
    writer.flush()
    assert len(list(tmp_path.glob("events*"))) == 2
    assert [(step, tag) for step, _, tag, _ in events(tmp_path)] == [(4, None), (5, "x")]
    writer.close()


def test_the_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SummaryWriter(comment="_lr") as writer:
        assert writer.log_dir.startswith("runs/") and writer.log_dir.endswith("_lr")
    assert list((tmp_path / writer.log_dir).glob("events*"))
