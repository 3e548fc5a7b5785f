"""Times one network in Ocellus and in other engines, interleaved, after comparing what they compute.

Every engine is a process that speaks the line protocol of README.md. A round asks each of them for one run, in an order
that rotates; the ratio of a round is the other engine's time divided by ours, and the result is the median of the
rounds with its quartiles. The exit code is 1 if outputs differ or, with --require, if a required ratio is not met.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

OURS = "ocellus"
PYTORCH = ("eager", "channels_last", "compile")
INFERENCE_ENGINES = (*PYTORCH, "onnxruntime", "openvino", "ncnn")
# ncnn takes part where it is installed.
DEFAULT_ENGINES = tuple(name for name in INFERENCE_ENGINES if name != "ncnn" or importlib.util.find_spec("ncnn"))
TRAINING_ENGINES = ("eager", "channels_last")
REFERENCES = ("torch", "torchvision", "transformers", "ultralytics", "opencv-python-headless")
PACKAGES = (*REFERENCES, "onnxruntime", "openvino", "ncnn")
# Above this nothing is timed: another result is another computation.
TOLERANCE = 1e-3
# Detectors: letterboxed pixels may differ by one of 255, and this share of the boxes must have a partner.
PIXEL_TOLERANCE = 1.01 / 255
PAIRED_BOXES = 0.98
# What is timed apart from the network, before and after it.
STAGES = ("preprocess", "postprocess")
# The order within a round rotates, and each engine's threads get this long to fall asleep before the next one starts.
PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Task:
    mode: str
    model: str
    size: int
    batch: int
    labels: int
    required: dict[str, float]  # median ratio against "fastest" of the engines, or against one of them
    optimizer: str = "adamw"

    @property
    def detects(self) -> bool:
        return self.model.startswith("yolo")

    def __str__(self) -> str:
        return f"{self.model} {self.mode} {self.size}x{self.size} batch {self.batch}"


TASKS = (
    Task("infer", "segformer-b0", 512, 1, 19, {"fastest": 1.5, "eager": 3}),
    Task("infer", "segformer-b2", 512, 1, 19, {"fastest": 1.5, "eager": 3}),
    Task("infer", "vit-base", 224, 1, 1000, {"fastest": 1}),
    Task("infer", "resnet50", 224, 1, 1000, {"fastest": 1.1}),
    Task("infer", "vgg16", 224, 1, 1000, {"fastest": 1.1}),
    Task("infer", "mobilenet_v2", 224, 1, 1000, {"fastest": 1}),
    Task("infer", "yolov8n", 640, 1, 80, {"fastest": 1}),
    Task("infer", "yolo11n", 640, 1, 80, {"fastest": 1}),
    Task("train", "segformer-b0", 256, 4, 19, {"eager": 2}),
    Task("train", "vit-small", 224, 8, 1000, {"eager": 1.25}),
    Task("train", "resnet18", 64, 16, 1000, {"eager": 1.25}, optimizer="sgd"),
    Task("train", "yolov8n", 320, 8, 80, {"eager": 1.25}),
)


class PeerError(Exception):
    """A peer ended, answered in the wrong form, or computed something else."""


class Peer:
    """A process of the line protocol: answers one request at a time once it is ready."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )

    def wait_until_ready(self) -> None:
        answer = self._read()
        if answer != "ready":
            raise PeerError(f"{self.name}: expected 'ready', got '{answer}'")

    def ask(self, request: str) -> float:
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(f"{self.name}: ended early") from None
        answer = self._read()
        try:
            return float(answer)
        except ValueError:
            raise PeerError(f"{self.name}: expected a number for '{request}', got '{answer}'") from None

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _read(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"{self.name}: ended with exit code {self._process.wait()}")
        return line.strip()


def write_problem(task: Task, seed: int, folder: Path, needs_onnx: bool) -> list[str]:
    """Writes what is not there yet: checkpoint, images, labels, ONNX file. Returns the arguments that all engines get."""
    images, labels, picture, onnx = (folder / name for name in ("x.npy", "y.npy", "picture.npy", "model.onnx"))
    arguments = ["--model", str(folder / "model"), "--mode", task.mode, "--input", str(images)]
    if task.mode == "train":
        arguments += ["--labels", str(labels), "--optimizer", task.optimizer]
    elif task.detects:
        arguments += ["--picture", str(picture)]
    if not (folder / "model").exists():
        if task.detects:
            write_detection_problem(task, seed, folder / "model", images, labels, picture)
        else:
            write_logits_problem(task, seed, folder / "model", images, labels)
    if needs_onnx and not onnx.exists():
        from reference import write_onnx

        write_onnx(folder / "model", np.load(images), onnx)
    return arguments


