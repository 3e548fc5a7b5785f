"""Measures what is promised beside speed: scaling to two threads, latency with busy neighbours, memory, size on disk.

Prints one line per promise: the figure, the bar and whether it holds. The exit code is 1 if one does not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

BUSY_LOOPS = 2


class Report:
    def __init__(self) -> None:
        self.well = True

    def line(self, what: str, value: float, bar: float, unit: str = "", at_least: bool = False, more: str = "") -> None:
        met = value >= bar if at_least else value <= bar
        self.well = self.well and met
        sign = ">=" if at_least else "<="
        print(f"{what:58s} {value:8.2f}{unit} {sign} {bar:g}{unit} {'met' if met else 'NOT met'}{more}", flush=True)


def numbers(command: list[str]) -> list[float]:
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


@contextlib.contextmanager
def busy_loops() -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY_LOOPS)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def peak_memory(command: list[str]) -> float:
    """VmHWM in MB of a command that succeeds."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_maxrss * 1024 / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build/bench"), help="build folder (default build/bench)")
    parser.add_argument("--only", nargs="+", choices=("scaling", "latency", "memory", "size"))
    parser.add_argument("--pairs", type=int, default=31, help="of scaling (default 31)")
    parser.add_argument("--runs", type=int, default=200, help="of latency (default 200)")
    options = parser.parse_args()
    bench = options.build / "bench"
    limits, program = str(bench / "bench_limits"), str(options.build / "examples" / "ocellus")
    wanted = options.only or ("scaling", "latency", "memory", "size")
    report = Report()

    if "scaling" in wanted:
        for model, bar in (("segformer-b0", 1.8), ("vit-base", 1.9)):
            low, median, high = numbers([limits, "scaling", model, str(options.pairs)])
            spread = f"  quartiles {low:.2f} - {high:.2f}"
            report.line(f"{model}: 1 thread / 2 threads", median, bar, at_least=True, more=spread)

    if "latency" in wanted:
        command = [limits, "latency", "segformer-b0", str(options.runs)]
        quiet = numbers(command)
        with busy_loops():
            loaded = numbers(command)
        print(f"segformer-b0: quiet p50 {quiet[0]:.1f} ms, p99 {quiet[1]:.1f} ms; beside {BUSY_LOOPS} busy loops", end=" ")
        print(f"p50 {loaded[0]:.1f} ms, p99 {loaded[1]:.1f} ms")
        report.line("segformer-b0: loaded p50 / quiet p50", loaded[0] / quiet[0], 2.5)
        report.line("segformer-b0: loaded p99 / quiet p50", loaded[1] / quiet[0], 6)

    with tempfile.TemporaryDirectory(prefix="ocellus-limits-") as folder:
        if "memory" in wanted:
            subprocess.run([limits, "prepare", folder], check=True)
            model = ["--model", f"{folder}/model", "--threads", "2"]
            segment = [program, "segment", *model, f"{folder}/x.png", "--out", f"{folder}/out"]
            report.line("segformer-b0 512x512: VmHWM of ocellus segment", peak_memory(segment), 120, " MB")
            run = [program, "run", *model, "--input", f"{folder}/x.npy", "--output", f"{folder}/out"]
            report.line("segformer-b0 512x512: VmHWM of ocellus run", peak_memory(run), 120, " MB")
        if "size" in wanted:
            stripped = shutil.copy(bench / "bench_one_model", folder)
            subprocess.run(["strip", stripped], check=True)
            size = Path(stripped).stat().st_size / 1e6
            report.line("application with one model, all instruction sets", size, 3, " MB")
    return 0 if report.well else 1


if __name__ == "__main__":
    sys.exit(main())
