import sys

import pytest

pytest.importorskip("transformers", reason="needs the reference implementation: pip install .[reference]")

from ocellus_weights_tools import parity

# Answers like `ocellus run`, through the reference itself; ERROR is added to one logit.
PROGRAM = """#!{python}
import sys
import numpy as np
import torch
from pathlib import Path
from transformers import AutoConfig, SegformerForSemanticSegmentation, ViTForImageClassification
from ocellus_weights_tools.parity import reference_logits
torch.set_num_threads(1)
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "run"
kinds = {{"segformer": SegformerForSemanticSegmentation, "vit": ViTForImageClassification}}
model = kinds[AutoConfig.from_pretrained(options["--model"]).model_type].from_pretrained(options["--model"]).eval()
logits = reference_logits(model, np.load(options["--input"]))
logits.flat[0] += {error}
Path(options["--output"]).mkdir(parents=True, exist_ok=True)
np.save(Path(options["--output"]) / "logits.npy", logits)
"""


def make_program(folder, error):
    path = folder / "ocellus"
    path.write_text(PROGRAM.format(python=sys.executable, error=error))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("model,size", [("segformer-odd", "45x61"), ("vit-odd", "45x75")])
@pytest.mark.parametrize("error,code", [("0", 0), ("0.01", 1), ("float('nan')", 1)])
def test_exit_code_tells_the_outcome(tmp_path, capsys, model, size, error, code):
    program = make_program(tmp_path, error)
    assert parity.main(["--program", str(program), "--model", model, "--size", size]) == code
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"{model} {size} batch 1")
    assert ("ok" in line) == (code == 0)


def test_a_failing_program_fails_the_case(tmp_path, capsys):
    path = tmp_path / "ocellus"
    path.write_text("#!/bin/sh\necho 'no such model' >&2\nexit 1\n")
    path.chmod(0o755)
    assert parity.main(["--program", str(path), "--model", "vit-odd", "--size", "70x70"]) == 1
    assert "exit code 1: no such model" in capsys.readouterr().out
    assert parity.main(["--program", str(tmp_path / "missing"), "--model", "vit-odd", "--size", "70x70"]) == 1


def test_the_list_has_what_acceptance_asks_for():
    cases = {str(case) for case in parity.all_cases()}
    for variant in "012345":
        for shape in ("512x512 batch 1", "256x512 batch 1", "333x517 batch 1", "512x512 batch 2"):
            assert f"segformer-b{variant} {shape}" in cases
    assert any(case.startswith("segformer-odd") for case in cases)
    for shape in ("224x224 batch 2", "224x384 batch 1", "333x517 batch 1"):
        assert f"vit-base {shape}" in cases