def write_logits_problem(task: Task, seed: int, model: Path, images: Path, labels: Path) -> None:
    from reference import random_images, write_checkpoint

    write_checkpoint(task.model, task.labels, seed, model)
    np.save(images, random_images((task.batch, task.size, task.size, 3), seed + 1))
    if task.mode == "train":
        shape = (task.batch, task.size, task.size) if task.model.startswith("segformer") else (task.batch,)
        generator = np.random.default_rng(seed + 2)
        values = generator.integers(0, task.labels, shape, dtype=np.int64)
        if len(shape) > 1:
            values[generator.uniform(size=shape) < 0.05] = 255  # ignored
        np.save(labels, values)


def write_detection_problem(task: Task, seed: int, model: Path, images: Path, labels: Path, picture: Path) -> None:
    from detectors import write_checkpoint, write_objects, write_picture

    if task.mode == "train":
        write_objects(task.batch, task.size, task.labels, seed + 1, images, labels)
    else:
        write_picture(task.size, seed + 1, picture, images)
    write_checkpoint(task.model, task.mode, task.labels, seed, images, model)


def load(path: Path) -> np.ndarray:
    try:
        return np.load(path)
    except OSError as error:
        raise PeerError(f"no output to compare: {error}") from None


def relative_difference(task: Task, ours: Path, theirs: Path) -> float:
    """max |difference| / max |reference| of the logits, or of the losses of three training steps."""
    name = "logits.npy" if task.mode == "infer" else "losses.npy"
    actual, expected = load(ours / name), load(theirs / name)
    if actual.shape != expected.shape:
        raise PeerError(f"{name}: shape {actual.shape} against {expected.shape}")
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def paired_boxes(a: np.ndarray, b: np.ndarray) -> float:
    """The share of the boxes (n, 6) of each list for which the other has one of the same class within a pixel."""
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    near = np.abs(a[:, None, :4] - b[None, :, :4]).max(-1) < 1
    near &= a[:, None, 5] == b[None, :, 5]
    return float(min(near.any(1).mean(), near.any(0).mean()))


def check_stages(images: Path, ours: Path, theirs: Path) -> None:
    """What a detector makes of its picture, and of its own maps."""
    pixels = np.abs(load(ours / "preprocessed.npy") - load(images)).max()
    if not pixels <= PIXEL_TOLERANCE:
        raise PeerError(f"preprocessed pictures differ by {255 * pixels:.2f} of 255")
    paired = paired_boxes(load(ours / "boxes.npy"), load(theirs / "boxes.npy"))
    if paired < PAIRED_BOXES:
        raise PeerError(f"only {100 * paired:.0f} % of the boxes are the same as those of {theirs.name}")


@dataclass
class Times:
    ms: dict[str, list[float]]
    peak: list[float]  # GFLOP/s of the machine, right behind our run of each round


def measure(peers: list[Peer], rounds: int, discard: int, request: str = "run") -> Times:
    """Each engine's first `discard` runs of a turn only refill its caches."""
    times = Times({peer.name: [] for peer in peers}, [])
    for index in range(rounds):
        start = index % len(peers)
        for peer in peers[start:] + peers[:start]:
            time.sleep(PAUSE_SECONDS)
            for _ in range(discard):
                peer.ask(request)
            times.ms[peer.name].append(peer.ask(request))
            if peer.name == OURS and request == "run":
                times.peak.append(peer.ask("peak"))
    return times


def quartiles(values: list[float] | np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in np.percentile(values, [25, 50, 75])]


