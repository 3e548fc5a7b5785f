"""YOLOv8 and YOLO11 of Ultralytics, an external reference: random checkpoints in the library's form, tiny ones for golden
files, and the conversion of a whole-model .pt file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .files import write_safetensors
from .random_values import random_images, randomize

SCALES = ("n", "s", "m", "l", "x")
MODELS = tuple(f"{family}{scale}" for family in ("yolov8", "yolo11") for scale in SCALES)
OUTPUTS = ("p3", "p4", "p5")


def make_config(name: str, num_labels: int | None = None) -> dict:
    """config.json of one of MODELS."""
    if name not in MODELS:
        raise ValueError(f"unknown model '{name}'; expected one of {', '.join(MODELS)}")
    return {"model_type": name[:-1], "variant": name[-1], "num_labels": num_labels or 80}


def build(config: dict) -> nn.Module:
    """The reference model of config.json, which may ask for a network smaller than the published ones."""
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    table = yaml_model_load(f"{config['model_type']}{config['variant']}.yaml")
    scale = table["scales"][config["variant"]]
    keys = ("depth_multiple", "width_multiple", "max_channels")
    table["scales"] = {config["variant"]: [config.get(key, value) for key, value in zip(keys, scale)]}
    if "box_bins" in config:
        table["reg_max"] = config["box_bins"]
    return DetectionModel(table, ch=3, nc=config["num_labels"], verbose=False)


def make_model(config: dict, seed: int) -> nn.Module:
    """The reference model in evaluation mode with every tensor of its state dict random but the fixed values of the
    box distances."""
    model = build(config).eval()
    fixed = model.model[-1].dfl.conv.weight
    values = fixed.detach().clone()
    randomize(model, np.random.default_rng(seed))
    with torch.no_grad():
        fixed.copy_(values)
    _find_gain(model, [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.weight is not fixed])
    model.ocellus_config = config
    return model


def _find_gain(model: nn.Module, weights: list[nn.Parameter]) -> None:
    """Scales the convolutions by one factor, found by bisection, at which the raw maps vary by about one over a picture.
    A hundred SiLUs in a row leave nothing of the picture at a smaller one and nothing but infinity at a larger one."""
    picture = torch.from_numpy(random_images((1, 160, 192, 3), 0)).permute(0, 3, 1, 2).contiguous()
    drawn = [weight.detach().clone() for weight in weights]
    low, high = 1.0, 2.0
    with torch.no_grad():
        for _ in range(10):
            gain = (low + high) / 2
            for weight, start in zip(weights, drawn):
                weight.copy_(gain * start)
            if max(map_.std((2, 3)).mean().item() for map_ in raw_maps(model, picture)) < 1:
                low = gain
            else:
                high = gain


def save_checkpoint(model: nn.Module, folder: Path) -> None:
    """Writes a model directory without preprocessor_config.json: the library knows what these networks expect."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.ocellus_config))
    write_safetensors(model.state_dict(), folder / "model.safetensors", {"format": "pt"})


def raw_maps(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """What the head's two branches give for images (N, C, H, W), before the reference decodes it: per level
    (N, 4 · bins + K, h, w)."""
    head = model.model[-1]
    found: dict[tuple[str, int], torch.Tensor] = {}
    handles = []
    for branch in ("cv2", "cv3"):
        for level, module in enumerate(getattr(head, branch)):

            def keep(_module: nn.Module, _inputs: tuple, output: torch.Tensor, key=(branch, level)) -> None:
                found[key] = output

            handles.append(module.register_forward_hook(keep))
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return [torch.cat([found["cv2", level], found["cv3", level]], 1) for level in range(len(OUTPUTS))]


class ConvertError(Exception):
    """The model cannot be converted; the text says why."""


def config_of(model: nn.Module) -> dict:
    """config.json of a reference model; raises ConvertError for one that is neither YOLOv8 nor YOLO11 for detection."""
    if type(model).__name__ != "DetectionModel":
        raise ConvertError(f"expected a DetectionModel, got {type(model).__name__}")
    model_type = "yolo11" if any(type(layer).__name__ == "C3k2" for layer in model.model) else "yolov8"
    names = model.names if isinstance(model.names, dict) else dict(enumerate(model.names))
    config = {"model_type": model_type, "variant": model.yaml.get("scale") or "n", "num_labels": len(names)}
    if config["variant"] in SCALES:
        expected = {key: tensor.shape for key, tensor in build(config).state_dict().items()}
        if expected == {key: tensor.shape for key, tensor in model.state_dict().items()}:
            return config | {"id2label": {str(i): name for i, name in sorted(names.items())}}
    raise ConvertError(f"is not one of the published sizes ({', '.join(MODELS)})")


def convert(source: Path, folder: Path) -> None:
    """Writes the model directory of a whole-model .pt file. Reading such a file runs the code that it holds."""
    content = torch.load(source, map_location="cpu", weights_only=False)
    model = content.get("ema") or content.get("model") if isinstance(content, dict) else content
    if not isinstance(model, nn.Module):
        raise ConvertError(f"{source}: holds no model")
    try:
        model.ocellus_config = config_of(model)
    except ConvertError as error:
        raise ConvertError(f"{source}: {error}") from error
    save_checkpoint(model.float(), folder)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="ocellus-convert-yolo",
        description="Converts a whole-model .pt file of Ultralytics to a model directory. This runs the code that the "
        "file holds: only for files that you trust.",
    )
    parser.add_argument("source", metavar="IN.pt", type=Path)
    parser.add_argument("folder", metavar="DIR", type=Path, help="directory for config.json and model.safetensors")
    options = parser.parse_args(arguments)
    try:
        convert(options.source, options.folder)
    except (ConvertError, OSError) as error:
        print(f"ocellus-convert-yolo: {error}", file=sys.stderr)
        return 1
    print(f"{options.folder}: {json.loads((options.folder / 'config.json').read_text())['model_type']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
