"""Writing safetensors files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file


def write_safetensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Writes `path` so that it appears whole or not at all; raises OSError or SafetensorError."""
    with tempfile.TemporaryDirectory(prefix=".write-", dir=path.resolve().parent) as folder:
        partial = Path(folder) / path.name
        save_file(tensors, partial, metadata=metadata)
        # safetensors makes files that only their owner can read; the user's own mask decides instead.
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        os.replace(partial, path)