def run_task(task: Task, engines: list[str], options: argparse.Namespace, folder: Path) -> dict:
    """One result object; raises PeerError."""
    threads = str(options.threads)
    environment = {**os.environ, **{f"{name}_NUM_THREADS": threads for name in ("OMP", "MKL", "OPENBLAS")}}
    needs_onnx = any(engine not in PYTORCH for engine in engines)
    arguments = [*write_problem(task, options.seed, folder, needs_onnx), "--threads", threads]
    script = [options.python, str(Path(__file__).with_name("engines.py")), "--onnx", str(folder / "model.onnx")]
    commands = {OURS: options.serve.split(), **{engine: [*script, "--engine", engine] for engine in engines}}
    with contextlib.ExitStack() as stack:
        peers = []
        for name, command in commands.items():
            peers.append(Peer(name, [*command, *arguments, "--output", str(folder / name)], environment))
            stack.callback(peers[-1].close)
        for peer in peers:
            peer.wait_until_ready()
        differences = {name: relative_difference(task, folder / OURS, folder / name) for name in engines}
        for name, difference in differences.items():
            if not difference <= TOLERANCE:
                raise PeerError(f"outputs differ from {name} by {difference:.2e} relative, allowed {TOLERANCE:g}")
            if "--picture" in arguments:
                check_stages(folder / "x.npy", folder / OURS, folder / name)
        times = measure(peers, options.pairs, options.discard)
        stages = {}
        if "--picture" in arguments:
            stages = {stage: measure(peers, options.pairs, options.discard, stage).ms for stage in STAGES}
        memory = {peer.name: peer.ask("memory") for peer in peers}
        macs = peers[0].ask("macs") if task.mode == "infer" else None
    ours = np.array(times.ms[OURS])
    ratio = {name: quartiles(np.array(times.ms[name]) / ours) for name in engines}
    fastest = min(engines, key=lambda name: ratio[name][1])
    result = {
        "schema": "ocellus.peers/1",
        "mode": task.mode,
        "model": task.model,
        "size": [task.size, task.size],
        "batch": task.batch,
        "labels": task.labels,
        "threads": options.threads,
        "pairs": options.pairs,
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "difference": differences,
        "ms": {name: {"min": round(min(values), 4), "quartiles": quartiles(values)} for name, values in times.ms.items()},
        "memory_mib": {name: round(value, 1) for name, value in memory.items() if not math.isnan(value)},
        "ratio": ratio,
        "fastest": fastest,
        "required": {what: bar for what, bar in task.required.items() if what == "fastest" or what in engines},
        "peak_gflops": quartiles(times.peak),
    }
    if stages:
        result["stages"] = {stage: {name: quartiles(v) for name, v in ms.items()} for stage, ms in stages.items()}
        result["boxes"] = len(load(folder / OURS / "boxes.npy"))
    if macs:
        result["macs"] = macs
        result["share_of_peak"] = quartiles(2e-6 * macs / ours / np.array(times.peak))
    return result


def unmet(result: dict) -> list[str]:
    """The requirements that do not hold, in words. A training step may need no more memory than eager PyTorch's."""
    ratio = {**result["ratio"], "fastest": result["ratio"][result["fastest"]]}
    words = [
        f"{bar:g} against {what} required, {ratio[what][1]:.3f} reached"
        for what, bar in result["required"].items()
        if ratio[what][1] < bar
    ]
    memory = result["memory_mib"]
    if result["mode"] == "train" and "eager" in memory and memory[OURS] > memory["eager"]:
        words.append(f"at most {memory['eager']:.0f} MiB above loading required, {memory[OURS]:.0f} needed")
    return words


def machine() -> dict:
    names = []
    with contextlib.suppress(OSError):
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {"cpu": names[0] if names else platform.processor(), "cpus": os.cpu_count(), "versions": versions}


def print_result(task: Task, result: dict) -> None:
    print(f"{task}, {result['threads']} threads, {result['pairs']} pairs")
    for name, figures in result["ms"].items():
        low, median, high = figures["quartiles"]
        line = f"  {name:14s} median {median:9.2f} ms  quartiles {low:.2f} - {high:.2f}  min {figures['min']:.2f}"
        if name in result["ratio"]:
            low, median, high = result["ratio"][name]
            line += f"   ratio {median:.3f}  quartiles {low:.3f} - {high:.3f}"
            line += f"  (outputs differ by {result['difference'][name]:.1e})"
        if task.mode == "train" and name in result["memory_mib"]:
            line += f"   {result['memory_mib'][name]:.0f} MiB above loading"
        for stage, quartiles_of in result.get("stages", {}).items():
            line += "   " + stage + " {1:.2f} ms ({0:.2f} - {2:.2f})".format(*quartiles_of[name])
        print(line)
    if "boxes" in result:
        print(f"  {result['boxes']} boxes after suppression")
    if "macs" in result:
        share = 100 * result["share_of_peak"][1]
        print(f"  {2e-9 * result['macs']:.2f} GFLOP after folding, {share:.0f} % of the peak beside it", end="")
        print(f" ({result['peak_gflops'][1]:.0f} GFLOP/s)")
    print(f"  fastest of the others: {result['fastest']}; " + ("; ".join(unmet(result)) or "requirements met"), flush=True)


def store(result: dict, path: Path) -> None:
    """Adds a result to a file of results. Engines that were measured in another run of the same task stay."""
    results = json.loads(path.read_text()) if path.exists() else []

    def key(entry: dict) -> tuple:
        return entry["mode"], entry["model"], entry["threads"], *sorted(entry["ratio"])

    results = [entry for entry in results if key(entry) != key(result)] + [result]
    path.write_text(json.dumps(results, indent=1) + "\n")


