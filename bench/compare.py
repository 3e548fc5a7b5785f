"""Compares two files of Google Benchmark (--benchmark_out=FILE): a stored baseline and a new run.

Prints new time / old time of every row that both have, slowest first, and the rows that only one has. The exit code is
1 if a row is slower by more than the threshold or missing, 2 if the files were not measured alike.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

# Another instruction set or number of threads is another benchmark.
CONTEXT = ("instruction_set", "threads")


def read_times(data: dict) -> dict[str, float]:
    """Nanoseconds by row; of repetitions, their median."""
    nanoseconds = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
    times: dict[str, list[float]] = {}
    for row in data["benchmarks"]:
        if row.get("run_type", "iteration") == "iteration":
            times.setdefault(row.get("run_name", row["name"]), []).append(row["real_time"] * nanoseconds[row["time_unit"]])
    return {name: statistics.median(values) for name, values in times.items()}


def compare(old: dict[str, float], new: dict[str, float], threshold: float) -> tuple[list[str], bool]:
    """The lines to print, and whether all is well."""
    ratios = {name: new[name] / old[name] for name in old if name in new}
    lines, well = [], True
    for name, ratio in sorted(ratios.items(), key=lambda item: -item[1]):
        slower = ratio > 1 + threshold
        well = well and not slower
        lines.append(f"{ratio:7.3f}  {name}{'  SLOWER' if slower else ''}")
    for name in old:
        if name not in new:
            lines.append(f"MISSING  {name}")
            well = False
    lines += [f"    new  {name}" for name in new if name not in old]
    if ratios:
        mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios.values()))
        lines.append(f"{mean:7.3f}  geometric mean of {len(ratios)} rows, new time / old time")
    return lines, well


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("baseline", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--threshold", type=float, default=0.1, help="allowed slowdown of a row (default 0.1: 10 %%)")
    options = parser.parse_args(arguments)
    old, new = (json.loads(path.read_text()) for path in (options.baseline, options.new))
    for field in CONTEXT:
        values = [data["context"].get(field) for data in (old, new)]
        if values[0] != values[1]:
            print(f"{field}: '{values[0]}' in {options.baseline}, '{values[1]}' in {options.new}", file=sys.stderr)
            return 2
    lines, well = compare(read_times(old), read_times(new), options.threshold)
    print("\n".join(lines))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
