"""Times SegFormer-B0 in Ocellus and in PyTorch, interleaved, after comparing what both compute.

Both sides are processes that speak the line protocol of README.md. Every round asks each of them for one run, in an
order that rotates; the ratio of a round is PyTorch's time divided by ours, and the result is the median of the rounds
with its quartiles. The exit code is 1 if outputs differ or, with --require, if the median is below what is required.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PEER = Path(__file__).with_name("torch_segformer.py")
PEER_LAYOUTS = ("eager", "channels_last")
OURS = "ocellus"
# What "the same result" means before anything is timed: the logits as in the parity check, the losses of three
# training steps as far as float32 and AdamW's division by small numbers let them agree.
LOGIT_TOLERANCE = 1e-4
LOSS_TOLERANCE = 1e-3
# The order within a round rotates, and each side's threads get this long to fall asleep before the other one starts.
PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Task:
    name: str
    mode: str
    height: int
    width: int
    batch: int
    required_ratio: float


TASKS = {
    "infer": Task("SegFormer-B0 inference", "infer", 512, 512, 1, 1.5),
    "train": Task("SegFormer-B0 training step", "train", 256, 256, 4, 1.0),
}


class PeerError(Exception):
    """A peer ended, answered in the wrong form, or computed something else."""


class Peer:
    """A process of the line protocol: ready after construction, one `run` at a time."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )
        answer = self._read()
        if answer != "ready":
            self.close()
            raise PeerError(f"{name}: expected 'ready', got '{answer}'")

    def run(self) -> float:
        """One run; its milliseconds as the peer measured them."""
        try:
            self._process.stdin.write("run\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(f"{self.name}: ended early") from None
        answer = self._read()
        try:
            return float(answer)
        except ValueError:
            raise PeerError(f"{self.name}: expected milliseconds, got '{answer}'") from None

    def close(self) -> None:
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


def write_problem(task: Task, labels: int, seed: int, folder: Path) -> list[str]:
    """Writes checkpoint, images and labels; returns the arguments every peer gets, all but --output."""
    from ocellus_weights_tools.checkpoint import make_config, make_model, random_images, save_checkpoint

    model = make_model(make_config("segformer-b0", labels), seed)
    save_checkpoint(model, folder / "model")
    np.save(folder / "x.npy", random_images((task.batch, task.height, task.width, 3), seed + 1))
    arguments = ["--model", str(folder / "model"), "--size", f"{task.height}x{task.width}", "--batch", str(task.batch)]
    arguments += ["--mode", task.mode, "--input", str(folder / "x.npy")]
    if task.mode == "train":
        generator = np.random.default_rng(seed + 2)
        values = generator.integers(0, labels, (task.batch, task.height, task.width), dtype=np.int64)
        values[generator.uniform(size=values.shape) < 0.05] = model.config.semantic_loss_ignore_index
        np.save(folder / "y.npy", values)
        arguments += ["--labels", str(folder / "y.npy")]
    return arguments


def relative_difference(task: Task, ours: Path, theirs: Path) -> float:
    name = "logits.npy" if task.mode == "infer" else "losses.npy"
    try:
        actual, expected = np.load(ours / name), np.load(theirs / name)
    except OSError as error:
        raise PeerError(f"no output to compare: {error}") from None
    if actual.shape != expected.shape:
        raise PeerError(f"{name}: shape {actual.shape} against {expected.shape}")
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def measure(peers: list[Peer], rounds: int, discard: int) -> dict[str, list[float]]:
    """Milliseconds of every round by peer. Each side's first `discard` runs of a turn only refill its caches."""
    times: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for index in range(rounds):
        start = index % len(peers)
        for peer in peers[start:] + peers[:start]:
            time.sleep(PAUSE_SECONDS)
            for _ in range(discard):
                peer.run()
            times[peer.name].append(peer.run())
    return times


def quartiles(values: list[float] | np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in np.percentile(values, [25, 50, 75])]


def run_task(task: Task, options: argparse.Namespace) -> dict:
    """One result object; raises PeerError."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "MKL_NUM_THREADS": str(options.threads)}
    peers: list[Peer] = []
    with tempfile.TemporaryDirectory(prefix="ocellus-peers-") as temporary:
        folder = Path(temporary)
        arguments = write_problem(task, options.labels, options.seed, folder) + ["--threads", str(options.threads)]
        try:
            peers.append(Peer(OURS, [*options.serve.split(), *arguments, "--output", str(folder / OURS)], environment))
            differences = {}
            for layout in PEER_LAYOUTS:
                command = [options.python, str(PEER), *arguments, "--layout", layout]
                peers.append(Peer(layout, [*command, "--output", str(folder / layout)], environment))
                differences[layout] = relative_difference(task, folder / OURS, folder / layout)
            tolerance = LOGIT_TOLERANCE if task.mode == "infer" else LOSS_TOLERANCE
            for layout, difference in differences.items():
                if not difference <= tolerance:
                    raise PeerError(f"outputs differ from {layout} by {difference:.2e} relative, allowed {tolerance:g}")
            times = measure(peers, options.rounds, options.discard)
        finally:
            for peer in peers:
                peer.close()
    fastest = min(PEER_LAYOUTS, key=lambda layout: np.median(times[layout]))
    ratios = {layout: quartiles(np.array(times[layout]) / np.array(times[OURS])) for layout in PEER_LAYOUTS}
    return {
        "schema": "ocellus.peers/1",
        "task": task.mode,
        "size": [task.height, task.width],
        "batch": task.batch,
        "labels": options.labels,
        "threads": options.threads,
        "rounds": options.rounds,
        "difference": differences,
        "ms": {name: {"min": round(min(values), 4), "quartiles": quartiles(values)} for name, values in times.items()},
        "ratio": ratios,
        "fastest_peer": fastest,
        "required_ratio": task.required_ratio,
        "passed": ratios[fastest][1] >= task.required_ratio,
    }


def print_result(task: Task, result: dict) -> None:
    size = "x".join(map(str, result["size"]))
    print(f"{task.name}, {size}, batch {task.batch}, {result['threads']} threads, {result['rounds']} rounds")
    for name, figures in result["ms"].items():
        low, median, high = figures["quartiles"]
        line = f"  {name:14s} median {median:9.2f} ms  quartiles {low:.2f} - {high:.2f}  min {figures['min']:.2f}"
        if name in result["ratio"]:
            low, median, high = result["ratio"][name]
            line += f"   ratio {median:.3f}  quartiles {low:.3f} - {high:.3f}"
            line += f"  (outputs differ by {result['difference'][name]:.1e})"
        print(line)
    verdict = "met" if result["passed"] else "NOT met"
    print(f"  against {result['fastest_peer']}, the faster: {task.required_ratio:g} required, {verdict}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", required=True, help="command of our side, for example build/bench/bench/bench_peers_serve")
    parser.add_argument("--task", nargs="+", choices=sorted(TASKS), default=sorted(TASKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--labels", type=int, default=19, help="classes of the model (default 19)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default 15)")
    parser.add_argument("--discard", type=int, default=1, help="unmeasured runs at the start of each turn (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the PyTorch side")
    parser.add_argument("--json", action="store_true", help="one JSON object per task on stdout, nothing else")
    parser.add_argument("--require", action="store_true", help="fail if a required ratio is not met")
    options = parser.parse_args()
    failed = False
    for name in options.task:
        task = TASKS[name]
        try:
            result = run_task(task, options)
        except (PeerError, OSError) as error:
            print(f"{task.name}: {error}", file=sys.stderr)
            failed = True
            continue
        if options.json:
            print(json.dumps(result), flush=True)
        else:
            print_result(task, result)
        failed = failed or (options.require and not result["passed"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
