"""Converts checkpoints to safetensors: .pth/.pt/.bin, .npz and .safetensors in, .safetensors out.

Key names and PyTorch's memory layouts are kept. Nothing in the input is ever executed: torch files are read with
`weights_only=True`, whole pickled models by an unpickler to which every class is a name, npz files with
`allow_pickle=False`.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .files import write_safetensors
from .whole_model import NotRead, StandIn, read_whole_model, state_dict_of

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
WRAPPERS = ("state_dict", "model_state_dict", "model")
PARALLEL_PREFIX = "module."
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# What the safetensors format can hold and a PyTorch state dict may contain.
STORABLE = {
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
}


class ConvertError(Exception):
    """The input cannot be converted; the text says which file, what was found and what to do."""


def _read_torch(path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            return read_whole_model(path)  # more than tensors and plain containers: most often a pickled model
    except NotRead as error:
        raise ConvertError(
            f"{path}: refused, because loading it would run its code ({error}); save its state_dict() with torch.save "
            "and convert that"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError, pickle.UnpicklingError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConvertError(f"{path}: not a readable PyTorch state dict or model ({first_line})") from error


def _read_npz(path: Path) -> dict[str, torch.Tensor]:
    tensors = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                array = archive[name]
                tensors[name] = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    except Exception as error:  # a broken zip raises many kinds, and each means the same to the user
        raise ConvertError(f"{path}: not a readable npz file of plain arrays ({error})") from error
    return tensors


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ConvertError(f"{path}: not a valid safetensors file ({error})") from error


def _unwrap(path: Path, content: Any) -> dict[str, torch.Tensor]:
    """Finds the state dict in what a training script saved around it."""
    if isinstance(content, StandIn):
        try:
            return state_dict_of(content)
        except NotRead as error:
            raise ConvertError(f"{path}: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("ema"), StandIn):
        return _unwrap(path, content["ema"])  # the averaged weights of a YOLO checkpoint, which its reference takes
    if not isinstance(content, dict):
        raise ConvertError(f"{path}: expected a state dict (name -> tensor), got {type(content).__name__}")
    for wrapper in WRAPPERS:
        inner = content.get(wrapper)
        if isinstance(inner, (dict, StandIn)):
            return _unwrap(path, inner)
    for name, value in content.items():
        if not isinstance(name, str):
            raise ConvertError(f"{path}: key {name!r} is not a string")
        if not isinstance(value, torch.Tensor):
            raise ConvertError(
                f"{path}: entry '{name}' is {type(value).__name__}, not a tensor; expected a state dict, bare or "
                f"under one of {', '.join(WRAPPERS)}"
            )
    return dict(content)


def _strip_parallel_prefix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Removes the prefix that DataParallel puts before every key; a model may own a child of that name itself."""
    if not all(name.startswith(PARALLEL_PREFIX) for name in tensors):
        return tensors
    return {name[len(PARALLEL_PREFIX) :]: tensor for name, tensor in tensors.items()}


def _prepare(path: Path, name: str, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in STORABLE:
        raise ConvertError(f"{path}: tensor '{name}' is {tensor.layout} {tensor.dtype}, which cannot be stored")
    result = tensor.detach()
    if dtype is not None and result.is_floating_point():
        converted = result.to(dtype)
        if not torch.equal(torch.isfinite(converted), torch.isfinite(result)):
            raise ConvertError(
                f"{path}: tensor '{name}' has values beyond the range of {dtype}; use --dtype bf16 or f32"
            )
        result = converted
    # Tied tensors are written twice: each key stands alone in the file. `contiguous` undoes transposed views.
    return result.clone(memory_format=torch.contiguous_format)


def read_state_dict(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Reads the tensors of a checkpoint without running code from it; raises ConvertError."""
    path = Path(path)
    if not path.is_file():
        raise ConvertError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix in TORCH_SUFFIXES:
        content = _read_torch(path)
    elif suffix == ".npz":
        content = _read_npz(path)
    elif suffix == ".safetensors":
        content = _read_safetensors(path)
    else:
        known = ", ".join((*TORCH_SUFFIXES, ".npz", ".safetensors"))
        raise ConvertError(f"{path}: unknown file type '{suffix}'; expected one of {known}")
    tensors = _strip_parallel_prefix(_unwrap(path, content))
    if not tensors:
        raise ConvertError(f"{path}: holds no tensors")
    return tensors


def convert(source: str | os.PathLike, target: str | os.PathLike, dtype: str | None = None) -> dict[str, torch.Tensor]:
    """Converts `source` to the safetensors file `target`, which appears whole or not at all; returns its tensors.

    dtype: 'f32', 'f16' or 'bf16' converts the floating-point tensors; None keeps what the file has.
    """
    source = Path(source)
    target = Path(target)
    if target.suffix.lower() != ".safetensors":
        raise ConvertError(f"{target}: the output must be named .safetensors")
    chosen = None if dtype is None else DTYPES[dtype]
    tensors = {name: _prepare(source, name, tensor, chosen) for name, tensor in read_state_dict(source).items()}
    try:
        write_safetensors(tensors, target, {"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise ConvertError(f"{target}: cannot write ({error})") from error
    return tensors


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ocellus-convert", description=__doc__.splitlines()[0])
    parser.add_argument("source", metavar="IN", help=".pth, .pt, .bin, .npz or .safetensors")
    parser.add_argument("target", metavar="OUT.safetensors")
    parser.add_argument("--dtype", choices=sorted(DTYPES), help="convert floating-point tensors (default: keep)")
    options = parser.parse_args(arguments)
    try:
        tensors = convert(options.source, options.target, options.dtype)
    except ConvertError as error:
        print(f"ocellus-convert: {error}", file=sys.stderr)
        return 1
    total = sum(tensor.numel() for tensor in tensors.values())
    print(f"{options.target}: {len(tensors)} tensors, {total} values")
    return 0


if __name__ == "__main__":
    sys.exit(main())
