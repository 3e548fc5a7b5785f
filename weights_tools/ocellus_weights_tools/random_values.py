"""Random weights and images that keep activations of order one.

Values come from numpy's PCG64 through `numpy.random.Generator`, so a seed means the same values on every machine.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn


def randomize(model: nn.Module, generator: np.random.Generator, gain: float = 1) -> None:
    """Fills every parameter and buffer: weights N(0, gain²/fan_in), biases N(0, 0.1²), norm scales N(1, 0.1²), running
    means N(0, 0.3²), running variances uniform in [0.5, 1.5], tokens and position tables N(0, 0.5²)."""
    norms = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
    scales = {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, norms)}
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(7)
                continue
            values = generator.standard_normal(tuple(tensor.shape), dtype=np.float32)
            if name in scales:
                values = 1 + 0.1 * values
            elif name.endswith("running_var"):
                values = generator.uniform(0.5, 1.5, tuple(tensor.shape))
            elif name.endswith("running_mean"):
                values = 0.3 * values
            elif name.endswith("bias"):
                values = 0.1 * values
            elif name.endswith("token") or name.endswith("position_embeddings"):
                values = 0.5 * values
            else:
                values = gain * values / math.sqrt(tensor.numel() / tensor.shape[0])
            tensor.copy_(torch.from_numpy(np.asarray(values, dtype=np.float32)))


def random_images(shape: tuple[int, int, int, int], seed: int) -> np.ndarray:
    """Normalised images (N, H, W, C): noise over slow waves, so that neighbouring pixels are related."""
    generator = np.random.default_rng(seed)
    count, height, width, channels = shape
    y = np.linspace(0, 4 * np.pi, height)[None, :, None, None]
    x = np.linspace(0, 4 * np.pi, width)[None, None, :, None]
    phase = generator.uniform(0, 2 * np.pi, (count, 1, 1, channels))
    waves = np.sin(y + phase) + np.cos(x - phase)
    return (0.7 * waves + 0.7 * generator.standard_normal(shape)).astype(np.float32)


def hashed(count: int, stream: int) -> np.ndarray:
    """`count` values in [-1, 1) that any language computes from their places alone, to the bit: golden files need not
    hold them."""
    h = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(stream) * np.uint32(40503)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(2246822519)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(3266489917)
    return ((h ^ (h >> np.uint32(16))) >> np.uint32(8)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def hash_values(model: nn.Module, seed: int, gain: float) -> None:
    """Fills every parameter and buffer but counters and fixed parameters with `hashed`, the stream being seed · 1024 + its
    place in the state dict: convolutions with variance gain²/fan_in, norm scales and running variances in [0.5, 1.5),
    biases and running means in [-0.5, 0.5)."""
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    with torch.no_grad():
        for place, (name, tensor) in enumerate(model.state_dict().items()):
            if name in fixed or name.endswith("num_batches_tracked"):
                continue
            values = hashed(tensor.numel(), seed * 1024 + place)
            if tensor.dim() == 4:
                values *= np.float32(math.sqrt(3 * tensor.shape[0] / tensor.numel()) * gain)
            else:
                scale = name.endswith(("weight", "running_var"))
                values = values * np.float32(0.5) + np.float32(1 if scale else 0)
            tensor.copy_(torch.from_numpy(values).reshape(tensor.shape))
