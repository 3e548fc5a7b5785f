"""Compares letterbox, suppression, decoding and training loss of detection with the reference's for many random cases."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from safetensors import safe_open

from .files import write_safetensors
from .golden_detection import BINS, CLASSES, NEAR, STRIDES, LossReference, draw_predictions
from .vision_models import load_torchvision

Arrays = dict[str, np.ndarray]


def _run(program: str, command: str, inputs: Arrays, metadata: dict[str, str], *arguments: object) -> Arrays:
    """What bench_peers_detection makes of the inputs."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.safetensors", Path(folder) / "out.safetensors"
        write_safetensors({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in inputs.items()}, source, metadata)
        subprocess.run([program, command, source, target, *map(str, arguments)], check=True)
        with safe_open(target, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}


def random_image(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Slow waves under noise: neighbours are related, and every value occurs."""
    y, x = np.mgrid[:height, :width][..., None] / 12
    phase = generator.uniform(0, 6, (4, 3))
    wave = np.sin(y + phase[0]) + np.cos(x - phase[1]) + np.sin(0.3 * x + phase[2]) * np.cos(0.2 * y + phase[3])
    noise = generator.normal(0, 30, (height, width, 3))
    return np.clip(128 + 50 * wave + noise, 0, 255).astype(np.uint8)


def letterbox(options: argparse.Namespace) -> bool:
    """Pixels within 1 of 255, boxes on their way back exactly."""
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.ops import scale_boxes

    generator = np.random.default_rng(options.seed)
    target = 640, 640
    inputs: Arrays = {}
    for i in range(options.count):
        inputs[f"image.{i}"] = random_image(generator, *generator.integers(16, 1600, 2))
        inputs[f"boxes.{i}"] = generator.uniform(-50, 700, (100, 4)).astype(np.float32)
    ours = _run(options.program, "letterbox", inputs, {}, *target)
    worst, different = 0, 0
    for i in range(options.count):
        image, boxes = inputs[f"image.{i}"], torch.from_numpy(inputs[f"boxes.{i}"].copy())
        theirs = LetterBox(new_shape=target, auto=False)(image=image)
        worst = max(worst, int(np.abs(ours[f"boxed.{i}"].astype(int) - theirs.astype(int)).max()))
        different += int((scale_boxes(target, boxes, image.shape).numpy() != ours[f"original.{i}"]).sum())
    print(f"letterbox: {options.count} images: pixels differ by {worst} of 255 at most, {different} coordinates differ")
    return worst <= 1 and different == 0


def suppression(options: argparse.Namespace) -> bool:
    """The same rows and classes, boxes within 1e-3 pixels."""
    from ultralytics.utils.nms import non_max_suppression

    generator = np.random.default_rng(options.seed)
    inputs: Arrays = {}
    cases: list[dict] = []
    for i in range(options.count):
        confidence, iou = float(generator.uniform(0.05, 0.6)), float(generator.uniform(0.3, 0.8))
        rows, classes = int(generator.integers(50, 600)), int(generator.integers(1, 12))
        inputs[f"prediction.{i}"] = draw_predictions(generator, rows, classes, 640, confidence, iou)
        flags = {name: bool(generator.integers(2)) for name in ("agnostic", "multi_label")}
        cases.append({"conf_thres": confidence, "iou_thres": iou, "max_det": int(generator.integers(20, 400)), **flags})
    ours = _run(options.program, "nms", inputs, {"cases": json.dumps(cases)})
    kept, wrong, worst = 0, 0, 0.0
    for i, case in enumerate(cases):
        prediction = torch.from_numpy(inputs[f"prediction.{i}"].T.copy())[None]
        with mock.patch.dict(sys.modules):
            sys.modules.pop("torchvision", None)
            found, index = non_max_suppression(prediction, max_time_img=1000, return_idxs=True, **case)
        theirs, rows = found[0].numpy(), index[0].reshape(-1).numpy()
        mine = ours[f"found.{i}"]
        kept += len(rows)
        same = len(mine) == len(rows) and (mine[:, 6] == rows).all() and (mine[:, 5] == theirs[:, 5]).all()
        wrong += not same
        if same and len(rows):
            worst = max(worst, float(np.abs(mine[:, :4] - theirs[:, :4]).max()))
    print(f"suppression: {len(cases)} cases, {kept} boxes kept: {wrong} cases differ, boxes by {worst:.2g} pixels")
    return wrong == 0 and worst <= 1e-3


def _undecided(decoded: torch.Tensor, case: dict) -> torch.Tensor:
    """Places with a score, or with an overlap with an earlier candidate, so near to its threshold that rounding
    decides."""
    from ultralytics.utils.metrics import box_iou
    from ultralytics.utils.ops import xywh2xyxy

    scores = decoded[0, 4:].double()
    candidates = torch.where(scores.amax(0) > case["conf_thres"])[0]
    boxes = xywh2xyxy(decoded[0, :4].T.double())[candidates]
    near = ((box_iou(boxes, boxes) - case["iou_thres"]).abs() < NEAR).triu(1).any(0)
    return torch.cat([torch.where(((scores - case["conf_thres"]).abs() < NEAR).any(0))[0], candidates[near]])


def decoding(options: argparse.Namespace) -> bool:
    """The reference's raw maps of random networks and pictures, decoded and suppressed: the same places and classes,
    boxes within 1e-3 pixels, whether all places are decoded or only the likely ones. All logits of classes are moved so
    that 50 to 1000 places pass, but for places of which rounding would decide: those get none."""
    from ultralytics.utils.nms import non_max_suppression

    from .yolo_models import make_config, make_model, raw_maps

    generator = np.random.default_rng(options.seed)
    models = [make_model(make_config(name, labels), options.seed) for name, labels in (("yolov8n", 80), ("yolo11n", 7))]
    inputs: Arrays = {}
    cases: list[dict] = []
    expected: list[tuple[np.ndarray, np.ndarray]] = []
    candidates = 0
    while len(cases) < options.count:
        head = (model := models[len(cases) % len(models)]).model[-1]
        height, width = 32 * generator.integers(7, 15, 2)
        picture = random_image(generator, height, width).transpose(2, 0, 1)[None] / np.float32(255)
        confidence, iou = float(generator.uniform(0.05, 0.6)), float(generator.uniform(0.3, 0.8))
        flags = {name: bool(generator.integers(2)) for name in ("agnostic", "multi_label")}
        case = {"conf_thres": confidence, "iou_thres": iou, "max_det": int(generator.integers(20, 1000)), **flags}
        with torch.inference_mode():
            maps = raw_maps(model, torch.from_numpy(picture))
            best = torch.cat([logits[0, 4 * head.reg_max :].amax(0).flatten() for logits in maps])
            wanted = int(generator.integers(60, min(1300, len(best) - 1)))
            edge = best.sort(descending=True).values[wanted - 1 : wanted + 1].mean()
            boxes, scores = torch.cat([logits.flatten(2) for logits in maps], 2).split((4 * head.reg_max, head.nc), 1)
            # As far apart as leaves the best one a score below 1, where all would be equal.
            scores = (scores - edge) * 5 / (best.max() - edge) + np.log(confidence / (1 - confidence))

            def decode(scores: torch.Tensor) -> torch.Tensor:
                return head._inference({"boxes": boxes, "scores": scores, "feats": maps})

            scores[:, :, _undecided(decode(scores), case)] = -20
            decoded = decode(scores)
            passing = int((decoded[0, 4:].amax(0) > confidence).sum())
            if not 50 <= passing <= 1000:
                continue
            with mock.patch.dict(sys.modules):
                sys.modules.pop("torchvision", None)
                found, index = non_max_suppression(decoded.clone(), max_time_img=1000, return_idxs=True, **case)
            joined = torch.cat([boxes, scores], 1).split([logits[0, 0].numel() for logits in maps], 2)
            maps = [part.view_as(logits) for part, logits in zip(joined, maps)]
        candidates += passing
        for stride, logits in zip(STRIDES, maps):
            inputs[f"map.{len(cases)}.{stride}"] = logits.permute(0, 2, 3, 1).numpy()
        cases.append({**case, "bins": head.reg_max})
        expected.append((found[0].numpy(), index[0].reshape(-1).numpy()))
    ours = _run(options.program, "decode", inputs, {"cases": json.dumps(cases)})
    kept, wrong, worst = 0, 0, 0.0
    for i, (theirs, places) in enumerate(expected):
        mine, likely = ours[f"found.{i}"], ours[f"likely.{i}"]
        kept += len(places)
        same = len(mine) == len(places) == len(likely) and (mine[:, 6] == places).all()
        same = same and (mine[:, 5] == theirs[:, 5]).all() and (likely[:, 5] == theirs[:, 5]).all()
        wrong += not same
        for found in (mine, likely) if same and len(places) else ():
            worst = max(worst, float(np.abs(found[:, :4] - theirs[:, :4]).max()))
    print(
        f"decoding: {len(cases)} cases, {candidates} places pass, {kept} boxes kept: "
        f"{wrong} cases differ, boxes by {worst:.2g} pixels"
    )
    return wrong == 0 and worst <= 1e-3


def loss(options: argparse.Namespace) -> bool:
    """Terms and gradients within 1e-5 of their largest value. Cases in which the reference's answer depends on an order
    that it does not define are drawn again."""
    generator = np.random.default_rng(options.seed)
    inputs: Arrays = {}
    cases: list[dict] = []
    references: list[tuple[np.ndarray, list[np.ndarray]]] = []
    reference = LossReference()
    redrawn = 0
    while len(cases) < options.count:
        i = len(cases)
        pictures, side = int(generator.integers(1, 4)), 32 * int(generator.integers(2, 6))
        maps = []
        for stride in STRIDES:
            shape = (pictures, 4 * BINS + CLASSES, side // stride, side // stride)
            x = generator.normal(0, generator.uniform(0.2, 2), shape).astype(np.float32)
            x[:, : 4 * BINS] -= np.tile(generator.uniform(0, 0.4) * np.arange(BINS), 4)[None, :, None, None]
            x[:, 4 * BINS :] -= generator.uniform(0, 4)
            maps.append(x)
            inputs[f"map.{i}.{stride}"] = x.transpose(0, 2, 3, 1)
        rows = []
        for picture in range(pictures):
            for _ in range(int(generator.integers(0, 15))):
                # Whole pixels: fractions of the side, which the reference takes, lead back to them.
                corner, size = generator.integers(0, side - 8, 2), generator.integers(2, side // 2, 2)
                end = np.minimum(corner + size, side)
                rows.append([picture, generator.integers(CLASSES), *corner, *end])
        targets = np.array(rows, dtype=np.float32).reshape(-1, 6)
        least_side = (0, 16)[int(generator.integers(2))]
        inputs[f"targets.{i}"] = targets
        expected = reference(maps, targets, side, least_side)
        if reference.arbitrary:
            redrawn += 1
            continue
        cases.append({"pictures": pictures, "least_side": least_side})
        references.append(expected)
    ours = _run(options.program, "loss", inputs, {"cases": json.dumps(cases)})
    worst_term = worst_gradient = 0.0
    for i, (terms, gradients) in enumerate(references):
        worst_term = max(worst_term, float(np.abs(ours[f"terms.{i}"] - terms).max() / np.abs(terms).max()))
        for stride, theirs in zip(STRIDES, gradients):
            mine = ours[f"dmap.{i}.{stride}"].transpose(0, 3, 1, 2)
            worst_gradient = max(worst_gradient, float(np.abs(mine - theirs).max() / np.abs(theirs).max()))
    objects = sum(len(inputs[f"targets.{i}"]) for i in range(options.count))
    print(
        f"loss: {options.count} cases ({redrawn} drawn again), {objects} objects: "
        f"terms differ by {worst_term:.2g}, gradients by {worst_gradient:.2g} of their largest value"
    )
    return max(worst_term, worst_gradient) <= 1e-5


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ocellus-detection-parity", description=__doc__)
    parser.add_argument("--program", required=True, help="bench_peers_detection")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, help="cases of each kind (default 50, 200, 200 and 50)")
    options = parser.parse_args(arguments)
    load_torchvision()
    torch.set_num_threads(1)
    passed = True
    for compare, count in ((letterbox, 50), (suppression, 200), (decoding, 200), (loss, 50)):
        passed &= compare(argparse.Namespace(**{**vars(options), "count": options.count or count}))
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
