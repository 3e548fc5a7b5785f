"""The networks of the comparison in PyTorch: random checkpoints as hub directories, read back, and as ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch


def import_torchvision() -> None:
    """torchvision's compiled operators belong to one build of PyTorch; its networks, all that is used here, do not need
    them. Without them its import fails on two undeclared operators, and with it that of transformers."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        import torchvision  # noqa: F401


import_torchvision()

from ocellus_weights_tools.checkpoint import make_config, make_model, save_checkpoint  # noqa: E402
from ocellus_weights_tools.random_values import random_images, randomize  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torchvision import models as torchvision_models  # noqa: E402
from transformers import SegformerForSemanticSegmentation, ViTConfig, ViTForImageClassification  # noqa: E402

__all__ = ["load_network", "random_images", "write_checkpoint", "write_onnx"]

# Our model_type of the networks whose reference is torchvision's function of the same name.
TORCHVISION_TYPES = {"resnet18": "resnet", "resnet50": "resnet", "vgg16": "vgg", "mobilenet_v2": "mobilenet_v2"}


class Logits(torch.nn.Module):
    """A network whose output is the tensor that is compared, channels first."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = self.network(images)
        return output if isinstance(output, torch.Tensor) else output.logits

    def for_inference(self) -> Logits:
        return self.eval()

    def for_training(self, labels: np.ndarray, size: int) -> Logits:
        """Afterwards loss() knows class ids (N, H, W) or (N); `size`, of the images, is what they imply already."""
        self.labels = torch.from_numpy(labels)
        return self.train()

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        logits = self(images)
        if logits.dim() == 4:
            size = self.labels.shape[-2:]
            logits = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return torch.nn.functional.cross_entropy(logits, self.labels, ignore_index=255)


def write_checkpoint(name: str, labels: int, seed: int, folder: Path) -> None:
    """A hub directory whose every tensor is random. All dropout is off, so that training can be compared."""
    if name not in TORCHVISION_TYPES:
        small = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6}
        config = ViTConfig(num_labels=labels, **small) if name == "vit-small" else make_config(name, labels)
        save_checkpoint(make_model(config, seed), folder)
        return
    network = torchvision_models.get_model(name, num_classes=labels)
    generator = np.random.default_rng(seed)
    randomize(network, generator)
    with torch.no_grad():
        # ReLU halves the mean square (He et al., 2015); without this the biases drown 16 layers of VGG.
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.mul_(2**0.5)
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": TORCHVISION_TYPES[name], "variant": name, "num_labels": labels}
    (folder / "config.json").write_text(json.dumps(config))


def load_network(folder: Path) -> torch.nn.Module:
    """Logits, or a Detector of detectors.py."""
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"].startswith("yolo"):
        import detectors

        return detectors.load_network(folder)
    if config["model_type"] == "segformer":
        return Logits(SegformerForSemanticSegmentation.from_pretrained(folder))
    if config["model_type"] == "vit":
        return Logits(ViTForImageClassification.from_pretrained(folder))
    network = torchvision_models.get_model(config["variant"], num_classes=config["num_labels"])
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return Logits(network)


def write_onnx(folder: Path, images: np.ndarray, path: Path) -> None:
    """The network for exactly these images: fixed shapes, channels first, weights in the file."""
    network = load_network(folder).for_inference()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    torch.onnx.export(
        network, (pixels,), str(path), input_names=["images"], opset_version=17, dynamo=False
    )
