"""Makes the PyTorch files that the C++ reader is held to, and one safetensors file with what they must give.

    ocellus-torch-files ../tests/golden/torch

Every value is random; the files are small. The expected tensors are named `<file>/<name>`: int16 stands there as int32
and bool as uint8, which is how the reader gives them.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from .files import write_safetensors

Tensors = dict[str, torch.Tensor]


class Block(nn.Module):
    """A module with everything that a pickle may hold of one: parameters, buffers that stay and that do not, None."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.SiLU()
        self.scale = nn.Parameter(torch.randn(channels))
        self.scale.note = "an attribute"
        self.register_parameter("nothing", None)
        self.register_buffer("grid", torch.randn(2, channels))
        self.register_buffer("cache", torch.randn(3), persistent=False)
        self.register_buffer("unset", None)
        self.shape = torch.Size([1, channels])
        self.stride = torch.tensor([8.0, 16.0])
        self.kind = torch.float16


class Detector(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(Block(channels), nn.Linear(channels, 2), nn.ModuleList([Block(2)]))
        self.names = {0: "cell", 1: "nucleus"}
        self.options = OrderedDict(rate=0.5, wide=1 << 80, data=b"\x00\xff", chosen={1, 2}, fixed=frozenset([3]))


class Leaf(nn.Module):
    """The legacy format stores the source of every module's class, so these two use no class of PyTorch's."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size))
        self.register_buffer("count", torch.tensor(size))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Leaf(2)
        self.second = Leaf(3)
        self.second.weight = nn.Parameter(self.first.weight.detach())
        self.third = None


def every_type(generator: torch.Generator) -> Tensors:
    base = torch.randn(4, 6, generator=generator)
    counts = torch.arange(-6, 6, dtype=torch.int64)
    shared = torch.randn(24, generator=generator)
    with_attributes = nn.Parameter(torch.randn(3, generator=generator))
    with_attributes.note = "an attribute"
    return OrderedDict(
        {
            "float": torch.randn(2, 3, generator=generator),
            "double": torch.randn(3, generator=generator).double(),
            "half": torch.randn(5, generator=generator).half(),
            "brain": torch.randn(5, generator=generator).bfloat16(),
            "int64": counts,
            "int32": counts.int(),
            "int16": counts.short() * 1000,
            "int8": counts.to(torch.int8),
            "uint8": torch.arange(7, dtype=torch.uint8),
            "bool": torch.tensor([True, False, True]),
            "scalar": torch.tensor(7),
            "empty": torch.zeros(0, 3),
            "parameter": nn.Parameter(torch.randn(2, generator=generator)),
            "attributes": with_attributes,
            "shared": shared,
            "window": shared[5:17],
            "rows": shared.view(4, 6)[1:3],
            "columns": shared.view(4, 6)[:, 1::2],
            "transposed": base.t(),
            "permuted": torch.randn(2, 3, 4, generator=generator).permute(2, 0, 1),
            "channels_last": torch.randn(2, 3, 4, 4, generator=generator).to(memory_format=torch.channels_last),
            "expanded": torch.randn(1, 3, generator=generator).expand(4, 3),
            "narrow": (counts.short() * 500).view(3, 4).t(),
            "bytes": torch.arange(12, dtype=torch.uint8).view(3, 4).t(),
            "doubles": torch.randn(3, 2, generator=generator).double().t(),
            "halves": torch.randn(3, 2, generator=generator).half().t(),
            "name with spaces \u00e9": torch.randn(2, generator=generator),
        }
    )


def as_read(tensor: torch.Tensor) -> torch.Tensor:
    known = {torch.int16: torch.int32, torch.bool: torch.uint8}
    return tensor.detach().to(known.get(tensor.dtype, tensor.dtype)).clone(memory_format=torch.contiguous_format)


def make(folder: Path) -> Tensors:
    """Writes the files and returns what each must give."""
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    expected: Tensors = {}

    def save(name: str, content: object, gives: Tensors, **options: object) -> None:
        torch.save(content, folder / name, **options)
        expected.update({f"{name}/{key}": as_read(tensor) for key, tensor in gives.items()})

    types = every_type(generator)
    save("types.pth", types, types)
    save("types_legacy.pth", types, types, _use_new_zipfile_serialization=False)
    few = {"w": torch.randn(3, 2, generator=generator).t(), "b": torch.randn(2, generator=generator)}
    around = {"epoch": 3, "lr": 1e-3, "done": False, "optimizer": {"state": {0: few["w"]}, "groups": [{"betas": (0.9, 0.999)}]}}
    save("wrapped_protocol4.pth", {**around, "state_dict": few}, few, pickle_protocol=4)
    save("wrapped_protocol5.bin", {"model_state_dict": few, **around}, few, pickle_protocol=5)
    save("parallel_legacy.pth", {f"module.{k}": v for k, v in few.items()}, few, _use_new_zipfile_serialization=False)

    model, average = Detector(3).half(), Detector(3)
    training = {"epoch": -1, "best_fitness": None, "updates": None, "train_args": {"lr0": 0.01}, "date": "2024-01-01"}
    save("model.pt", {**training, "model": model, "ema": None}, model.state_dict())
    save("model_with_average.pt", {**training, "model": model, "ema": average}, average.state_dict())
    pair = Pair()
    source = mock.Mock(return_value=(["class Source: ...\n"], 1, "source.py"))  # the real one names this machine's folders
    with mock.patch("torch.serialization.get_source_lines_and_file", source):
        save("model_legacy.pt", pair, pair.state_dict(), _use_new_zipfile_serialization=False)
    assert source.called
    return expected


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ocellus-torch-files", description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path)
    folder = parser.parse_args(arguments).out_dir
    folder.mkdir(parents=True, exist_ok=True)
    expected = make(folder)
    write_safetensors(expected, folder / "expected.safetensors", {"torch": torch.__version__.split("+")[0]})
    print(f"{folder}: {len(expected)} tensors")
    return 0
