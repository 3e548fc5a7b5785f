import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ocellus_weights_tools.convert import ConvertError, convert, main
from ocellus_weights_tools.torch_files import Detector, as_read


def state_dict() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tied = torch.randn(4, 3, generator=generator)
    return OrderedDict(
        {
            "conv.weight": torch.randn(4, 3, 2, 2, generator=generator),
            "half": torch.randn(5, generator=generator).half(),
            "brain": torch.randn(5, generator=generator).bfloat16(),
            "double": torch.randn(2, 2, generator=generator).double(),
            "norm.num_batches_tracked": torch.tensor(7),
            "mask": torch.tensor([True, False]),
            "empty": torch.zeros(0, 3),
            "transposed": torch.randn(2, 5, generator=generator).t(),
            "tied.a": tied,
            "tied.b": tied,
        }
    )


def assert_same(expected: dict, path: Path) -> None:
    actual = load_file(path)
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert actual[name].shape == tensor.shape, name
        assert torch.equal(actual[name], tensor), name


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
def test_round_trip(tmp_path, suffix):
    source = tmp_path / f"in{suffix}"
    (tmp_path / "in.txt").touch()
    tensors = state_dict()
    if suffix == ".safetensors":
        save_file({k: v.clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}, source)
    else:
        torch.save(tensors, source)
    convert(source, tmp_path / "out.safetensors")
    assert_same(tensors, tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").stat().st_mode == (tmp_path / "in.txt").stat().st_mode
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_old_torch_format(tmp_path):
    torch.save(state_dict(), tmp_path / "in.pth", _use_new_zipfile_serialization=False)
    convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    assert_same(state_dict(), tmp_path / "out.safetensors")


def test_npz(tmp_path):
    arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.array(3, dtype=np.int64)}
    np.savez(tmp_path / "in.npz", **arrays)
    convert(tmp_path / "in.npz", tmp_path / "out.safetensors")
    assert_same({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, tmp_path / "out.safetensors")


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_unwraps(tmp_path, wrapper):
    torch.save({wrapper: state_dict(), "epoch": 3}, tmp_path / "in.pth")
    convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    assert_same(state_dict(), tmp_path / "out.safetensors")


def test_strips_the_prefix_of_data_parallel(tmp_path):
    torch.save({"state_dict": {f"module.{k}": v for k, v in state_dict().items()}}, tmp_path / "in.pth")
    convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    assert_same(state_dict(), tmp_path / "out.safetensors")


def test_keeps_a_child_named_module(tmp_path):
    tensors = {"module.weight": torch.ones(2), "head.weight": torch.ones(3)}
    torch.save(tensors, tmp_path / "in.pth")
    convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    assert_same(tensors, tmp_path / "out.safetensors")


@pytest.mark.parametrize("name,dtype", [("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_dtype_converts_real_numbers_only(tmp_path, name, dtype):
    torch.save(state_dict(), tmp_path / "in.pth")
    convert(tmp_path / "in.pth", tmp_path / "out.safetensors", name)
    expected = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state_dict().items()}
    assert_same(expected, tmp_path / "out.safetensors")


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("wrapped", [False, True])
def test_refuses_pickles_that_call_code(tmp_path, wrapped):
    marker = tmp_path / "executed"
    content = {"weight": torch.ones(2), "payload": Payload(marker)}
    torch.save({"state_dict": content} if wrapped else content, tmp_path / "in.pth")
    with pytest.raises(ConvertError, match="refused"):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    assert not marker.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_refuses_bare_pickles_that_call_code(tmp_path):
    marker = tmp_path / "executed"
    (tmp_path / "in.bin").write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(ConvertError):
        convert(tmp_path / "in.bin", tmp_path / "out.safetensors")
    assert not marker.exists()


def test_refuses_object_arrays(tmp_path):
    marker = tmp_path / "executed"
    np.savez(tmp_path / "in.npz", a=np.array([Payload(marker)], dtype=object))
    with pytest.raises(ConvertError, match="npz"):
        convert(tmp_path / "in.npz", tmp_path / "out.safetensors")
    assert not marker.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_reads_a_whole_model(tmp_path, legacy, wrapped):
    model = Detector(3).half()
    content = {"epoch": 3, "ema": None, "model": model} if wrapped else model
    torch.save(content, tmp_path / "in.pt", _use_new_zipfile_serialization=not legacy)
    convert(tmp_path / "in.pt", tmp_path / "out.safetensors")
    assert_same(model.state_dict(), tmp_path / "out.safetensors")


def test_takes_the_averaged_model(tmp_path):
    model, average = Detector(3), Detector(3)
    torch.save({"model": model, "ema": average}, tmp_path / "in.pt")
    convert(tmp_path / "in.pt", tmp_path / "out.safetensors")
    assert_same(average.state_dict(), tmp_path / "out.safetensors")


def test_runs_nothing_of_a_whole_model(tmp_path):
    marker = tmp_path / "executed"
    model = Detector(3)
    model.payload = Payload(marker)
    torch.save({"model": model}, tmp_path / "in.pt")
    with pytest.raises(ConvertError, match="refused.*it calls"):
        convert(tmp_path / "in.pt", tmp_path / "out.safetensors")
    assert not marker.exists()


@pytest.mark.parametrize("call", [(torch.Tensor, (1 << 40,)), (torch.FloatStorage, (1 << 40,)), (bytearray, (1 << 40,))])
def test_allocates_nothing_for_a_call(tmp_path, call):
    class Greedy:
        def __reduce__(self):
            return call

    model = Detector(3)
    model.payload = Greedy()
    torch.save(model, tmp_path / "in.pt")
    if call[0] is bytearray:  # understood, and not needed
        convert(tmp_path / "in.pt", tmp_path / "out.safetensors")
    else:
        with pytest.raises(ConvertError):
            convert(tmp_path / "in.pt", tmp_path / "out.safetensors")


def test_refuses_a_model_in_itself(tmp_path):
    model = torch.nn.Sequential()
    model._modules["self"] = model
    torch.save(model, tmp_path / "in.pt")
    with pytest.raises(ConvertError, match="in itself"):
        convert(tmp_path / "in.pt", tmp_path / "out.safetensors")


def test_the_files_of_the_reader_in_cpp(tmp_path):
    """Both readers give the same, and the committed files hold no path of the machine that made them."""
    golden = Path(__file__).parents[2] / "tests/golden/torch"
    expected = load_file(golden / "expected.safetensors")
    for path in sorted(golden.glob("*.p*")) + sorted(golden.glob("*.bin")):
        convert(path, tmp_path / "out.safetensors")
        tensors = {k.split("/", 1)[1]: v for k, v in expected.items() if k.startswith(path.name + "/")}
        actual = {k: as_read(v) for k, v in load_file(tmp_path / "out.safetensors").items()}
        assert actual.keys() == tensors.keys(), path
        assert all(actual[k].dtype == v.dtype and torch.equal(actual[k], v) for k, v in tensors.items()), path
        assert str(Path(__file__).parents[1]).encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "content,message",
    [
        ([torch.ones(2)], "list"),
        ({"weight": torch.ones(2), "epoch": 3}, "'epoch' is int"),
        ({1: torch.ones(2)}, "not a string"),
        ({}, "no tensors"),
        ({"z": torch.zeros(2, dtype=torch.complex64)}, "'z'"),
        ({"s": torch.eye(3).to_sparse()}, "'s'"),
    ],
)
def test_refuses_other_content(tmp_path, content, message):
    torch.save(content, tmp_path / "in.pth")
    with pytest.raises(ConvertError, match=message):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors")


def test_refuses_overflow(tmp_path):
    torch.save({"w": torch.tensor([1e6])}, tmp_path / "in.pth")
    with pytest.raises(ConvertError, match="range"):
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "f16")


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".npz", ".safetensors", ".h5"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", bytes(range(256))])
def test_refuses_garbage(tmp_path, suffix, content):
    (tmp_path / f"in{suffix}").write_bytes(content)
    with pytest.raises(ConvertError):
        convert(tmp_path / f"in{suffix}", tmp_path / "out.safetensors")


@pytest.mark.parametrize("suffix", [".pth", ".npz", ".safetensors"])
def test_refuses_truncated_files(tmp_path, suffix):
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(state_dict(), whole)
    elif suffix == ".npz":
        np.savez(whole, a=np.ones(100))
    else:
        save_file({"a": torch.ones(100)}, whole)
    content = whole.read_bytes()
    for size in (len(content) // 2, len(content) - 1):
        (tmp_path / f"in{suffix}").write_bytes(content[:size])
        with pytest.raises(ConvertError):
            convert(tmp_path / f"in{suffix}", tmp_path / "out.safetensors")


def test_program(tmp_path, capsys):
    torch.save(state_dict(), tmp_path / "in.pth")
    assert main([str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors"), "--dtype", "bf16"]) == 0
    assert main([str(tmp_path / "missing.pth"), str(tmp_path / "out.safetensors")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert main([str(tmp_path / "in.pth"), str(tmp_path / "out.bin")]) == 1
    assert main([str(tmp_path / "in.pth"), str(tmp_path / "no_folder" / "out.safetensors")]) == 1
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in.pth", "out.safetensors"]
