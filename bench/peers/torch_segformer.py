"""The PyTorch side of the peer benchmark: SegFormer of transformers behind the line protocol of README.md.

It serves the same arguments as `serve`, and --layout: the memory format that the images and the weights are kept in.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from transformers import SegformerForSemanticSegmentation

LAYOUTS = {"eager": torch.contiguous_format, "channels_last": torch.channels_last}
WARM_UP_RUNS = 2
# The training steps whose losses are compared before anything is timed.
COMPARED_STEPS = 3
LEARNING_RATE = 6e-5
WEIGHT_DECAY = 0.01


def make_inference(model: torch.nn.Module, images: torch.Tensor, output: Path) -> Callable[[], object]:
    model.eval()

    def infer() -> torch.Tensor:
        with torch.inference_mode():
            return model(images).logits

    logits = infer().permute(0, 2, 3, 1).contiguous().numpy()
    np.save(output / "logits.npy", logits)
    return infer


def make_training(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, output: Path
) -> Callable[[], object]:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(images, labels=labels).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    losses = [step() for _ in range(COMPARED_STEPS)]
    np.save(output / "losses.npy", np.array(losses, dtype=np.float32))
    return step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path, help="hub directory")
    parser.add_argument("--size", required=True, help="HxW of the input, for the record")
    parser.add_argument("--batch", required=True, type=int)
    parser.add_argument("--mode", required=True, choices=("infer", "train"))
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--input", required=True, type=Path, help="x.npy: float32 (N, H, W, C)")
    parser.add_argument("--labels", type=Path, help="y.npy: int64 (N, H, W); --mode train")
    parser.add_argument("--output", required=True, type=Path, help="folder of the arrays to compare")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="eager")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    options.output.mkdir(parents=True, exist_ok=True)

    layout = LAYOUTS[options.layout]
    model = SegformerForSemanticSegmentation.from_pretrained(options.model).to(memory_format=layout)
    pixels = np.load(options.input)
    height, width = (int(part) for part in options.size.split("x"))
    if pixels.shape != (options.batch, height, width, 3):
        parser.error(f"{options.input} has shape {pixels.shape}, expected {(options.batch, height, width, 3)}")
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    if options.mode == "infer":
        run = make_inference(model, images, options.output)
    else:
        if options.labels is None:
            parser.error("--mode train needs --labels")
        run = make_training(model, images, torch.from_numpy(np.load(options.labels)), options.output)
    for _ in range(WARM_UP_RUNS):
        run()

    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() != "run":
            print(f"unknown request: {line.strip()}", file=sys.stderr)
            return 1
        started = time.perf_counter()
        run()
        print(f"{1000 * (time.perf_counter() - started):.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
