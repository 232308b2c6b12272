"""`save` and `load` against PyTorch's own, in both directions, and with damaged files."""

import io
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import warnings
from collections import OrderedDict

import numpy as np
import pytest

import rushlight
from rushlight import nn
from rushlight.io import add_safe_globals, clear_safe_globals, get_safe_globals, load, safe_globals, save

DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32",
    "float64", "complex64", "complex128",
)  # fmt: skip


def ours(torch_tensor):
    """The numbers of one of our tensors, or of PyTorch's, as comparable bytes."""
    return torch_tensor.contiguous().view(-1).tolist() if torch_tensor.numel() else []


def through(write, read, obj):
    buffer = io.BytesIO()
    write(obj, buffer)
    buffer.seek(0)
    return read(buffer)


def same(a, b):
    assert str(a.dtype) == str(b.dtype)
    assert tuple(a.shape) == tuple(b.shape)
    assert tuple(a.stride()) == tuple(b.stride())
    assert a.requires_grad == b.requires_grad
    assert ours(a.detach()) == ours(b.detach())


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_from_pytorch(dtype):
    torch = pytest.importorskip("torch")
    tensor = torch.arange(1, 7).reshape(2, 3).to(getattr(torch, dtype))
    same(through(torch.save, load, {"t": tensor})["t"], tensor)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_to_pytorch(dtype):
    torch = pytest.importorskip("torch")
    tensor = rushlight.arange(1, 7).reshape(2, 3).to(getattr(rushlight, dtype))
    same(through(save, torch.load, {"t": tensor})["t"], tensor)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_to_ourselves(dtype):
    tensor = rushlight.arange(1, 7).reshape(2, 3).to(getattr(rushlight, dtype))
    same(through(save, load, [tensor])[0], tensor)


def plain_objects(torch):
    return {
        "int": 2**70, "float": 1.5, "text": "né", "bytes": b"\0\xff", "none": None, "flags": [True, False],
        "tuple": (1, (2,)), "ordered": OrderedDict(b=1, a=2), "set": {1, 2}, "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16, "device": torch.device("cpu"), "empty": torch.empty(0, 3), "scalar": torch.tensor(3),
    }  # fmt: skip


def check_plain(back, torch):
    expected = plain_objects(torch)
    assert list(back) == list(expected)
    for name in ("int", "float", "text", "bytes", "none", "flags", "tuple", "ordered", "set", "dtype", "size"):
        assert back[name] == expected[name], name
        assert type(back[name]) is type(expected[name]), name
    assert str(back["device"]) == "cpu"
    assert tuple(back["empty"].shape) == (0, 3)
    assert back["scalar"].item() == 3


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_objects_both_ways(protocol):
    torch = pytest.importorskip("torch")
    check_plain(through(lambda o, f: torch.save(o, f, pickle_protocol=protocol), load, plain_objects(torch)), rushlight)
    if protocol == 2:  # PyTorch's safe reader knows no other
        check_plain(through(save, torch.load, plain_objects(rushlight)), torch)
    write = lambda o, f: save(o, f, pickle_protocol=protocol)
    check_plain(through(write, load, plain_objects(rushlight)), rushlight)


def views(torch):
    base = torch.arange(12.0).reshape(3, 4)
    return {"base": base, "window": base[1:, ::2], "transposed": base.T, "expanded": base[:1].expand(3, 4)}


def check_views(back):
    for name, view in views(rushlight).items():
        assert tuple(back[name].stride()) == tuple(view.stride()), name
        assert back[name].tolist() == view.tolist(), name
    assert back["window"].storage_offset() == 4
    back["base"][1, 0] = 100.0
    assert back["window"][0, 0].item() == 100.0
    assert back["transposed"][0, 1].item() == 100.0


def test_views_share_memory_again():
    check_views(through(save, load, views(rushlight)))


def test_views_share_memory_again_across_frameworks():
    torch = pytest.importorskip("torch")
    check_views(through(torch.save, load, views(torch)))
    check_views(through(save, torch.load, views(rushlight)))


