"""Compares `ocellus run` with the reference implementation on random checkpoints.

The reference is transformers, torchvision or Ultralytics. One environment need not hold all: only that of the models asked
for is imported. Each case builds a hub directory whose every tensor is random, runs both on the same input and prints one
line: max |difference|, max |output|, their ratio, of several outputs the worst. The exit code is 1 if a ratio exceeds the
tolerance or a case fails.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from . import checkpoint, vision_models, yolo_models
from .random_values import random_images

# By the library that implements the models: how to make their configurations, models and checkpoints.
REFERENCES = {"transformers": checkpoint, "torchvision": vision_models, "ultralytics": yolo_models}
MODELS = {name: module for module in REFERENCES.values() for name in module.MODELS}

TOLERANCE = 1e-4
# Outside this range the random weights have lost their scale, and a ratio would mean nothing.
SANE_OUTPUT = (0.1, 100.0)

# By their names in the program.
Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    model: str
    height: int
    width: int
    batch: int

    def __str__(self) -> str:
        return f"{self.model} {self.height}x{self.width} batch {self.batch}"


@dataclass(frozen=True)
class Outcome:
    difference: float
    maximum: float

    @property
    def ratio(self) -> float:
        return self.difference / self.maximum if self.maximum > 0 else float("inf")

    def problem(self, tolerance: float) -> str:
        """Empty if the case passes."""
        if not SANE_OUTPUT[0] <= self.maximum <= SANE_OUTPUT[1]:
            return f"max |output| outside [{SANE_OUTPUT[0]:g}, {SANE_OUTPUT[1]:g}]"
        # Written so that NaN fails.
        if not self.ratio <= tolerance:
            return f"ratio above {tolerance:g}"
        return ""


class ParityError(Exception):
    """The program failed or answered in the wrong form."""


def all_cases(reference: str = "transformers") -> list[Case]:
    """SegFormer B0-B5 and an odd configuration, ViT-B/16 and an odd configuration, torchvision's networks, or YOLOv8 and
    YOLO11; each model's cases together."""
    cases = []
    for model in REFERENCES[reference].MODELS:
        if model in ("resnet18", "resnet50", "vgg16", "mobilenet_v2"):
            shapes = [(224, 224, 1), (224, 224, 2), (161, 203, 1), (161, 203, 2)]
        elif reference == "torchvision":
            shapes = [(161, 203, 2)]
        elif reference == "ultralytics":
            shapes = [(640, 640, 1), (320, 416, 2)]
        elif model.startswith("segformer-"):
            shapes = [(512, 512, 1), (256, 512, 1), (333, 517, 1), (512, 512, 2)]
        elif model == "vit-base":
            shapes = [(224, 224, 2), (224, 384, 1), (333, 517, 1)]
        else:
            shapes = [(70, 70, 2), (45, 131, 1)]
        cases += [Case(model, *shape) for shape in shapes]
    return cases


def run_program(program: Path, folder: Path, images: np.ndarray, threads: int) -> Outputs:
    """Runs `ocellus run` on images (N, H, W, C) and returns what it wrote."""
    source = folder / "x.npy"
    target = folder / "output"
    np.save(source, images)
    command = [str(program), "run", "--model", str(folder), "--input", str(source), "--output", str(target)]
    done = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True)
    source.unlink()
    if done.returncode != 0:
        raise ParityError(f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()}")
    outputs = {}
    for path in sorted(target.glob("*.npy")):
        outputs[path.stem] = np.load(path)
        path.unlink()
    return outputs


def reference_outputs(model: torch.nn.Module, images: np.ndarray) -> Outputs:
    """The reference's outputs in the program's layout: logits (N, H/4, W/4, K) or (N, K); YOLO's maps p3, p4, p5."""
    dtype = next(model.parameters()).dtype
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(dtype)
    with torch.inference_mode():
        if type(model).__name__ == "DetectionModel":
            outputs = dict(zip(yolo_models.OUTPUTS, yolo_models.raw_maps(model, pixels)))
        else:
            interpolates = type(model).__name__ == "ViTForImageClassification"
            output = model(pixels, **({"interpolate_pos_encoding": True} if interpolates else {}))
            outputs = {"logits": getattr(output, "logits", output)}  # torchvision's networks return them as they are
    last = {name: y.permute(0, 2, 3, 1) if y.dim() == 4 else y for name, y in outputs.items()}
    return {name: y.contiguous().numpy() for name, y in last.items()}


