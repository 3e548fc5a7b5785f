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


def to_channels_last(outputs: list[np.ndarray]) -> np.ndarray:
    """Logits; or a detector's maps, all their places in one row."""
    last = [np.moveaxis(output, 1, -1) for output in outputs]
    if len(last) == 1:
        return last[0]
    return np.concatenate([output.reshape(len(output), -1, output.shape[-1]) for output in last], axis=1)


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
        self.labels = np.load(options.labels) if options.labels else None

    def infer(self) -> Run:
        torch = self.torch
        network = self.network.for_inference()
        if self.compile:
            import torch._inductor.config

            torch._inductor.config.freezing = True
            network = torch.compile(network)

        def run() -> list[np.ndarray]:
            with torch.inference_mode(not self.compile), torch.no_grad():
                outputs = network(self.images)
            return [outputs.numpy()] if isinstance(outputs, torch.Tensor) else [y.numpy() for y in outputs]

        return run

    def train(self) -> Run:
        torch = self.torch
        network = self.network.for_training(self.labels, self.images.shape[-1])
        if self.optimizer_name == "sgd":
            optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        else:
            optimizer = torch.optim.AdamW(network.parameters(), lr=6e-5, weight_decay=0.01)

        def step() -> float:
            optimizer.zero_grad(set_to_none=True)
            loss = network.loss(self.images)
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
        return lambda: self.session.run(None, {"images": self.images})


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
        return lambda: list(self.request.infer({0: self.images}, **self.share).values())


class Ncnn:
    """f32 throughout; its converter pnnx reads the ONNX file once."""

    def __init__(self, options: argparse.Namespace) -> None:
        import ncnn

        self.ncnn = ncnn
        self.images = to_channels_first(np.load(options.input))
        if self.images.shape[0] != 1:
            raise ValueError(f"ncnn takes one image, not {self.images.shape[0]}")
        param = options.onnx.with_suffix(".ncnn.param")
        if not param.exists():
            import pnnx

            shape = ",".join(map(str, self.images.shape))
            converter = [pnnx.EXEC_PATH, options.onnx.name, f"inputshape=[{shape}]", "fp16=0"]
            subprocess.run(converter, cwd=options.onnx.parent, check=True, capture_output=True)
        self.net = ncnn.Net()
        self.net.opt.num_threads = options.threads
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(self.net.opt, option, False)
        self.net.load_param(str(param))
        self.net.load_model(str(param.with_suffix(".bin")))
        self.input = ncnn.Mat(self.images[0]).clone()

    def infer(self) -> Run:
        def run() -> list[np.ndarray]:
            with self.net.create_extractor() as extractor:
                extractor.input("in0", self.input)
                return [np.array(extractor.extract(name)[1])[None] for name in self.net.output_names()]

        return run


ENGINES = {
    "eager": PyTorch,
    "channels_last": PyTorch,
    "compile": PyTorch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "ncnn": Ncnn,
}


def prepare(options: argparse.Namespace) -> tuple[dict[str, Run], Memory]:
    """Loads the engine, writes what is compared, warms up. Returns what can be timed."""
    engine = ENGINES[options.engine](options)
    memory = Memory()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.mode == "train":
        timed = {"run": engine.train()}
        losses = [timed["run"]() for _ in range(COMPARED_STEPS)]
        np.save(options.output / "losses.npy", np.array(losses, dtype=np.float32))
    else:
        timed = {"run": engine.infer()}
        outputs = [output.copy() for output in timed["run"]()]
        np.save(options.output / "logits.npy", to_channels_last(outputs))
        if options.picture:
            from detectors import Stages

            stages = Stages(options.model, options.picture, engine.images.shape[-1], options.threads)
            timed["preprocess"] = stages.preprocess
            timed["postprocess"] = lambda: stages.postprocess(outputs)
            np.save(options.output / "boxes.npy", timed["postprocess"]())
    for run in timed.values():
        for _ in range(WARM_UP_RUNS):
            run()
    return timed, memory


def answer(request: str, timed: dict[str, Run], memory: Memory) -> float:
    if request == "memory":
        return memory.growth()
    if request not in timed:
        raise ValueError(f"unknown request: '{request}'")
    started = time.perf_counter()
    timed[request]()
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
    parser.add_argument("--picture", type=Path, help="a detector's picture.npy: uint8 (H, W, 3); --mode infer")
    parser.add_argument("--labels", type=Path, help="y.npy, as README.md says; --mode train")
    parser.add_argument("--output", required=True, type=Path, help="folder of the arrays to compare")
    timed, memory = prepare(parser.parse_args())
    print("ready", flush=True)
    for line in sys.stdin:
        print(f"{answer(line.strip(), timed, memory):.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