def test_one_tensor_twice_is_written_once():
    tensor = rushlight.ones(1000)
    buffer = io.BytesIO()
    save([tensor, tensor, tensor[:10]], buffer)
    assert len(buffer.getvalue()) < 6000


def module(framework):
    layers = framework.nn
    return layers.Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4), layers.ReLU(), layers.Linear(4, 2, bias=False))


def test_state_dicts_both_ways():
    torch = pytest.importorskip("torch")
    theirs, mine = module(torch), module(rushlight)
    state = through(torch.save, load, theirs.state_dict())
    assert mine.load_state_dict(state).missing_keys == []
    x = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)
    expected = theirs.eval()(torch.from_numpy(x)).detach().numpy()
    assert np.allclose(mine.eval()(rushlight.from_numpy(x)).detach().numpy(), expected, atol=1e-6)
    fresh = module(rushlight)
    back = through(save, torch.load, fresh.state_dict())
    assert back._metadata == theirs.state_dict()._metadata
    theirs.load_state_dict(back)
    assert theirs[0].weight.tolist() == fresh[0].weight.tolist()


def test_parameters_stay_parameters():
    torch = pytest.importorskip("torch")
    frozen = rushlight.nn.Parameter(rushlight.ones(2), requires_grad=False)
    mine = through(save, torch.load, [rushlight.nn.Parameter(rushlight.ones(2)), frozen])
    assert [type(p) for p in mine] == [torch.nn.Parameter] * 2
    assert [p.requires_grad for p in mine] == [True, False]
    back = through(torch.save, load, mine)
    assert [type(p) for p in back] == [rushlight.nn.Parameter] * 2
    assert [p.requires_grad for p in back] == [True, False]


def test_requires_grad_of_a_leaf_is_kept():
    tensor = rushlight.ones(2, requires_grad=True)
    assert through(save, load, tensor).requires_grad


def test_training_resumes_where_it_stopped():
    def train(steps, resumed=False):
        rushlight.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = rushlight.optim.Adam(model.parameters(), lr=0.1)
        for step in range(steps):
            if resumed and step == 2:
                state = through(save, load, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
                model = nn.Linear(3, 2)
                optimizer = rushlight.optim.Adam(model.parameters(), lr=0.5)
                model.load_state_dict(state["model"])
                optimizer.load_state_dict(state["optimizer"])
            optimizer.zero_grad()
            (model(rushlight.ones(4, 3)) ** 2).sum().backward()
            optimizer.step()
        return model.weight.tolist()

    # To float32 rounding: the two runs do not record the same programs, and may sum in another order.
    assert np.allclose(train(4, resumed=True), train(4), rtol=1e-5, atol=1e-7)


def test_legacy_format():
    torch = pytest.importorskip("torch")
    write = lambda o, f: torch.save(o, f, _use_new_zipfile_serialization=False)
    check_views(through(write, load, views(torch)))
    state = through(write, load, module(torch).state_dict())
    assert module(rushlight).load_state_dict(state).unexpected_keys == []
    buffer = io.BytesIO()
    write(views(torch), buffer)
    with pytest.raises((RuntimeError, EOFError), match="given buffer"):
        load(io.BytesIO(buffer.getvalue()[:-5]))


def test_memory_map(tmp_path):
    path = tmp_path / "views.pt"
    save(views(rushlight), path)
    before = path.read_bytes()
    check_views(load(path, mmap=True))
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="file path"):
        load(io.BytesIO(before), mmap=True)


