"""Golden file of detection: overlaps of boxes, letterbox, suppression and the training loss of YOLOv8, as Ultralytics'
implementation computes them. It is called as a reference and is no part of this package."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from torch import nn

CLASSES = 3
BINS = 16
STRIDES = (8, 16, 32)
SIZE = 64  # of the input, a power of two: fractions of it are exact
NEAR = 1e-3  # scores and overlaps nearer to their threshold than this are drawn again


def _boxes(generator: np.random.Generator, count: int, side: float) -> np.ndarray:
    corner = generator.uniform(0, 0.7 * side, (count, 2))
    size = generator.uniform(0.1 * side, 0.5 * side, (count, 2))
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def _overlaps(generator: np.random.Generator, tensors: dict[str, torch.Tensor]) -> None:
    from ultralytics.utils.metrics import bbox_iou

    a = _boxes(generator, 40, 50)
    b = _boxes(generator, 40, 50)
    b[:20] = a[:20] + generator.uniform(-5, 5, (20, 4))  # most of these overlap a lot
    tensors["overlap.a"] = torch.from_numpy(a)
    tensors["overlap.b"] = torch.from_numpy(b)
    for kind in ("iou", "giou", "diou", "ciou"):
        x = torch.from_numpy(a).double().requires_grad_()
        options = {} if kind == "iou" else {kind[0].upper() + "IoU": True}
        value = bbox_iou(x, torch.from_numpy(b).double(), xywh=False, **options).squeeze(-1)
        value.sum().backward()
        tensors[f"overlap.{kind}"] = value
        tensors[f"overlap.{kind}.da"] = x.grad


def _letterbox(generator: np.random.Generator, tensors: dict[str, torch.Tensor]) -> list[dict]:
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.ops import scale_boxes

    cases = []
    for height, width, target in ((37, 53, (64, 64)), (90, 61, (32, 48)), (24, 24, (40, 33)), (50, 7, (32, 32))):
        name = f"letterbox.{height}x{width}"
        image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        boxed = LetterBox(new_shape=target, auto=False, scaleup=True)(image=image)
        boxes = torch.from_numpy(_boxes(generator, 12, 1.2 * max(target)) - 5)
        tensors[f"{name}.image"] = torch.from_numpy(image)
        tensors[f"{name}.boxed"] = torch.from_numpy(np.ascontiguousarray(boxed))
        tensors[f"{name}.boxes"] = boxes.clone()
        tensors[f"{name}.original"] = scale_boxes(target, boxes.clone(), (height, width))
        cases.append({"name": name, "target": list(target)})
    return cases


def draw_predictions(
    generator: np.random.Generator, rows: int, classes: int, side: float, confidence: float, threshold: float
) -> np.ndarray:
    """Boxes (centre, size) and scores (rows, 4 + classes) whose scores and pairwise overlaps keep clear of the
    thresholds, for as many rows as are left."""
    boxes = _boxes(generator, rows, side)
    # Some rows see the same object.
    copies = generator.integers(0, rows // 3, rows)
    boxes = boxes[copies] + generator.uniform(-0.03 * side, 0.03 * side, (rows, 4)).astype(np.float32)
    scores = generator.uniform(0, 1, (rows, classes)).astype(np.float32) ** 3
    kept: list[int] = []
    for row in range(rows):
        if (np.abs(scores[row] - confidence) < NEAR).any():
            continue
        x1, y1 = np.maximum(boxes[row, :2], boxes[kept, :2]).T
        x2, y2 = np.minimum(boxes[row, 2:], boxes[kept, 2:]).T
        shared = np.clip(x2 - x1, 0, None) * np.clip(y2 - y1, 0, None)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        share = shared / (areas[row] + areas[kept] - shared)
        if (np.abs(share - threshold) < NEAR).any():
            continue
        kept.append(row)
    boxes, scores = boxes[kept], scores[kept]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centre, boxes[:, 2:] - boxes[:, :2], scores], axis=1).astype(np.float32)


def _suppression(generator: np.random.Generator, tensors: dict[str, torch.Tensor]) -> list[dict]:
    from ultralytics.utils.nms import non_max_suppression

    cases = []
    for name, options in {
        "default": {"conf_thres": 0.25, "iou_thres": 0.7},
        "agnostic": {"conf_thres": 0.4, "iou_thres": 0.5, "agnostic": True},
        "several_labels": {"conf_thres": 0.1, "iou_thres": 0.6, "multi_label": True},
        "few": {"conf_thres": 0.1, "iou_thres": 0.6, "max_det": 20},
    }.items():
        rows = draw_predictions(generator, 150, CLASSES, 300, options["conf_thres"], options["iou_thres"])
        prediction = torch.from_numpy(rows.T.copy())[None]
        with mock.patch.dict(sys.modules):
            # It would call torchvision's compiled operator where that is imported (vision_models.py says why not).
            sys.modules.pop("torchvision", None)
            # Its limit of time would end the work early on a busy machine.
            found, index = non_max_suppression(prediction, max_time_img=100, return_idxs=True, **options)
        tensors[f"nms.{name}.prediction"] = torch.from_numpy(rows)
        tensors[f"nms.{name}.found"] = found[0]
        tensors[f"nms.{name}.rows"] = index[0].reshape(-1).long()
        cases.append({"name": f"nms.{name}", **options})
    return cases


class _Head(nn.Module):
    """What the loss asks of a model."""

    def __init__(self) -> None:
        super().__init__()
        self.stride = torch.tensor(STRIDES, dtype=torch.float32)
        self.nc = CLASSES
        self.reg_max = BINS
        self.weight = nn.Parameter(torch.zeros(1))


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleList([_Head()])
        self.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)


class LossReference:
    """The reference's loss of maps (N, C, H, W), one per stride, and objects (M, 6): picture, label and edges.

    An object takes ten places, and where fewer fit it at all, the reference takes some whose fit is 0. They cost
    nothing, but a place that another object claims too then goes to the object around it that its box overlaps most,
    which may be a third one. Which places those are is left to the order in which torch.topk gives equal values;
    `arbitrary` says whether the last call took any."""

    def __init__(self) -> None:
        self.arbitrary = False

    def __call__(
        self, maps: list[np.ndarray], targets: np.ndarray, side: int, least_side: int
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """The weighted terms box, cls and dfl, and the gradient of their sum times N for each map."""
        from ultralytics.utils.loss import v8DetectionLoss

        criterion = v8DetectionLoss(_Model())
        criterion.assigner.stride_val = least_side
        self.arbitrary = False
        claim = criterion.assigner.get_pos_mask

        def watch(*arguments: object) -> tuple[torch.Tensor, ...]:
            claims, fits, overlaps = claim(*arguments)
            self.arbitrary |= bool(((claims > 0) & (fits == 0)).any())
            return claims, fits, overlaps

        criterion.assigner.get_pos_mask = watch
        inputs = [torch.from_numpy(x).double().requires_grad_() for x in maps]
        joined = torch.cat([x.flatten(2) for x in inputs], 2)
        rows = torch.from_numpy(targets[np.argsort(targets[:, 0], kind="stable")])
        centre, size = (rows[:, 2:4] + rows[:, 4:]) / 2, rows[:, 4:] - rows[:, 2:4]
        batch = {"batch_idx": rows[:, 0], "cls": rows[:, 1], "bboxes": torch.cat([centre, size], 1) / side}
        predictions = {"boxes": joined[:, : 4 * BINS], "scores": joined[:, 4 * BINS :], "feats": inputs}
        loss, terms = criterion(predictions, batch)
        loss.sum().backward()
        names = ("box_loss", "cls_loss", "dfl_loss")
        return np.array([terms[name].item() for name in names]), [x.grad.numpy() for x in inputs]


def _targets(generator: np.random.Generator) -> np.ndarray:
    """(M, 6) of picture, label and edges; pictures 0 and 2 have objects, 1 has none. Quarters of pixels."""
    rows = []
    for picture, count in ((0, 9), (2, 2)):
        corner = generator.integers(0, 4 * 44, (count, 2)) / 4
        size = generator.integers(4 * 6, 4 * 40, (count, 2)) / 4
        corners = np.concatenate([corner, np.minimum(corner + size, SIZE)], axis=1)
        labels = generator.integers(0, CLASSES, (count, 1))
        rows.append(np.concatenate([np.full((count, 1), picture), labels, corners], axis=1))
    small = [[0, 1, 20, 21, 22.5, 24], [0, 2, 40, 8, 40, 30]]  # between the centres; without any area
    return np.concatenate([*rows, small]).astype(np.float32)


def _loss(generator: np.random.Generator, tensors: dict[str, torch.Tensor]) -> list[dict]:
    pictures = 3
    targets = _targets(generator)
    tensors["loss.targets"] = torch.from_numpy(targets)
    maps = []
    for stride in STRIDES:
        side = SIZE // stride
        x = generator.standard_normal((pictures, 4 * BINS + CLASSES, side, side)).astype(np.float32)
        # Short distances are likelier, so that boxes have the size of the objects.
        x[:, : 4 * BINS] -= np.tile(0.25 * np.arange(BINS, dtype=np.float32), 4)[None, :, None, None]
        maps.append(x)
        tensors[f"loss.map.{stride}"] = torch.from_numpy(x)
    cases = []
    for name, least_side, rows in (
        ("plain", 0, targets),
        ("least_side", 16, targets),
        ("empty", 0, targets[:0]),
    ):
        reference = LossReference()
        terms, gradients = reference(maps, rows, SIZE, least_side)
        if reference.arbitrary:
            raise RuntimeError("the reference's answer depends on an order that it does not define: change the seed")
        tensors[f"loss.{name}.terms"] = torch.from_numpy(terms)
        for stride, gradient in zip(STRIDES, gradients):
            tensors[f"loss.{name}.dmap.{stride}"] = torch.from_numpy(gradient)
        cases.append({"name": f"loss.{name}", "least_side": least_side, "objects": len(rows)})
    return cases


def make_detection(seed: int) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    generator = np.random.default_rng(seed)
    tensors: dict[str, torch.Tensor] = {}
    _overlaps(generator, tensors)
    metadata = {
        "letterbox": json.dumps(_letterbox(generator, tensors)),
        "nms": json.dumps(_suppression(generator, tensors)),
        "loss": json.dumps(_loss(generator, tensors)),
        "seed": str(seed),
    }
    return tensors, metadata
