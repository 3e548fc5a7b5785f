"""Makes the golden files that the C++ tests are held to.

The reference computes in double precision from float32 weights and inputs, and the results are stored as float32:
what a test measures is then the error of the code under test alone. README.md describes the files.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import platform
import sys
from pathlib import Path
from typing import Callable

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open

from .files import write_safetensors
from .random_values import hash_values, hashed, random_images

Tensors = dict[str, torch.Tensor]
Golden = tuple[Tensors, dict[str, str]]

# Seeds at which PyTorch's own float32 gradients stay well inside the tests' tolerance (tests/test_golden.py holds them
# to a quarter of it); at an unlucky seed it is their rounding that a test would measure. The tolerance is 1e-5, and 5e-5
# where a dozen batch norms over few values stand in a row, each of which enlarges the rounding of the ones before; in YOLO
# there are up to fifty, and it is 1e-4 and 2e-4.
SEGFORMER_SEED = 10
VIT_SEED = 1
RESNET18_SEED = 8
RESNET50_SEED = 5
VGG_SEED = 7
MOBILENET_V2_SEED = 9
YOLOV8_SEED = 8
YOLO11_SEED = 32
SEED = 1
ADAMW = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.05, "steps": 5}
# Some gradients vanish in exact arithmetic (a key's bias moves all scores of a softmax alike; a constant before a batch
# norm is subtracted again), and what float32 leaves of them is rounding. Tests compare a gradient with a floor tied to
# the model's largest one, so that one must stand clear of this rounding: the last norm is scaled up, the classifier
# down, which raises the classifier's gradient against all others and keeps the logits of order one.
NORM_SCALE = 10.0
CLASSIFIER_SCALE = 0.05
RELU6_CLASSIFIER_SCALE = 0.005
# Modules without an output of their own: identities here (their output is their input) and lists (that of their last
# child).
ANONYMOUS = ("Dropout", "Identity", "SegformerDropPath", "Sequential", "Conv2dNormActivation")
# YOLO's blocks, whose outputs tell enough, and keep the files small.
YOLO_BLOCKS = ("Conv", "DWConv", "Bottleneck", "C2f", "C3k", "C3k2", "SPPF", "C2PSA", "PSABlock", "Attention")
YOLO_GAIN = 1.3


def _first_tensor(output: object) -> torch.Tensor | None:
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, tuple) and output and isinstance(output[0], torch.Tensor):
        return output[0]
    return getattr(output, "last_hidden_state", None)


def capture(
    model: torch.nn.Module, run: Callable[[], torch.Tensor], kinds: tuple[str, ...] = ()
) -> tuple[Tensors, torch.Tensor]:
    """Runs the model and returns the output of every module, or of those whose types have these names, by its path, and
    what `run` returned."""
    outputs: Tensors = {}
    handles = []

    def watch(path: str) -> Callable:
        def hook(_module: torch.nn.Module, _inputs: tuple, output: object) -> None:
            tensor = _first_tensor(output)
            if tensor is None:
                return
            if path in outputs:
                raise RuntimeError(f"module '{path}' ran twice: its output has no single value")
            outputs[path] = tensor.detach().clone()

        return hook

    for path, module in model.named_modules():
        if kinds and type(module).__name__ not in kinds:
            continue
        # Activations in place change the output before them, and a ResNet's block runs one of them several times.
        if path and type(module).__name__ not in ANONYMOUS and not getattr(module, "inplace", False):
            handles.append(module.register_forward_hook(watch(path)))
    try:
        result = run()
    finally:
        for handle in handles:
            handle.remove()
    return outputs, result


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    """float32 for every real number, own contiguous memory."""
    result = tensor.detach()
    if result.is_floating_point():
        result = result.to(torch.float32)
    return result.clone(memory_format=torch.contiguous_format)


def _add_input(tensors: Tensors, prefix: str, nhwc: np.ndarray) -> torch.Tensor:
    """Stores an image batch in both layouts and returns it as the reference takes it: (N, C, H, W), double."""
    image = torch.from_numpy(nhwc)
    tensors[f"{prefix}input_nhwc"] = image
    tensors[f"{prefix}input"] = image.permute(0, 3, 1, 2).contiguous()
    return tensors[f"{prefix}input"].double()


def logits_and_loss(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor | None = None, **options
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the reference computes; a model of transformers brings its loss along, a torchvision network has none."""
    if hasattr(model, "ocellus_config"):
        logits = model(images)
        return logits, None if labels is None else F.cross_entropy(logits, labels)
    result = model(images, labels=labels, **options)
    return result.logits, result.loss


