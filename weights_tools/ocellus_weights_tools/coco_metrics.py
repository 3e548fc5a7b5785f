"""COCO's twelve numbers of small random data sets and its masks, as pycocotools computes them, and how long it takes
for a large data set.

The data sets are drawn by the library's own counter-based generator, so the C++ test draws the same ones and only the
numbers are stored.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SETS = 100
MASKS = 60
FIRST_SEED = 1000


class RandomStream:
    """RandomStream of ocellus/runtime/random.hpp: Philox4x32-10 (Salmon et al., 2011) under the key `seed`."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._next = 0
        self._block: tuple[int, ...] = ()

    def bits(self) -> int:
        if self._next % 4 == 0:
            self._block = self._philox(self._next // 4)
        self._next += 1
        return self._block[(self._next - 1) % 4]

    def below(self, n: int) -> int:
        return self.bits() * n >> 32

    def _philox(self, counter: int) -> tuple[int, ...]:
        mask = 0xFFFFFFFF
        c = [counter & mask, counter >> 32, 0, 0]
        k = [self._seed & mask, self._seed >> 32]
        for _ in range(10):
            p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [p1 >> 32 ^ c[1] ^ k[0], p1 & mask, p0 >> 32 ^ c[3] ^ k[1], p0 & mask]
            k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
        return tuple(c)


def draw(index: int) -> tuple[int, list[tuple[list[dict], list[dict]]]]:
    """Data set `index`: the number of classes, and objects and detections of each picture. Coordinates are quarters, so
    that areas and overlaps are exact and some overlaps are thresholds; most sets have scores that tie."""
    random = RandomStream(FIRST_SEED + index)
    classes = 1 + random.below(5)
    pictures = []
    for picture in range(3 + random.below(8)):
        crowded = index % 10 == 0 and picture == 0  # more detections than count
        objects, detections = [], []
        for _ in range(random.below(12) if random.below(5) else 0):
            side = (40, 160, 700)[random.below(3)]
            x, y = random.below(1600) / 4, random.below(1600) / 4
            width, height = (1 + random.below(side)) / 4, (1 + random.below(side)) / 4
            label, crowd = random.below(classes), random.below(8) == 0
            area = width * height / (2 if random.below(3) == 0 else 1)
            objects.append({"box": [x, y, width, height], "label": label, "crowd": crowd, "area": area})
        for _ in range(120 + random.below(200) if crowded else random.below(25) if random.below(5) else 0):
            if objects and random.below(4):
                near = objects[random.below(len(objects))]
                step = (1, 4, 16)[random.below(3)]
                x, y, width, height = (v + (random.below(9) - 4) * step / 4 for v in near["box"])
                width, height = max(width, 0.25), max(height, 0.25)
                label = near["label"] if random.below(6) else random.below(classes)
            else:
                x, y = random.below(1600) / 4, random.below(1600) / 4
                width, height = (1 + random.below(700)) / 4, (1 + random.below(700)) / 4
                label = random.below(classes)
            steps = 1000 if index % 4 == 3 else 12
            detections.append({"box": [x, y, width, height], "label": label, "score": random.below(steps) / steps})
        pictures.append((objects, detections))
    return classes, pictures


def reference(classes: int, pictures: list[tuple[list[dict], list[dict]]]) -> tuple[list[float], float]:
    """The twelve numbers and the seconds of evaluation and accumulation."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    annotations, results = [], []
    for picture, (objects, detections) in enumerate(pictures):
        for o in objects:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": picture, "category_id": o["label"], "bbox": o["box"]}
                | {"area": o["area"], "iscrowd": int(o["crowd"])}
            )
        for d in detections:
            results.append({"image_id": picture, "category_id": d["label"], "bbox": d["box"], "score": d["score"]})
    truth.dataset = {
        "images": [{"id": i} for i in range(len(pictures))],
        "categories": [{"id": c} for c in range(classes)],
        "annotations": annotations,
        "info": {},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results) if results else COCO(), "bbox")
        evaluation.params.imgIds = list(range(len(pictures)))
        evaluation.params.catIds = list(range(classes))
        start = time.perf_counter()
        evaluation.evaluate()
        evaluation.accumulate()
        seconds = time.perf_counter() - start
        evaluation.summarize()
    return [float(v) for v in evaluation.stats], seconds


def draw_masks() -> list[tuple[tuple[int, int], list[list[float]]]]:
    """Size and polygons of masks, two of each size; corners are eighths and some lie outside."""
    random = RandomStream(FIRST_SEED - 1)
    masks = []
    for index in range(MASKS):
        if index % 2 == 0:
            size = 5 + random.below(60), 5 + random.below(60)
        polygons = []
        for _ in range(1 + random.below(3)):
            polygon = []
            for _ in range(3 + random.below(6)):
                polygon.append(random.below((size[1] + 8) * 8) / 8 - 4)
                polygon.append(random.below((size[0] + 8) * 8) / 8 - 4)
            polygons.append(polygon)
        masks.append((size, polygons))
    return masks


def reference_masks() -> list[list]:
    """Of each mask its compressed counts, area and box (x, y, width, height), and its IoU with the other one of its
    size as an object and as a crowd."""
    from pycocotools import mask as tools

    runs = [tools.merge(tools.frPyObjects(polygons, *size)) for size, polygons in draw_masks()]
    rows = []
    for index, run in enumerate(runs):
        other = runs[index ^ 1]
        row = [run["counts"].decode(), int(tools.area(run)), tools.toBbox(run).tolist()]
        rows.append(row + [float(tools.iou([run], [other], [crowd])[0, 0]) for crowd in (0, 1)])
    return rows


def make() -> dict:
    return {
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "pycocotools")},
        "first_seed": FIRST_SEED,
        "masks": reference_masks(),
        "sets": [reference(*draw(index))[0] for index in range(SETS)],
    }


def _golden(options: argparse.Namespace) -> int:
    made = make()
    if options.check:
        stored = json.loads(options.file.read_text())
        worst = np.abs(np.array(stored["sets"]) - np.array(made["sets"])).max()
        print(f"{options.file}: differs by {worst:.3g} at most")
        same_masks = stored["masks"] == made["masks"]
        print(f"masks: {'ok' if same_masks else 'DIFFER'}")
        return int(not (worst <= 1e-12 and same_masks))
    lists = []
    for name in ("masks", "sets"):
        rows = ",\n".join(json.dumps(row) for row in made.pop(name))
        lists.append(f'"{name}": [\n{rows}\n]')
    options.file.write_text(json.dumps(made)[:-1] + ", " + ", ".join(lists) + "}\n")
    print(f"{options.file}: {options.file.stat().st_size} bytes")
    return 0


def _speed(options: argparse.Namespace) -> int:
    """1 000 pictures, 80 classes, 100 detections each; the same file for both."""
    import torch

    from .files import write_safetensors

    generator = np.random.default_rng(1)
    pictures = []
    for _ in range(options.pictures):
        count = int(generator.integers(0, 20))
        corner, size = generator.uniform(0, 500, (count, 2)), generator.uniform(5, 200, (count, 2))
        labels = generator.integers(0, 80, count)
        objects = [
            {"box": [*map(float, c), *map(float, s)], "label": int(k), "area": float(s[0] * s[1]), "crowd": False}
            for c, s, k in zip(corner, size, labels)
        ]
        detections = []
        for _ in range(100):
            if objects and generator.random() < 0.5:
                near = objects[int(generator.integers(count))]
                box = [float(v) for v in np.array(near["box"]) + generator.normal(0, 5, 4)]
                box[2:] = [max(v, 1.0) for v in box[2:]]
                label = near["label"]
            else:
                box = [float(v) for v in (*generator.uniform(0, 500, 2), *generator.uniform(5, 200, 2))]
                label = int(generator.integers(0, 80))
            detections.append({"box": box, "label": label, "score": float(generator.random())})
        pictures.append((objects, detections))
    truth = [[p, o["label"], *o["box"], o["area"], o["crowd"]] for p, (os, _) in enumerate(pictures) for o in os]
    found = [[p, d["label"], *d["box"], d["score"]] for p, (_, ds) in enumerate(pictures) for d in ds]
    numbers, seconds = reference(80, pictures)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.safetensors"
        tensors = {"truth": torch.tensor(truth, dtype=torch.float64), "found": torch.tensor(found, dtype=torch.float64)}
        write_safetensors(tensors, file, {"classes": "80", "pictures": str(options.pictures)})
        output = subprocess.run([options.program, "coco", file], check=True, capture_output=True, text=True).stdout
    ours = json.loads(output)
    worst = max(abs(a - b) for a, b in zip(ours["values"], numbers))
    print(
        f"pycocotools {seconds:.3f} s, ocellus {ours['seconds']:.4f} s with {ours['threads']} threads: "
        f"{seconds / ours['seconds']:.0f} times as fast; the numbers differ by {worst:.2g}"
    )
    return int(not (worst <= 1e-9 and seconds >= 10 * ours["seconds"]))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ocellus-coco", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    golden = commands.add_parser("golden", help="write the numbers of the small data sets")
    golden.add_argument("file", type=Path)
    golden.add_argument("--check", action="store_true", help="write nothing; compare with the file")
    golden.set_defaults(run=_golden)
    speed = commands.add_parser("speed", help="compare the time for a large data set")
    speed.add_argument("--program", required=True, help="bench_peers_detection")
    speed.add_argument("--pictures", type=int, default=1000)
    speed.set_defaults(run=_speed)
    options = parser.parse_args(arguments)
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