def markdown(results: list[dict]) -> str:
    """The table of bench/README.md."""
    lines = []
    for field, text in (("cpu", "Machine: {}"), ("versions", "Versions: {}")):
        for value in {json.dumps(result["machine"][field]) for result in results}:
            value = json.loads(value)
            words = ", ".join(f"{name} {version}" for name, version in value.items()) if field == "versions" else value
            lines.append(text.format(words))
    dates = sorted({result["date"] for result in results})
    threads = sorted({str(result["threads"]) for result in results})
    lines += [f"Date: {', '.join(dates)}. Threads: {', '.join(threads)}.", ""]
    lines += ["| work | engine | ms, median (quartiles) | their time / ours | required | memory above loading, MiB |"]
    lines += ["|---|---|---|---|---|---|"]
    stages = []
    order = {(task.mode, task.model): index for index, task in enumerate(TASKS)}
    seen = set()
    for result in sorted(results, key=lambda result: order[result["mode"], result["model"]]):
        work = f"{result['model']} {result['mode']}, {'x'.join(map(str, result['size']))}, batch {result['batch']}"
        for name, figures in result["ms"].items():
            if name == OURS and work in seen:
                continue
            low, median, high = figures["quartiles"]
            ratio = required = ""
            if name in result["ratio"]:
                ratio = "{1:.2f} ({0:.2f} - {2:.2f})".format(*result["ratio"][name])
                bars = [result["required"].get(name), result["required"].get("fastest")]
                required = f"{max(bar for bar in bars if bar):g}" if any(bars) else ""
            memory = result["memory_mib"].get(name, "") if result["mode"] == "train" else ""
            if name == OURS and "macs" in result:
                ratio = f"{100 * result['share_of_peak'][1]:.0f} % of {result['peak_gflops'][1]:.0f} GFLOP/s"
            first = "" if work in seen else work
            seen.add(work)
            if "stages" in result:
                cells = ["{1:.2f} ({0:.2f} - {2:.2f})".format(*result["stages"][stage][name]) for stage in STAGES]
                stages.append(f"| {first} | {name} | {cells[0]} | {cells[1]} |")
            lines.append(f"| {first} | {name} | {median:.2f} ({low:.2f} - {high:.2f}) | {ratio} | {required} | {memory} |")
    if stages:
        lines += ["", "| beside the network of | engine | preprocess, ms | postprocess, ms |", "|---|---|---|---|"]
        lines += stages
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    models = sorted({task.model for task in TASKS})
    parser.add_argument("--serve", help="our side's command, for example build/bench/bench/bench_peers_serve")
    parser.add_argument("--model", nargs="+", choices=models, default=models, metavar="NAME", help=f"of {models}")
    parser.add_argument("--mode", nargs="+", choices=("infer", "train"), default=("infer", "train"))
    parser.add_argument("--engine", nargs="+", choices=INFERENCE_ENGINES, default=DEFAULT_ENGINES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=15, help="interleaved rounds (default 15)")
    parser.add_argument("--discard", type=int, default=1, help="unmeasured runs at the start of each turn (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the other engines")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep checkpoints and ONNX files, and use those there")
    parser.add_argument("--results", type=Path, metavar="FILE", help="add each result to this JSON file")
    parser.add_argument("--markdown", action="store_true", help="print --results as a table and measure nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object per task on stdout, nothing else")
    parser.add_argument("--require", action="store_true", help="fail if a required ratio is not met")
    options = parser.parse_args()
    if options.markdown:
        if not options.results:
            parser.error("--markdown needs --results")
        print(markdown(json.loads(options.results.read_text())))
        return 0
    if not options.serve:
        parser.error("--serve is missing")
    failed = False
    for task in TASKS:
        if task.model not in options.model or task.mode not in options.mode:
            continue
        known = INFERENCE_ENGINES if task.mode == "infer" else TRAINING_ENGINES
        engines = [engine for engine in known if engine in options.engine]
        if not engines:
            continue
        if task.detects and not importlib.util.find_spec("ultralytics"):
            print(f"{task}: left out, its reference, the package ultralytics, is not installed", file=sys.stderr)
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="ocellus-peers-") as temporary:
                folder = (options.keep or Path(temporary)) / f"{task.mode}-{task.model}"
                folder.mkdir(parents=True, exist_ok=True)
                result = run_task(task, engines, options, folder)
        except (PeerError, OSError) as error:
            print(f"{task}: {error}", file=sys.stderr)
            failed = True
            continue
        if options.results:
            store(result, options.results)
        if options.json:
            print(json.dumps(result), flush=True)
        else:
            print_result(task, result)
        failed = failed or (options.require and bool(unmet(result)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
