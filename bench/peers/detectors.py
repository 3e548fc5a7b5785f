"""The detectors of the comparison in Ultralytics, an external reference that must be installed: networks, problems, and
what its users run before and after the network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from ocellus_weights_tools.detection_parity import random_image
from ocellus_weights_tools.random_values import random_images
from ocellus_weights_tools.yolo_models import build, make_config, make_model, raw_maps, save_checkpoint
from safetensors.torch import load_file

PICTURE = 1080, 810  # height and width before the letterbox
CANDIDATES = 300  # of the places that the network has for the picture
CONFIDENCE, IOU = 0.25, 0.7


def write_picture(size: int, seed: int, picture: Path, images: Path) -> None:
    """A picture (H, W, 3) and what the network gets of it (1, H, W, 3)."""
    pixels = random_image(np.random.default_rng(seed), *PICTURE)
    np.save(picture, pixels)
    np.save(images, np.ascontiguousarray(np.moveaxis(preprocess(pixels, size), 1, -1)))


def write_objects(batch: int, size: int, classes: int, seed: int, images: Path, labels: Path) -> None:
    """Images (N, H, W, 3), and eight objects in each as (N, 8, 5): class and edges in pixels. No two objects overlap:
    which of them gets a place that fits neither is left to chance by the reference."""
    generator = np.random.default_rng(seed)
    np.save(images, random_images((batch, size, size, 3), seed + 1))
    cell = size // 3
    objects = np.zeros((batch, 8, 5), dtype=np.float32)
    for rows in objects:
        for row, place in zip(rows, generator.permutation(9)):
            sides = generator.integers(cell // 3, cell, 2)
            corner = np.array([place % 3, place // 3]) * cell + generator.integers(0, cell - sides)
            row[:] = [generator.integers(classes), *corner, *(corner + sides)]
    np.save(labels, objects)


def write_checkpoint(name: str, mode: str, labels: int, seed: int, images: Path, folder: Path) -> None:
    """A hub directory whose tensors are random, but for the last biases: those of a network that is to be trained start
    as the reference starts them; otherwise the classes' let CANDIDATES places of the image pass."""
    model = make_model(make_config(name, labels), seed)
    head = model.model[-1]
    if mode == "train":
        head.bias_init()
    else:
        pixels = torch.from_numpy(np.load(images)).permute(0, 3, 1, 2)
        with torch.no_grad():
            maps = raw_maps(model, pixels)
            best = torch.cat([logits[:, 4 * head.reg_max :].amax(1).flatten() for logits in maps])
            edge = best.sort(descending=True).values[CANDIDATES - 1 : CANDIDATES + 1].mean()  # between two places
            for branch in head.cv3:
                branch[-1].bias += np.log(CONFIDENCE / (1 - CONFIDENCE)) - edge
    save_checkpoint(model, folder)


def load_network(folder: Path) -> Detector:
    model = build(json.loads((folder / "config.json").read_text()))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return Detector(model)


class Detector(torch.nn.Module):
    """A network of the reference; in evaluation its outputs are the raw maps (N, C, h, w)."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self.network(images)

    def for_inference(self) -> Detector:
        """Norms are folded into convolutions, as the reference does it before it predicts."""
        head = self.network.eval().fuse(verbose=False).model[-1]
        head.forward = lambda features: [
            torch.cat((boxes(x), classes(x)), 1) for boxes, classes, x in zip(head.cv2, head.cv3, features)
        ]
        return self.eval()

    def for_training(self, labels: np.ndarray, size: int) -> Detector:
        """Afterwards loss() knows objects (N, M, 5)."""
        from ultralytics.cfg import get_cfg
        from ultralytics.utils.loss import v8DetectionLoss

        self.network.args = get_cfg()
        self.criterion = v8DetectionLoss(self.network)
        batch, objects, _ = labels.shape
        rows = torch.from_numpy(labels.reshape(-1, 5))
        centre, sides = (rows[:, 1:3] + rows[:, 3:]) / 2, rows[:, 3:] - rows[:, 1:3]
        self.targets = {
            "batch_idx": torch.arange(batch, dtype=torch.float32).repeat_interleave(objects),
            "cls": rows[:, 0],
            "bboxes": torch.cat([centre, sides], 1) / size,
        }
        return self.train()

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        """The reference multiplies its loss by the number of images."""
        return self.criterion(self.network(images), self.targets)[0].sum() / len(images)


def preprocess(picture: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) bytes → (1, 3, size, size), between 0 and 1."""
    from ultralytics.data.augment import LetterBox

    boxed = torch.from_numpy(LetterBox(new_shape=(size, size))(image=picture))[None]
    return boxed.permute(0, 3, 1, 2).contiguous().float().div_(255).numpy()


class Stages:
    """Before and after the network, whichever engine runs it: the reference's own code, OpenCV and PyTorch."""

    def __init__(self, model: Path, picture: Path, size: int, threads: int) -> None:
        import cv2

        torch.set_num_threads(threads)
        self.head = build(json.loads((model / "config.json").read_text())).eval().model[-1]
        cv2.setNumThreads(threads)  # the import of the reference sets one
        self.picture, self.size = np.load(picture), size
        _forget_unusable_torchvision()

    def preprocess(self) -> np.ndarray:
        return preprocess(self.picture, self.size)

    def postprocess(self, maps: list[np.ndarray]) -> np.ndarray:
        """Raw maps (1, C, h, w) → (n, 6): edges in pixels of the picture, score, class."""
        from ultralytics.utils.nms import non_max_suppression
        from ultralytics.utils.ops import scale_boxes

        with torch.inference_mode():
            levels = [torch.from_numpy(logits) for logits in maps]
            joined = torch.cat([logits.flatten(2) for logits in levels], 2)
            boxes, scores = joined.split((4 * self.head.reg_max, self.head.nc), 1)
            decoded = self.head._inference({"boxes": boxes, "scores": scores, "feats": levels})
            found = non_max_suppression(decoded, CONFIDENCE, IOU)[0]
            found[:, :4] = scale_boxes((self.size, self.size), found[:, :4], self.picture.shape)
            return found.numpy()


def _forget_unusable_torchvision() -> None:
    """The reference suppresses through torchvision if that is loaded, otherwise by code of its own in PyTorch."""
    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), IOU)
    except (ImportError, RuntimeError):
        sys.modules.pop("torchvision", None)
