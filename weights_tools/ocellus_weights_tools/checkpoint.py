"""Random checkpoints of transformers' models: every tensor random, activations of order one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .random_values import randomize

if TYPE_CHECKING:  # imported where it is used: the list of models needs no transformers
    from transformers import PreTrainedModel, SegformerConfig, ViTConfig

# Table 6 of the SegFormer paper (Xie et al. 2021) as the published hub configurations spell it.
SEGFORMER_VARIANTS = {
    "b0": {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    "b1": {"hidden_sizes": [64, 128, 320, 512], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    "b2": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768},
    "b3": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 18, 3], "decoder_hidden_size": 768},
    "b4": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 8, 27, 3], "decoder_hidden_size": 768},
    "b5": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 6, 40, 3], "decoder_hidden_size": 768},
}

# Nothing in it is what the published variants have: widths that are no multiple of a SIMD register, head sizes
# 12, 9, 9 and 17, other ratios, other labels.
SEGFORMER_ODD = {
    "hidden_sizes": [24, 36, 63, 85],
    "depths": [1, 3, 2, 1],
    "num_attention_heads": [2, 4, 7, 5],
    "sr_ratios": [4, 4, 2, 1],
    "mlp_ratios": [3, 4, 2, 5],
    "decoder_hidden_size": 90,
}

MODELS = (*(f"segformer-{name}" for name in SEGFORMER_VARIANTS), "segformer-odd", "vit-base", "vit-odd")


def make_config(name: str, num_labels: int | None = None) -> SegformerConfig | ViTConfig:
    """The configuration of one of MODELS, all dropout rates 0; `num_labels` None takes the model's own choice."""
    from transformers import SegformerConfig, ViTConfig

    if name.startswith("segformer-"):
        variant = name.removeprefix("segformer-")
        shape = SEGFORMER_ODD if variant == "odd" else SEGFORMER_VARIANTS[variant]
        labels = num_labels or (7 if variant == "odd" else 19)
        return SegformerConfig(
            **shape,
            num_labels=labels,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            classifier_dropout_prob=0.0,
            drop_path_rate=0.0,
        )
    if name == "vit-base":
        return ViTConfig(num_labels=num_labels or 1000)
    if name == "vit-odd":
        return ViTConfig(
            hidden_size=75,
            num_hidden_layers=3,
            num_attention_heads=5,
            intermediate_size=133,
            image_size=70,
            patch_size=14,
            num_labels=num_labels or 11,
            qkv_bias=False,
            layer_norm_eps=1e-6,
        )
    raise ValueError(f"unknown model '{name}'; expected one of {', '.join(MODELS)}")


def make_model(config: SegformerConfig | ViTConfig, seed: int) -> PreTrainedModel:
    """The reference model in evaluation mode with every tensor of its state dict random."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, ViTForImageClassification

    if isinstance(config, SegformerConfig):
        model = SegformerForSemanticSegmentation(config)
    else:
        model = ViTForImageClassification(config)
    config.architectures = [type(model).__name__]
    randomize(model, np.random.default_rng(seed))
    return model.eval()


def save_checkpoint(model: PreTrainedModel, folder: Path) -> None:
    """Writes a hub directory: config.json, model.safetensors, preprocessor_config.json."""
    from transformers import SegformerConfig, SegformerImageProcessor, ViTImageProcessor

    model.save_pretrained(folder)
    if isinstance(model.config, SegformerConfig):
        SegformerImageProcessor(do_reduce_labels=False).save_pretrained(folder)
    else:
        side = model.config.image_size
        ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