def test_records_begin_at_multiples_of_64(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a model.pt"
    save({str(i): rushlight.full((i,), float(i)) for i in range(1, 9)}, path)
    offsets = {name: torch._C.PyTorchFileReader(str(path)).get_record_offset(name) for name in ("data/0", "data/5")}
    assert all(offset % 64 == 0 for offset in offsets.values()), offsets
    assert torch.load(path, mmap=True)["3"].tolist() == [3.0] * 3


def test_same_object_gives_the_same_file():
    first, second = io.BytesIO(), io.BytesIO()
    save(views(rushlight), first)
    save(views(rushlight), second)
    assert first.getvalue() == second.getvalue()


MAP_LOCATIONS = {
    "name": "cpu",
    "device": rushlight.device("cpu"),
    "dict": {"cuda:0": "cpu"},
    "function": lambda storage, location: storage,
}


@pytest.mark.parametrize("map_location", MAP_LOCATIONS.values(), ids=MAP_LOCATIONS)
def test_map_location_brings_cuda_tensors_to_the_cpu(map_location):
    data = cuda_file()
    assert load(io.BytesIO(data), map_location=map_location).tolist() == [1.0, 2.0]


def cuda_file():
    """A file as a machine with a GPU would write it: only the location's name differs. (Records are re-made.)"""
    import zipfile

    buffer = io.BytesIO()
    save(rushlight.tensor([1.0, 2.0]), buffer)
    result = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    return result.getvalue()


@pytest.mark.skipif(rushlight.cuda.is_available(), reason="the error is about machines without CUDA")
def test_cuda_tensors_need_a_map_location():
    with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
        load(io.BytesIO(cuda_file()))


# -- what is refused ------------------------------------------------------------------------------------------------


class Settings:
    def __init__(self, rate):
        self.rate = rate

    def __eq__(self, other):
        return type(other) is Settings and other.rate == self.rate

    __hash__ = None


def test_classes_are_refused_until_declared_safe():
    clear_safe_globals()  # examples in docstrings declare some
    obj = {"settings": Settings(3)}
    with pytest.raises(
        pickle.UnpicklingError, match=r"Weights only load failed(.|\n)*Settings was not an allowed global"
    ):
        through(save, load, obj)
    with safe_globals([Settings]):
        assert get_safe_globals() == [Settings]
        assert through(save, load, obj) == obj
    assert get_safe_globals() == []
    add_safe_globals([(Settings, f"{__name__}.Settings")])
    assert through(save, load, obj) == obj
    clear_safe_globals()
    with pytest.raises(pickle.UnpicklingError):
        through(save, load, obj)


def test_a_declared_function_that_is_an_attribute_comes_back_as_itself():
    """A layer keeps its activation; before, the reader's wrapper came back in its place."""
    with safe_globals([Settings, through]):
        assert through(save, load, Settings(through)).rate is through
        assert through(save, load, [Settings, through]) == [Settings, through]


def test_weights_only_false_reads_objects():
    read = lambda f: load(f, weights_only=False)
    assert through(save, read, Settings(4)) == Settings(4)


class Deletes:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.remove, (self.path,)


def test_code_in_a_file_does_not_run(tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    path = tmp_path / "evil.pt"
    save([rushlight.ones(1), Deletes(str(victim))], path)
    with pytest.raises(pickle.UnpicklingError, match=r"remove was not an allowed(.|\n)*evil\.pt"):
        load(path)
    path.write_bytes(pickle.dumps(Deletes(str(victim))))
    with pytest.raises(pickle.UnpicklingError, match="remove was not an allowed"):
        load(path)
    assert victim.exists()


def test_whole_modules():
    read = lambda f: load(f, weights_only=False)
    model = module(rushlight)
    assert through(save, read, model)[0].weight.tolist() == model[0].weight.tolist()


def test_whole_modules_of_pytorch_become_ours():
    torch = pytest.importorskip("torch")
    layers = torch.nn
    theirs = layers.Sequential(
        layers.Conv2d(1, 4, 3), layers.BatchNorm2d(4), layers.ReLU(), layers.MaxPool2d(2), layers.Flatten(),
        layers.Linear(36, 5), layers.Dropout(0.5), layers.LogSoftmax(dim=1),
    ).eval()  # fmt: skip
    with pytest.raises(pickle.UnpicklingError, match=r"torch\.nn\.modules\.container\.Sequential"):
        through(torch.save, load, theirs)
    mine = through(torch.save, lambda f: load(f, weights_only=False), theirs)
    assert type(mine[0]) is nn.Conv2d
    x = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 1, 8, 8)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    assert np.allclose(mine(rushlight.from_numpy(x)).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "window", [((100,), (1,), 0), ((2, 3), (3, 1), 1), ((1,), (1,), 6), ((-1,), (1,), 0), ((2,), (-1,), 3)]
)
def test_windows_outside_of_the_storage_are_refused(window):
    from rushlight.io.storages import check_window

    size, stride, offset = window
    with pytest.raises(RuntimeError, match=r"out of bounds|damaged"):
        check_window(24, offset, size, stride, 4)


# -- damaged files --------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    save({"weight": rushlight.arange(100.0), "epoch": 3}, path)
    return path


def test_truncated_files_name_the_file(checkpoint):
    data = checkpoint.read_bytes()
    for cut in (4, 60, len(data) // 2, len(data) - 30, len(data) - 1):
        checkpoint.write_bytes(data[:cut])
        with pytest.raises(RuntimeError, match=r"PytorchStreamReader failed(.|\n)*model\.pt"):
            load(checkpoint)


def test_flipped_bit_is_found(checkpoint):
    data = bytearray(checkpoint.read_bytes())
    data[data.index(np.arange(100, dtype=np.float32).tobytes()) + 40] ^= 1
    checkpoint.write_bytes(data)
    with pytest.raises(RuntimeError, match=r"record 'data/0' is damaged.*checksum.*model\.pt"):
        load(checkpoint)


def test_every_damaged_byte_gives_an_exception_or_data(checkpoint):
    data = checkpoint.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 150):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        try:
            load(io.BytesIO(damaged))
        except (RuntimeError, pickle.UnpicklingError, EOFError) as e:
            assert str(e)


def test_other_files(tmp_path):
    path = tmp_path / "notes.pt"
    path.write_bytes(b"")
    with pytest.raises(EOFError, match=r"notes\.pt"):
        load(path)
    path.write_text("not a checkpoint")
    with pytest.raises(pickle.UnpicklingError, match=r"notes\.pt"):
        load(path)
    path.write_bytes(pickle.dumps({"plain": "pickle"}, 2))
    with pytest.raises(RuntimeError, match=r"Invalid magic number; corrupt file\?.*notes\.pt"):
        load(path)
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        load(tmp_path / "absent.pt")


def test_wrong_arguments(tmp_path):
    with pytest.raises(AttributeError, match="'write'"):
        save(1, 5)
    with pytest.raises(AttributeError, match="'read'"):
        load(5)
    with pytest.raises(RuntimeError, match=r"Parent directory .* does not exist"):
        save(1, tmp_path / "absent" / "x.pt")
    with pytest.raises(TypeError, match="map_location"):
        load(io.BytesIO(cuda_file()), map_location=3)


# -- the file is replaced as a whole --------------------------------------------------------------------------------


def test_failed_save_leaves_the_old_file(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        save({"a": rushlight.ones(3), "f": lambda: 0}, checkpoint)

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        save({"a": rushlight.ones(3)}, checkpoint)
    assert checkpoint.read_bytes() == before
    assert [p.name for p in checkpoint.parent.iterdir()] == ["model.pt"]


def test_killed_save_leaves_the_old_file(checkpoint):
    before = checkpoint.read_bytes()
    script = textwrap.dedent(
        """
        import sys, time
        import rushlight
        from rushlight.io import archive, save
        write = archive.ArchiveWriter.write
        def slow(self, name, data):
            write(self, name, data)
            if name == "data/0":
                self._file.flush()
                print("half", flush=True)
                time.sleep(60)
        archive.ArchiveWriter.write = slow
        save([rushlight.zeros(100_000), rushlight.zeros(100_000)], sys.argv[1])
        """
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(checkpoint)], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        assert len(list(checkpoint.parent.iterdir())) == 2  # the unfinished file lies beside the old one
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert checkpoint.read_bytes() == before
    assert load(checkpoint)["epoch"] == 3


def test_replaced_file_keeps_mode_and_link(checkpoint, tmp_path):
    checkpoint.chmod(0o640)
    link = tmp_path / "latest.pt"
    link.symlink_to(checkpoint)
    save({"epoch": 4}, link)
    assert link.is_symlink()
    assert load(checkpoint)["epoch"] == 4
    assert checkpoint.stat().st_mode & 0o777 == 0o640


def test_no_warning_from_a_round_trip():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        through(save, load, views(rushlight))
