"""Tests of compare.py on tiny files of Google Benchmark's form: python -m unittest discover bench"""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import compare


def benchmark_file(times: dict, threads: str = "1", unit: str = "us") -> dict:
    rows = [
        {"name": name, "run_name": name, "run_type": "iteration", "real_time": time, "time_unit": unit}
        for name, values in times.items()
        for time in values
    ]
    rows.append({"name": "a_mean", "run_name": "a", "run_type": "aggregate", "real_time": 1e9, "time_unit": unit})
    return {"context": {"instruction_set": "avx2", "threads": threads}, "benchmarks": rows}


class Compare(unittest.TestCase):
    def run_main(self, old: dict, new: dict, *options: str) -> tuple[int, str]:
        with tempfile.TemporaryDirectory() as temporary:
            paths = [Path(temporary) / name for name in ("old.json", "new.json")]
            for path, data in zip(paths, (old, new)):
                path.write_text(json.dumps(data))
            output = io.StringIO()
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                code = compare.main([*map(str, paths), *options])
        return code, output.getvalue()

    def test_same_is_well(self) -> None:
        file = benchmark_file({"a": [10], "b": [20]})
        code, text = self.run_main(file, file)
        self.assertEqual(code, 0)
        self.assertIn("1.000  geometric mean of 2 rows", text)

    def test_slower_row_fails_and_comes_first(self) -> None:
        code, text = self.run_main(benchmark_file({"a": [10], "b": [20]}), benchmark_file({"a": [10], "b": [23]}))
        self.assertEqual(code, 1)
        self.assertTrue(text.startswith("  1.150  b  SLOWER\n  1.000  a\n"), text)

    def test_threshold(self) -> None:
        old, new = benchmark_file({"a": [10]}), benchmark_file({"a": [11.5]})
        self.assertEqual(self.run_main(old, new, "--threshold", "0.2")[0], 0)
        self.assertEqual(self.run_main(old, new, "--threshold", "0.1")[0], 1)

    def test_repetitions_give_their_median(self) -> None:
        code, text = self.run_main(benchmark_file({"a": [10, 11, 90]}), benchmark_file({"a": [11]}))
        self.assertEqual(code, 0, text)

    def test_units(self) -> None:
        code, text = self.run_main(benchmark_file({"a": [1]}, unit="ms"), benchmark_file({"a": [1000]}, unit="us"))
        self.assertEqual(code, 0, text)

    def test_missing_row_fails_and_new_row_does_not(self) -> None:
        code, text = self.run_main(benchmark_file({"a": [1], "b": [1]}), benchmark_file({"b": [1], "c": [1]}))
        self.assertEqual(code, 1)
        self.assertIn("MISSING  a", text)
        self.assertEqual(self.run_main(benchmark_file({"a": [1]}), benchmark_file({"a": [1], "c": [1]}))[0], 0)

    def test_other_threads_are_not_compared(self) -> None:
        code, text = self.run_main(benchmark_file({"a": [1]}), benchmark_file({"a": [1]}, threads="2"))
        self.assertEqual(code, 2)
        self.assertIn("threads: '1'", text)


if __name__ == "__main__":
    unittest.main()
