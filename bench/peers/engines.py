"""The other engines behind the line protocol of README.md: `engines.py --engine NAME` and the arguments of `serve`.

An engine imports its own libraries when it is chosen, so that no process holds another engine's threads or memory.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np

WARM_UP_RUNS = 2
# The training steps whose losses are compared before anything is timed.
COMPARED_STEPS = 3

Run = Callable[[], object]


def to_channels_last(logits: np.ndarray) -> np.ndarray:
    return np.moveaxis(logits, 1, -1)


def to_channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))


class Memory:
    """The peak of the resident set above what it was at construction, where the system tells."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from the present size
            self._loaded = self._read("VmRSS")
        except OSError:
            self._loaded = None

    def growth(self) -> float:
        """MiB, or NaN."""
        return float("nan") if self._loaded is None else (self._read("VmHWM") - self._loaded) / 1024

    @staticmethod
    def _read(field: str) -> int:
        return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


class PyTorch:
    """Eager in both memory formats, and torch.compile with constants folded (inference only)."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch
        from reference import load_network

        self.torch = torch
        torch.set_num_threads(options.threads)
        torch.set_num_interop_threads(1)
        layout = torch.channels_last if options.engine == "channels_last" else torch.contiguous_format
        self.network = load_network(options.model).to(memory_format=layout)
        images = torch.from_numpy(np.load(options.input))
        self.images = images.permute(0, 3, 1, 2).contiguous(memory_format=layout)
        self.compile = options.engine == "compile"
        self.optimizer_name = options.optimizer
        self.labels = torch.from_numpy(np.load(options.labels)) if options.labels else None

    def infer(self) -> Run:
        torch = self.torch
        network = self.network.eval()
        if self.compile:
            import torch._inductor.config

            torch._inductor.config.freezing = True
            network = torch.compile(network)

        def run() -> np.ndarray:
            with torch.inference_mode(not self.compile), torch.no_grad():
                return network(self.images).numpy()

        return run

    def train(self) -> Run:
        torch = self.torch
        network = self.network.train()
        if self.optimizer_name == "sgd":
            optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        else:
            optimizer = torch.optim.AdamW(network.parameters(), lr=6e-5, weight_decay=0.01)

        def step() -> float:
            optimizer.zero_grad(set_to_none=True)
            logits = network(self.images)
            if logits.dim() == 4:
                logits = torch.nn.functional.interpolate(
                    logits, size=self.labels.shape[-2:], mode="bilinear", align_corners=False
                )
            loss = torch.nn.functional.cross_entropy(logits, self.labels, ignore_index=255)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step


class OnnxRuntime:
    def __init__(self, options: argparse.Namespace) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(options.onnx, settings, providers=["CPUExecutionProvider"])
        self.images = to_channels_first(np.load(options.input))

    def infer(self) -> Run:
        return lambda: self.session.run(None, {"images": self.images})[0]


class OpenVino:
    def __init__(self, options: argparse.Namespace) -> None:
        import openvino

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": options.threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self.request = openvino.Core().compile_model(options.onnx, "CPU", settings).create_infer_request()
        self.images = to_channels_first(np.load(options.input))
        self.share = {"share_inputs": True, "share_outputs": True}  # no copies beside the inference

    def infer(self) -> Run:
        return lambda: self.request.infer({0: self.images}, **self.share)[0]


class Ncnn:
    """f32 throughout; its converter pnnx reads the ONNX file once."""

    def __init__(self, options: argparse.Namespace) -> None:
        import ncnn

        self.ncnn = ncnn
        images = to_channels_first(np.load(options.input))
        if images.shape[0] != 1:
            raise ValueError(f"ncnn takes one image, not {images.shape[0]}")
        param = options.onnx.with_suffix(".ncnn.param")
        if not param.exists():
            import pnnx

            shape = ",".join(map(str, images.shape))
            converter = [pnnx.EXEC_PATH, options.onnx.name, f"inputshape=[{shape}]", "fp16=0"]
            subprocess.run(converter, cwd=options.onnx.parent, check=True, capture_output=True)
        self.net = ncnn.Net()
        self.net.opt.num_threads = options.threads
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(self.net.opt, option, False)
        self.net.load_param(str(param))
        self.net.load_model(str(param.with_suffix(".bin")))
        self.images = ncnn.Mat(images[0]).clone()

    def infer(self) -> Run:
        def run() -> np.ndarray:
            with self.net.create_extractor() as extractor:
                extractor.input("in0", self.images)
                return np.array(extractor.extract("out0")[1])[None]

        return run


ENGINES = {
    "eager": PyTorch,
    "channels_last": PyTorch,
    "compile": PyTorch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "ncnn": Ncnn,
}


def prepare(options: argparse.Namespace) -> tuple[Run, Memory]:
    """Loads the engine, writes what is compared, warms up."""
    engine = ENGINES[options.engine](options)
    memory = Memory()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.mode == "train":
        run = engine.train()
        losses = [run() for _ in range(COMPARED_STEPS)]
        np.save(options.output / "losses.npy", np.array(losses, dtype=np.float32))
    else:
        run = engine.infer()
        np.save(options.output / "logits.npy", to_channels_last(run()))
    for _ in range(WARM_UP_RUNS):
        run()
    return run, memory


def answer(request: str, run: Run, memory: Memory) -> float:
    if request == "memory":
        return memory.growth()
    if request != "run":
        raise ValueError(f"unknown request: '{request}'")
    started = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", required=True, choices=ENGINES)
    parser.add_argument("--model", required=True, type=Path, help="hub directory")
    parser.add_argument("--onnx", type=Path, help="the same network; engines other than PyTorch")
    parser.add_argument("--mode", required=True, choices=("infer", "train"))
    parser.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--input", required=True, type=Path, help="x.npy: float32 (N, H, W, C)")
    parser.add_argument("--labels", type=Path, help="y.npy: int64 (N, H, W) or (N); --mode train")
    parser.add_argument("--output", required=True, type=Path, help="folder of the arrays to compare")
    run, memory = prepare(parser.parse_args())
    print("ready", flush=True)
    for line in sys.stdin:
        print(f"{answer(line.strip(), run, memory):.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