def _add_evaluation(tensors: Tensors, prefix: str, model: torch.nn.Module, images: torch.Tensor, **options) -> None:
    with torch.no_grad():
        outputs, logits = capture(model, lambda: logits_and_loss(model, images, **options)[0])
    for path, output in outputs.items():
        tensors[f"{prefix}output.{path}"] = output
    tensors[f"{prefix}output.logits"] = logits


def _scale_head(norm: torch.nn.Module, classifier: torch.nn.Module) -> None:
    with torch.no_grad():
        norm.weight *= NORM_SCALE
        norm.bias *= NORM_SCALE
        classifier.weight *= CLASSIFIER_SCALE


def _add_training(tensors: Tensors, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Loss and gradients in training mode (batch norm uses the batch and updates its running statistics), then the
    losses of AdamW steps from the same initial weights."""
    names = [name for name, _ in model.named_parameters()]
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=ADAMW["lr"],
        betas=(ADAMW["beta1"], ADAMW["beta2"]),
        eps=ADAMW["eps"],
        weight_decay=ADAMW["weight_decay"],
    )
    for step in range(ADAMW["steps"]):
        optimizer.zero_grad(set_to_none=True)
        logits, loss = logits_and_loss(model, images, labels)
        loss.backward()
        tensors[f"adamw.loss.{step}"] = loss
        if step == 0:
            tensors["train.loss"] = loss
            tensors["train.logits"] = logits
            for name, parameter in zip(names, model.parameters()):
                tensors[f"train.grad.{name}"] = parameter.grad.clone()
            for name, buffer in model.named_buffers():
                tensors[f"train.buffer.{name}"] = buffer.clone()
        optimizer.step()
    model.eval()


def _model_metadata(config: str, seed: int) -> dict[str, str]:
    return {
        "config": config,
        "adamw": json.dumps(ADAMW),
        "adamw_note": "every parameter is in one group and is decayed; training mode throughout; gradients not clipped",
        "seed": str(seed),
    }


def make_segformer_tiny() -> Golden:
    """SegFormer with odd widths, head sizes 8, 6, 5, 7; images whose maps the reduction ratios do not divide."""
    from transformers import SegformerConfig

    from .checkpoint import make_model

    config = SegformerConfig(
        hidden_sizes=[8, 12, 20, 28],
        depths=[1, 2, 1, 1],
        num_attention_heads=[1, 2, 4, 4],
        sr_ratios=[4, 2, 2, 1],
        mlp_ratios=[3, 4, 2, 3],
        decoder_hidden_size=22,
        num_labels=5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout_prob=0.0,
        drop_path_rate=0.0,
    )
    model = make_model(config, SEGFORMER_SEED)
    _scale_head(model.decode_head.batch_norm, model.decode_head.classifier)
    tensors: Tensors = {f"weight.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    model = model.double()

    images = _add_input(tensors, "", random_images((2, 48, 40, 3), SEGFORMER_SEED + 1))
    generator = np.random.default_rng(SEGFORMER_SEED + 2)
    coarse = generator.choice(config.num_labels, (2, 6, 5), p=[0.15, 0.4, 0.15, 0.15, 0.15])
    labels = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)
    labels[generator.uniform(size=labels.shape) < 0.1] = config.semantic_loss_ignore_index
    labels[1, 30:, :9] = config.semantic_loss_ignore_index
    tensors["labels"] = torch.from_numpy(labels.astype(np.int64))

    _add_evaluation(tensors, "eval.", model, images)
    with torch.no_grad():
        tensors["eval.loss"] = model(images, labels=tensors["labels"]).loss
    odd = _add_input(tensors, "eval_odd.", random_images((1, 41, 53, 3), SEGFORMER_SEED + 3))
    _add_evaluation(tensors, "eval_odd.", model, odd)
    _add_training(tensors, model, images, tensors["labels"])
    return tensors, _model_metadata(model.config.to_json_string(), SEGFORMER_SEED)


def make_vit_tiny() -> Golden:
    """ViT, with its position table interpolated to other sizes, one of them with the table's own number of patches."""
    from transformers import ViTConfig

    from .checkpoint import make_model

    config = ViTConfig(
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=44,
        image_size=32,
        patch_size=8,
        num_labels=5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = make_model(config, VIT_SEED)
    _scale_head(model.vit.layernorm, model.classifier)
    tensors: Tensors = {f"weight.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    model = model.double()

    images = _add_input(tensors, "", random_images((3, 32, 32, 3), VIT_SEED + 1))
    tensors["labels"] = torch.tensor([4, 0, 2], dtype=torch.int64)
    _add_evaluation(tensors, "eval.", model, images)
    with torch.no_grad():
        tensors["eval.loss"] = model(images, labels=tensors["labels"]).loss
    other = _add_input(tensors, "eval_interp.", random_images((1, 45, 61, 3), VIT_SEED + 3))
    _add_evaluation(tensors, "eval_interp.", model, other, interpolate_pos_encoding=True)
    same_count = _add_input(tensors, "eval_interp_same_count.", random_images((1, 16, 64, 3), VIT_SEED + 4))
    with torch.no_grad():
        logits = model(same_count, interpolate_pos_encoding=True).logits
    tensors["eval_interp_same_count.output.logits"] = logits
    _add_training(tensors, model, images, tensors["labels"])
    return tensors, _model_metadata(model.config.to_json_string(), VIT_SEED)


def _make_vision(config: dict, seed: int, size: tuple[int, int], odd_size: tuple[int, int]) -> Golden:
    from .vision_models import make_model

    model = make_model({**config, "num_labels": 5}, seed)
    if config["model_type"] == "mobilenet_v2":
        # The bias of a linear bottleneck is subtracted again by the next norm, and a ReLU6 lets no norm scale be raised.
        with torch.no_grad():
            model.classifier[1].weight *= RELU6_CLASSIFIER_SCALE
    tensors: Tensors = {f"weight.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    model = model.double()

    images = _add_input(tensors, "", random_images((3, *size, 3), seed + 1))
    tensors["labels"] = torch.tensor([4, 0, 2], dtype=torch.int64)
    _add_evaluation(tensors, "eval.", model, images)
    with torch.no_grad():
        tensors["eval.loss"] = logits_and_loss(model, images, tensors["labels"])[1]
    odd = _add_input(tensors, "eval_odd.", random_images((1, *odd_size, 3), seed + 3))
    with torch.no_grad():
        tensors["eval_odd.output.logits"] = model(odd)
    _add_training(tensors, model, images, tensors["labels"])
    return tensors, _model_metadata(json.dumps(model.ocellus_config), seed)


def make_resnet18_tiny() -> Golden:
    """Basic blocks: first of a stage with and without a projection, and a second one."""
    config = {"model_type": "resnet", "variant": "resnet18", "depths": [2, 1, 1, 1], "hidden_sizes": [6, 8, 11, 12]}
    return _make_vision(config, RESNET18_SEED, (56, 40), (45, 61))


def make_resnet50_tiny() -> Golden:
    """Bottlenecks."""
    config = {"model_type": "resnet", "variant": "resnet50", "depths": [1, 2, 1, 1], "hidden_sizes": [4, 5, 6, 8]}
    return _make_vision(config, RESNET50_SEED, (56, 40), (45, 61))


def make_vgg_tiny() -> Golden:
    """VGG, its last map smaller than the one that the classifier reads, and larger."""
    config = {"model_type": "vgg", "variant": "vgg16", "depths": [1, 2, 1, 1, 1], "hidden_sizes": [4, 6, 8, 8, 9]}
    config |= {"classifier_size": 20, "classifier_dropout_prob": 0.0}
    return _make_vision(config, VGG_SEED, (64, 40), (33, 257))


def make_mobilenet_v2_tiny() -> Golden:
    """Inverted residuals with and without expansion, stride and shortcut."""
    config = {"model_type": "mobilenet_v2", "variant": "mobilenet_v2"}
    config |= {"expansions": [1, 6, 4, 6, 6, 6, 3], "hidden_sizes": [4, 5, 6, 6, 7, 8, 10]}
    config |= {"depths": [1, 2, 1, 1, 1, 2, 1], "strides": [1, 2, 2, 2, 1, 2, 1], "last_size": 24, "stem_size": 8}
    config |= {"classifier_dropout_prob": 0.0}
    return _make_vision(config, MOBILENET_V2_SEED, (40, 40), (45, 61))


def yolo_loss(maps: list[torch.Tensor]) -> torch.Tensor:
    """A loss that reaches every parameter: the sum of the maps' mean squares."""
    return sum(map_.square().mean() for map_ in maps)


def yolo_input(shape: list[int], seed: int) -> torch.Tensor:
    """Noise of variance 1 as the reference takes it, (N, C, H, W), from the shape (N, H, W, C)."""
    values = hashed(math.prod(shape), seed * 1024 + 1023) * np.float32(math.sqrt(3))
    return torch.from_numpy(values).reshape(shape).permute(0, 3, 1, 2).contiguous()


def _make_yolo(config: dict, seed: int) -> Golden:
    from .yolo_models import OUTPUTS, build, raw_maps

    config = config | {"variant": "n", "num_labels": 3, "max_channels": 64, "width_multiple": 0.125, "box_bins": 4}
    model = build(config)
    hash_values(model, seed, YOLO_GAIN)
    model = model.double()
    shapes = {"input": [4, 128, 160, 3], "eval.input": [1, 32, 32, 3]}
    tensors: Tensors = {}

    model.eval()
    images = yolo_input(shapes["eval.input"], seed).double()
    with torch.no_grad():
        outputs, maps = capture(model, lambda: raw_maps(model, images), YOLO_BLOCKS)
    tensors |= {f"eval.output.{path}": output for path, output in outputs.items()}
    tensors |= {f"eval.output.{name}": map_ for name, map_ in zip(OUTPUTS, maps)}

    model.train()
    loss = yolo_loss(raw_maps(model, yolo_input(shapes["input"], seed).double()))
    loss.backward()
    tensors["train.loss"] = loss
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            tensors[f"train.grad.{name}"] = parameter.grad
    for name in ("model.0.bn.running_mean", "model.0.bn.running_var"):
        tensors[f"train.buffer.{name}"] = model.get_buffer(name)
    hashed_values = {"seed": seed, "gain": YOLO_GAIN, "inputs": shapes}
    return tensors, {"config": json.dumps(config), "hashed": json.dumps(hashed_values)}


def make_yolov8_tiny() -> Golden:
    """C2f with one and two bottlenecks, with and without shortcut."""
    return _make_yolo({"model_type": "yolov8", "depth_multiple": 0.33}, YOLOV8_SEED)


def make_yolo11_tiny() -> Golden:
    """C3k2 with bottlenecks and with C3k, C2PSA, depthwise class branches."""
    return _make_yolo({"model_type": "yolo11", "depth_multiple": 0.5}, YOLO11_SEED)


def _make_ops() -> Golden:
    from .golden_ops import make_ops

    return make_ops(SEED)


def _make_pillow_resize() -> Golden:
    from .golden_images import make_pillow_resize

    return make_pillow_resize(SEED)


# By the library that the reference is, each of which may live in an environment of its own.
MAKERS: dict[str, dict[str, Callable[[], Golden]]] = {
    "transformers": {
        "segformer_tiny": make_segformer_tiny,
        "vit_tiny": make_vit_tiny,
        "ops": _make_ops,
        "pillow_resize": _make_pillow_resize,
    },
    "torchvision": {
        "resnet18_tiny": make_resnet18_tiny,
        "resnet50_tiny": make_resnet50_tiny,
        "vgg_tiny": make_vgg_tiny,
        "mobilenet_v2_tiny": make_mobilenet_v2_tiny,
    },
    "ultralytics": {
        "yolov8_tiny": make_yolov8_tiny,
        "yolo11_tiny": make_yolo11_tiny,
    },
}
REFERENCE_OF = {name: reference for reference, makers in MAKERS.items() for name in makers}


def versions(reference: str) -> dict[str, str]:
    packages = ("numpy", "pillow", "torch", reference)
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def make(name: str) -> Golden:
    """The tensors and the metadata of one golden file."""
    reference = REFERENCE_OF[name]
    tensors, metadata = MAKERS[reference][name]()
    metadata["versions"] = json.dumps(versions(reference))
    return {key: _stored(tensor) for key, tensor in tensors.items()}, metadata


def difference(path: Path, tensors: Tensors) -> list[str]:
    """What distinguishes the file from freshly made tensors: keys, shapes, and values beyond float32 rounding."""
    problems = []
    with safe_open(path, framework="pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}
    problems += [f"{key}: only in the file" for key in sorted(stored.keys() - tensors.keys())]
    problems += [f"{key}: not in the file" for key in sorted(tensors.keys() - stored.keys())]
    largest_gradient = max((t.abs().max().item() for k, t in tensors.items() if k.startswith("train.grad.")), default=0)
    for key in sorted(stored.keys() & tensors.keys()):
        a, b = stored[key], tensors[key]
        if a.shape != b.shape or a.dtype != b.dtype:
            problems.append(f"{key}: {a.dtype} {tuple(a.shape)} in the file, now {b.dtype} {tuple(b.shape)}")
        elif a.numel() and not torch.equal(a, b):
            error = (a.double() - b.double()).abs().max().item()
            # Some gradients are zero in exact arithmetic; what is left of them is rounding.
            floor = 1e-3 * largest_gradient if key.startswith("train.grad.") else 0
            scale = max(b.double().abs().max().item(), floor)
            if not error <= 1e-6 * scale:
                problems.append(f"{key}: differs by {error:.3g}, its maximum is {scale:.3g}")
    return problems


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ocellus-golden", description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path)
    parser.add_argument(
        "--reference", choices=MAKERS, default="transformers", help="make the files of this library (default transformers)"
    )
    parser.add_argument("--only", nargs="+", choices=sorted(REFERENCE_OF), help="make these files only")
    parser.add_argument("--check", action="store_true", help="write nothing; compare with the files that are there")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in options.only or MAKERS[options.reference]:
        path = options.out_dir / f"{name}.safetensors"
        tensors, metadata = make(name)
        if options.check:
            problems = difference(path, tensors)
            failed = failed or bool(problems)
            print(f"{path}: {'ok' if not problems else 'DIFFERS'}")
            for problem in problems:
                print(f"  {problem}")
        else:
            write_safetensors(tensors, path, metadata)
            print(f"{path}: {len(tensors)} tensors, {path.stat().st_size} bytes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
