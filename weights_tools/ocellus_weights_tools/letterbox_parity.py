"""Compares the letterbox with OpenCV's resize and border for random sizes of images."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import safe_open

from .files import write_safetensors


def reference(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest picture of the same proportions that fits, in the middle of a grey one (114)."""
    rows, columns = image.shape[:2]
    ratio = min(height / rows, width / columns)
    inner = max(1, round(columns * ratio)), max(1, round(rows * ratio))
    if inner != (columns, rows):
        image = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    border = (top, height - inner[1] - top, left, width - inner[0] - left)
    return cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=(114, 114, 114))


def random_image(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Slow waves under noise: neighbours are related, and every value occurs."""
    y, x = np.mgrid[:height, :width][..., None] / 12
    phase = generator.uniform(0, 6, (4, 3))
    wave = np.sin(y + phase[0]) + np.cos(x - phase[1]) + np.sin(0.3 * x + phase[2]) * np.cos(0.2 * y + phase[3])
    noise = generator.normal(0, 30, (height, width, 3))
    return np.clip(128 + 50 * wave + noise, 0, 255).astype(np.uint8)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ocellus-letterbox", description=__doc__)
    parser.add_argument("--program", required=True, help="bench_peers_detection")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 640), metavar=("H", "W"))
    options = parser.parse_args(arguments)
    generator = np.random.default_rng(1)
    sizes = [tuple(int(v) for v in generator.integers(16, 1600, 2)) for _ in range(options.count)]
    images = {f"image.{i}": torch.from_numpy(random_image(generator, *size)) for i, size in enumerate(sizes)}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "images.safetensors", Path(folder) / "boxed.safetensors"
        write_safetensors(images, source, {})
        subprocess.run([options.program, "letterbox", source, target, *map(str, options.size)], check=True)
        with safe_open(target, framework="np") as file:
            ours = {name: file.get_tensor(name) for name in file.keys()}
    worst = 0
    for i, size in enumerate(sizes):
        theirs = reference(images[f"image.{i}"].numpy(), *options.size).astype(int)
        worst = max(worst, int(np.abs(ours[f"boxed.{i}"].astype(int) - theirs).max()))
    print(f"{len(sizes)} images of {min(sizes)} to {max(sizes)} pixels: the largest difference is {worst} of 255")
    return int(worst > 1)


if __name__ == "__main__":
    sys.exit(main())
