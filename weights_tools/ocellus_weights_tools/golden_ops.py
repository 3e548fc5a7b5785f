"""Golden file of single operations whose conventions are easy to get wrong.

Every case stores its inputs, its output `y`, the random cotangent `dy` and the gradients of <y, dy> by the names
`d<input>`; its attributes stand in the metadata `cases`, a JSON list of objects with `name` and `op`.
"""

from __future__ import annotations

import json
from typing import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import get_cosine_schedule_with_warmup, get_polynomial_decay_schedule_with_warmup


class Cases:
    """Collects tensors under `<case>.<tensor>` and the attributes of each case."""

    def __init__(self, seed: int) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.cases: list[dict] = []
        self._generator = np.random.default_rng(seed)

    def normal(self, *shape: int) -> torch.Tensor:
        """N(0, 1) values that float32 represents exactly, as double."""
        values = self._generator.standard_normal(shape, dtype=np.float32)
        return torch.from_numpy(np.asarray(values, dtype=np.float32)).double()

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._generator.integers(low, high, shape).astype(np.int64))

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._generator.uniform(low, high, shape).astype(np.float32)).double()

    def add(self, name: str, op: str, attributes: dict, tensors: dict[str, torch.Tensor]) -> None:
        self.cases.append({"name": name, "op": op, **attributes})
        for key, tensor in tensors.items():
            self.tensors[f"{name}.{key}"] = tensor

    def differentiate(
        self,
        name: str,
        op: str,
        attributes: dict,
        function: Callable[..., torch.Tensor],
        inputs: dict[str, torch.Tensor],
        constants: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Adds function(*inputs) with the gradient of every input; `constants` are only stored."""
        leaves = {key: tensor.clone().requires_grad_() for key, tensor in inputs.items()}
        y = function(*leaves.values())
        dy = self.normal(*y.shape)
        gradients = torch.autograd.grad(y, list(leaves.values()), dy)
        tensors = {**inputs, **(constants or {}), "y": y.detach(), "dy": dy}
        tensors.update({f"d{key}": gradient for key, gradient in zip(leaves, gradients)})
        self.add(name, op, attributes, tensors)


def _interpolate(cases: Cases) -> None:
    x = cases.normal(1, 2, 5, 7)
    modes = [("nearest", None, False)]
    switches = (False, True)
    modes += [(m, corners, smooth) for m in ("bilinear", "bicubic") for corners in switches for smooth in switches]
    for mode, corners, smooth in modes:
        for size in ((9, 12), (3, 4), (8, 2), (1, 1)):
            suffix = f"{'_corners' if corners else ''}{'_antialias' if smooth else ''}"
            attributes = {"mode": mode, "size": list(size), "align_corners": bool(corners), "antialias": smooth}
            cases.differentiate(
                f"interpolate.{mode}{suffix}.{size[0]}x{size[1]}",
                "interpolate",
                attributes,
                lambda t: F.interpolate(t, size=size, mode=mode, align_corners=corners, antialias=smooth),
                {"x": x},
            )


def _convolutions(cases: Cases) -> None:
    # (in, out, kernel, stride, padding, dilation, groups)
    rows = {
        "plain": (3, 5, (3, 3), (1, 1), (0, 0), (1, 1), 1),
        "stride_padding": (3, 4, (3, 3), (2, 2), (1, 1), (1, 1), 1),
        "uneven": (2, 3, (3, 2), (2, 1), (2, 1), (1, 2), 1),
        "dilated": (2, 3, (3, 3), (1, 1), (2, 2), (2, 2), 1),
        "groups": (4, 6, (3, 3), (1, 2), (1, 1), (1, 1), 2),
        "depthwise": (5, 5, (3, 3), (1, 1), (1, 1), (1, 1), 5),
        "depthwise_multiplier": (3, 6, (3, 3), (2, 2), (1, 1), (1, 1), 3),
        "pointwise": (5, 4, (1, 1), (1, 1), (0, 0), (1, 1), 1),
        "patch": (3, 4, (4, 4), (4, 4), (0, 0), (1, 1), 1),
        "overlap": (3, 4, (7, 7), (4, 4), (3, 3), (1, 1), 1),
    }
    for name, (inputs, outputs, kernel, stride, padding, dilation, groups) in rows.items():
        attributes = {
            "stride": list(stride),
            "padding": list(padding),
            "dilation": list(dilation),
            "groups": groups,
        }
        cases.differentiate(
            f"conv2d.{name}",
            "conv2d",
            attributes,
            lambda x, w, b: F.conv2d(x, w, b, stride, padding, dilation, groups),
            {
                "x": cases.normal(2, inputs, 7, 9),
                "w": cases.normal(outputs, inputs // groups, *kernel),
                "b": cases.normal(outputs),
            },
        )
    # (in, out, kernel, stride, padding, output_padding, dilation, groups)
    rows = {
        "plain": (3, 4, (3, 3), (1, 1), (0, 0), (0, 0), (1, 1), 1),
        "upsample": (3, 2, (2, 2), (2, 2), (0, 0), (0, 0), (1, 1), 1),
        "output_padding": (3, 2, (3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 1),
        "uneven": (2, 3, (3, 2), (2, 3), (1, 0), (1, 2), (1, 2), 1),
        "dilated": (2, 2, (3, 3), (1, 1), (1, 1), (0, 0), (2, 2), 1),
        "groups": (4, 6, (3, 3), (2, 2), (1, 1), (0, 1), (1, 1), 2),
    }
    for name, (inputs, outputs, kernel, stride, padding, extra, dilation, groups) in rows.items():
        attributes = {
            "stride": list(stride),
            "padding": list(padding),
            "output_padding": list(extra),
            "dilation": list(dilation),
            "groups": groups,
        }
        cases.differentiate(
            f"conv_transpose2d.{name}",
            "conv_transpose2d",
            attributes,
            lambda x, w, b: F.conv_transpose2d(x, w, b, stride, padding, extra, groups, dilation),
            {
                "x": cases.normal(2, inputs, 4, 5),
                "w": cases.normal(inputs, outputs // groups, *kernel),
                "b": cases.normal(outputs),
            },
        )


def _pools(cases: Cases) -> None:
    for size in ((3, 4), (1, 1), (5, 2), (8, 9)):
        cases.differentiate(
            f"adaptive_avg_pool2d.{size[0]}x{size[1]}",
            "adaptive_avg_pool2d",
            {"size": list(size)},
            lambda x: F.adaptive_avg_pool2d(x, size),
            {"x": cases.normal(1, 2, 5, 7)},
        )
    for ceil_mode in (False, True):
        for kernel, stride, padding, dilation in (((3, 3), (2, 2), (1, 1), (1, 1)), ((2, 3), (2, 3), (0, 1), (2, 1))):
            name = f"max_pool2d.{kernel[0]}x{kernel[1]}{'_ceil' if ceil_mode else ''}"
            attributes = {
                "kernel_size": list(kernel),
                "stride": list(stride),
                "padding": list(padding),
                "dilation": list(dilation),
                "ceil_mode": ceil_mode,
            }
            cases.differentiate(
                name,
                "max_pool2d",
                attributes,
                lambda x: F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode),
                {"x": cases.normal(1, 2, 6, 8)},
            )
        for include in (False, True):
            attributes = {
                "kernel_size": [3, 2],
                "stride": [2, 3],
                "padding": [1, 1],
                "ceil_mode": ceil_mode,
                "count_include_pad": include,
            }
            cases.differentiate(
                f"avg_pool2d.{'include' if include else 'exclude'}{'_ceil' if ceil_mode else ''}",
                "avg_pool2d",
                attributes,
                lambda x: F.avg_pool2d(x, (3, 2), (2, 3), (1, 1), ceil_mode, include),
                {"x": cases.normal(1, 2, 6, 8)},
            )


def _activations_and_norms(cases: Cases) -> None:
    x = torch.linspace(-7, 7, 141, dtype=torch.float32).double()
    for approximate in ("none", "tanh"):
        cases.differentiate(
            f"gelu.{approximate}",
            "gelu",
            {"approximate": approximate},
            lambda t: F.gelu(t, approximate=approximate),
            {"x": x},
        )
    cases.differentiate(
        "group_norm",
        "group_norm",
        {"groups": 3, "eps": 1e-5},
        lambda t, w, b: F.group_norm(t, 3, w, b, 1e-5),
        {"x": cases.normal(2, 6, 3, 5), "w": cases.normal(6), "b": cases.normal(6)},
    )
    cases.differentiate(
        "layer_norm",
        "layer_norm",
        {"eps": 1e-6},
        lambda t, w, b: F.layer_norm(t, (13,), w, b, 1e-6),
        {"x": cases.normal(2, 4, 13), "w": cases.normal(13), "b": cases.normal(13)},
    )
    for training in (True, False):
        mean = cases.normal(5)
        variance = cases.uniform(0.5, 1.5, 5)
        after_mean = mean.clone()
        after_variance = variance.clone()
        name = f"batch_norm.{'training' if training else 'evaluation'}"
        cases.differentiate(
            name,
            "batch_norm",
            {"training": training, "momentum": 0.1, "eps": 1e-5},
            lambda t, w, b: F.batch_norm(t, after_mean, after_variance, w, b, training, 0.1, 1e-5),
            {"x": cases.normal(3, 5, 2, 3) + 0.5, "w": cases.normal(5), "b": cases.normal(5)},
            {"running_mean": mean, "running_var": variance},
        )
        cases.tensors[f"{name}.running_mean_after"] = after_mean
        cases.tensors[f"{name}.running_var_after"] = after_variance


def _losses(cases: Cases) -> None:
    for weighted in (False, True):
        for smoothing in (0.0, 0.1):
            for reduction in ("mean", "sum", "none"):
                x = 2 * cases.normal(2, 5, 3, 4)
                labels = cases.integers(0, 5, 2, 3, 4)
                labels[0, 0, :2] = 255
                labels[1, 2, 3] = 255
                weight = cases.uniform(0.2, 2.0, 5) if weighted else None
                suffix = f"{'_weight' if weighted else ''}{'_smoothing' if smoothing else ''}"
                constants = {"labels": labels}
                if weight is not None:
                    constants["weight"] = weight
                cases.differentiate(
                    f"cross_entropy.{reduction}{suffix}",
                    "cross_entropy",
                    {"reduction": reduction, "ignore_index": 255, "label_smoothing": smoothing},
                    lambda t: F.cross_entropy(
                        t, labels, weight, ignore_index=255, reduction=reduction, label_smoothing=smoothing
                    ),
                    {"x": x},
                    constants,
                )
    for weighted in (False, True):
        target = cases.uniform(0, 1, 4, 3)
        positive = cases.uniform(0.5, 3.0, 3) if weighted else None
        constants = {"target": target}
        if positive is not None:
            constants["pos_weight"] = positive
        cases.differentiate(
            f"binary_cross_entropy_with_logits{'.pos_weight' if weighted else '.plain'}",
            "binary_cross_entropy_with_logits",
            {"reduction": "mean"},
            lambda t: F.binary_cross_entropy_with_logits(t, target, pos_weight=positive),
            {"x": 4 * cases.normal(4, 3)},
            constants,
        )


def _optimizers(cases: Cases) -> None:
    """`parameter` (D), `gradients` (steps, D) given from outside, `parameters` (steps, D) after each step."""
    steps = 6
    rows = {
        "adamw": (torch.optim.AdamW, {"lr": 0.01, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.1}),
        "adam": (torch.optim.Adam, {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-3, "weight_decay": 0.1}),
        "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False}),
        "sgd_momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.02, "nesterov": False}),
        "sgd_nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.02, "nesterov": True}),
    }
    for name, (kind, options) in rows.items():
        initial = cases.normal(7)
        gradients = cases.normal(steps, 7)
        parameter = nn.Parameter(initial.clone())
        optimizer = kind([parameter], **options)
        history = []
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
            history.append(parameter.detach().clone())
        tensors = {"parameter": initial, "gradients": gradients, "parameters": torch.stack(history)}
        cases.add(f"optimizer.{name}", name, options, tensors)
    for name, limit in (("clips", 1.0), ("leaves", 100.0)):
        gradients = [cases.normal(4), cases.normal(2, 3)]
        parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient.clone()
        norm = nn.utils.clip_grad_norm_(parameters, limit)
        tensors = {"norm": norm}
        for index, (parameter, gradient) in enumerate(zip(parameters, gradients)):
            tensors[f"gradient.{index}"] = gradient
            tensors[f"clipped.{index}"] = parameter.grad
        cases.add(f"clip_gradient_norm.{name}", "clip_gradient_norm", {"max_norm": limit}, tensors)


def _schedules(cases: Cases) -> None:
    """`lr` (steps): the rate used by each step, starting with step 0."""

    def record(name: str, attributes: dict, make: Callable, steps: int = 24) -> None:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=attributes["lr"])
        schedule = make(optimizer)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        cases.add(f"schedule.{name}", name, attributes, {"lr": torch.tensor(rates, dtype=torch.float64)})

    scheduler = torch.optim.lr_scheduler
    record(
        "cosine_annealing",
        {"lr": 0.1, "t_max": 20, "eta_min": 0.01},
        lambda o: scheduler.CosineAnnealingLR(o, 20, eta_min=0.01),
        steps=21,
    )
    record(
        "polynomial",
        {"lr": 0.1, "total_iters": 20, "power": 0.9},
        lambda o: scheduler.PolynomialLR(o, 20, power=0.9),
    )
    record(
        "cosine_with_warmup",
        {"lr": 0.1, "warmup_steps": 5, "total_steps": 20},
        lambda o: get_cosine_schedule_with_warmup(o, 5, 20),
        steps=21,
    )
    record(
        "polynomial_with_warmup",
        {"lr": 0.1, "warmup_steps": 5, "total_steps": 20, "lr_end": 1e-4, "power": 0.9},
        lambda o: get_polynomial_decay_schedule_with_warmup(o, 5, 20, lr_end=1e-4, power=0.9),
    )


def make_ops(seed: int) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    cases = Cases(seed)
    _interpolate(cases)
    _convolutions(cases)
    _pools(cases)
    _activations_and_norms(cases)
    _losses(cases)
    _optimizers(cases)
    _schedules(cases)
    return cases.tensors, {"cases": json.dumps(cases.cases), "seed": str(seed)}
