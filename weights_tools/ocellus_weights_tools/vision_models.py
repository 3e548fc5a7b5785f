"""torchvision's classification networks: random checkpoints in the library's form, and tiny ones for golden files.

The published wheel of torchvision is built for PyTorch with CUDA, and beside another PyTorch its compiled operators cannot
be loaded. These networks call none of them, so a declaration of the two that its import asks for is enough.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from .files import write_safetensors
from .random_values import randomize

# By model_type of config.json.
VARIANTS = {
    "resnet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "vgg": ("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    "mobilenet_v2": ("mobilenet_v2",),
}
MODELS = tuple(name for names in VARIANTS.values() for name in names)


def load_torchvision() -> ModuleType:
    """torchvision.models; raises ImportError where torchvision is not installed."""
    if not hasattr(torch.ops.torchvision, "nms"):
        declarations = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            declarations.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        load_torchvision.declarations = declarations  # they last as long as this object
    import torchvision.models

    return torchvision.models


def make_config(name: str, num_labels: int | None = None) -> dict:
    """config.json of one of MODELS."""
    model_type = next((key for key, names in VARIANTS.items() if name in names), None)
    if model_type is None:
        raise ValueError(f"unknown model '{name}'; expected one of {', '.join(MODELS)}")
    return {"model_type": model_type, "variant": name, "num_labels": num_labels or 1000}


def make_model(config: dict, seed: int) -> nn.Module:
    """The reference model in evaluation mode with every tensor of its state dict random; `config` is config.json, which
    may ask for a network smaller than the published ones."""
    builders = {"resnet": _resnet, "vgg": _vgg, "mobilenet_v2": _mobilenet_v2}
    model = builders[config["model_type"]](load_torchvision(), config)
    # A ReLU halves the variance. Residuals make up for that, and the 50 blocks of the deepest ResNet for more.
    gain = math.sqrt(2) if config["model_type"] == "vgg" else 0.8 if config["variant"] == "resnet152" else 1
    randomize(model, np.random.default_rng(seed), gain)
    model.ocellus_config = config
    return model.eval()


def save_checkpoint(model: nn.Module, folder: Path) -> None:
    """Writes a model directory without preprocessor_config.json: the library knows what these networks expect."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.ocellus_config))
    write_safetensors(model.state_dict(), folder / "model.safetensors", {"format": "pt"})


def _published(models: ModuleType, config: dict) -> nn.Module:
    return getattr(models, config["variant"])(weights=None, num_classes=config["num_labels"])


def _resnet(models: ModuleType, config: dict) -> nn.Module:
    if "hidden_sizes" not in config:
        return _published(models, config)
    basic = config["variant"] in ("resnet18", "resnet34")
    block = models.resnet.BasicBlock if basic else models.resnet.Bottleneck
    widths = config["hidden_sizes"]
    model = models.resnet.ResNet(block, [1, 1, 1, 1], config["num_labels"])
    # The constructor knows one set of widths; the parts are made again by its own method.
    model.inplanes = widths[0]
    model.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
    model.bn1 = nn.BatchNorm2d(widths[0])
    for i, (width, depth) in enumerate(zip(widths, config["depths"])):
        setattr(model, f"layer{i + 1}", model._make_layer(block, width, depth, stride=2 if i else 1))
    model.fc = nn.Linear(widths[-1] * block.expansion, config["num_labels"])
    return model


def _vgg(models: ModuleType, config: dict) -> nn.Module:
    if "hidden_sizes" not in config:
        return _published(models, config)
    layers: list[int | str] = []
    for width, depth in zip(config["hidden_sizes"], config["depths"]):
        layers += [width] * depth + ["M"]
    features = models.vgg.make_layers(layers, batch_norm=config["variant"].endswith("_bn"))
    model = models.vgg.VGG(features, config["num_labels"], init_weights=False, dropout=config["classifier_dropout_prob"])
    hidden = config["classifier_size"]
    model.classifier[0] = nn.Linear(config["hidden_sizes"][-1] * 7 * 7, hidden)
    model.classifier[3] = nn.Linear(hidden, hidden)
    model.classifier[6] = nn.Linear(hidden, config["num_labels"])
    return model


def _mobilenet_v2(models: ModuleType, config: dict) -> nn.Module:
    if "hidden_sizes" not in config:
        return _published(models, config)
    from torchvision.ops.misc import Conv2dNormActivation

    widths, last = config["hidden_sizes"], config["last_size"]
    multiplier = config["stem_size"] / 32  # of all widths; the constructor knows no other way to a small first one
    rows = zip(config["expansions"], widths, config["depths"], config["strides"])
    model = models.MobileNetV2(
        config["num_labels"],
        width_mult=multiplier,
        inverted_residual_setting=[[t, c / multiplier, n, s] for t, c, n, s in rows],
        round_nearest=1,
        dropout=config["classifier_dropout_prob"],
    )
    # The constructor knows one width of the last convolution.
    model.features[-1] = Conv2dNormActivation(widths[-1], last, 1, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU6)
    model.classifier[1] = nn.Linear(last, config["num_labels"])
    return model