def compare(expected: Outputs, actual: Outputs) -> Outcome:
    """The worst of the outputs."""
    if actual.keys() != expected.keys():
        raise ParityError(f"the program wrote {sorted(actual)}, expected {sorted(expected)}")
    outcomes = []
    for name, wanted in expected.items():
        if actual[name].dtype != np.float32:
            raise ParityError(f"{name} is {actual[name].dtype}, expected float32")
        if wanted.shape != actual[name].shape:
            raise ParityError(f"{name} has shape {actual[name].shape}, expected {wanted.shape}")
        difference = np.abs(wanted - actual[name]).max()
        outcomes.append(Outcome(float(difference), float(np.abs(wanted).max())))
    # Written so that NaN is the worst.
    return max(outcomes, key=lambda outcome: outcome.ratio if outcome.ratio == outcome.ratio else float("inf"))


def check_model(program: Path, name: str, cases: list[Case], options: argparse.Namespace) -> bool:
    """Runs the cases of one model on one checkpoint; True if all pass."""
    passed = True
    with tempfile.TemporaryDirectory(prefix="ocellus-parity-") as temporary:
        folder = Path(temporary) if options.keep is None else options.keep / name
        reference = MODELS[name]
        model = reference.make_model(reference.make_config(name, options.labels), options.seed)
        reference.save_checkpoint(model, folder)
        if options.double:
            model = model.double()
        for case in cases:
            started = time.monotonic()
            images = random_images((case.batch, case.height, case.width, 3), options.seed + 1)
            try:
                actual = run_program(program, folder, images, options.threads)
                outcome = compare(reference_outputs(model, images), actual)
                problem = outcome.problem(options.tolerance)
                figures = f"max|d| {outcome.difference:.3e}  max|y| {outcome.maximum:.3f}"
                figures += f"  ratio {outcome.ratio:.2e}  "
            except (ParityError, OSError, ValueError) as error:
                figures, problem = "", str(error)
            passed = passed and not problem
            verdict = f"FAILED: {problem}" if problem else "ok"
            seconds = time.monotonic() - started
            print(f"{str(case):34s}{figures}{verdict}  ({seconds:.1f} s)", flush=True)
    return passed


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HxW, got '{text}'") from None
    if height < 1 or width < 1:
        raise argparse.ArgumentTypeError(f"expected positive sizes, got '{text}'")
    return height, width


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ocellus-parity", description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, required=True, help="path of the `ocellus` program")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", choices=MODELS)
    what.add_argument(
        "--all",
        nargs="?",
        const="transformers",
        choices=REFERENCES,
        metavar="REFERENCE",
        help="every model of transformers (default), torchvision or ultralytics at every size of the acceptance list",
    )
    parser.add_argument("--size", type=_size, default=(512, 512), metavar="HxW", help="with --model (default 512x512)")
    parser.add_argument("--batch", type=int, default=1, help="with --model (default 1)")
    parser.add_argument("--labels", type=int, help="number of classes (default: the model's)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"of the ratio (default {TOLERANCE:g})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the program and of the reference (default 1)")
    parser.add_argument("--double", action="store_true", help="reference in double precision")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the checkpoints to DIR/<model> and keep them")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cases = all_cases(options.all) if options.all else [Case(options.model, *options.size, options.batch)]
    passed = True
    for name in dict.fromkeys(case.model for case in cases):
        passed = check_model(options.program, name, [case for case in cases if case.model == name], options) and passed
        gc.collect()  # the reference's modules are full of cycles, and the next model may need the memory
    print("all cases passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
