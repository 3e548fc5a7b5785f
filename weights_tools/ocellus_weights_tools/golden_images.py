"""Golden file of image preprocessing: Pillow's resize and the Pillow-based processors of transformers."""

from __future__ import annotations

import json

import numpy as np
import torch
from PIL import Image
from transformers import SegformerImageProcessor, ViTImageProcessor

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# (height, width): both down, far down, both up, one of each, one axis unchanged, a single pixel.
SIZES = ((13, 9), (3, 4), (50, 41), (40, 7), (29, 33), (1, 1))


def make_pillow_resize(seed: int) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (29, 23, 3), dtype=np.uint8)
    # Saturated edges make bicubic overshoot, so that clipping is tested.
    image[5:15, 4:12] = 255
    image[10:25, 12:20] = 0
    labels = generator.integers(0, 8, (29, 23), dtype=np.uint8)
    tensors = {"image": torch.from_numpy(image), "labels": torch.from_numpy(labels)}
    cases = []
    for filter_name, resample in FILTERS.items():
        for height, width in SIZES:
            name = f"resize.{filter_name}.{height}x{width}"
            resized = Image.fromarray(image).resize((width, height), resample)
            tensors[name] = torch.from_numpy(np.array(resized))
            cases.append({"name": name, "input": "image", "filter": filter_name, "size": [height, width]})
    for height, width in SIZES:
        name = f"resize_labels.nearest.{height}x{width}"
        resized = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
        tensors[name] = torch.from_numpy(np.array(resized))
        cases.append({"name": name, "input": "labels", "filter": "nearest", "size": [height, width]})

    metadata = {"cases": json.dumps(cases)}
    segformer = SegformerImageProcessor(size={"height": 32, "width": 40}, do_reduce_labels=True)
    result = segformer(Image.fromarray(image), segmentation_maps=Image.fromarray(labels), return_tensors="np")
    tensors["segformer_processor.output"] = torch.from_numpy(result["pixel_values"])
    tensors["segformer_processor.labels"] = torch.from_numpy(result["labels"].astype(np.int64))
    metadata["segformer_processor.config"] = segformer.to_json_string()
    vit = ViTImageProcessor(size={"height": 24, "width": 24})
    tensors["vit_processor.output"] = torch.from_numpy(vit(Image.fromarray(image), return_tensors="np")["pixel_values"])
    metadata["vit_processor.config"] = vit.to_json_string()
    return tensors, metadata
