import importlib.util
import sys

import pytest

from ocellus_weights_tools import parity

# Answers like `ocellus run`, through the reference itself; ERROR is added to one logit.
PROGRAM = """#!{python}
import json
import sys
import numpy as np
import torch
from pathlib import Path
from safetensors.torch import load_file
from ocellus_weights_tools import vision_models, yolo_models
from ocellus_weights_tools.parity import reference_outputs
torch.set_num_threads(1)
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "run"
folder = Path(options["--model"])
config = json.loads((folder / "config.json").read_text())
if "variant" in config:
    models = yolo_models if config["model_type"].startswith("yolo") else vision_models
    model = models.make_model(config, seed=0)
    model.load_state_dict(load_file(folder / "model.safetensors"))
else:
    from transformers import SegformerForSemanticSegmentation, ViTForImageClassification
    kinds = {{"segformer": SegformerForSemanticSegmentation, "vit": ViTForImageClassification}}
    model = kinds[config["model_type"]].from_pretrained(folder).eval()
outputs = reference_outputs(model, np.load(options["--input"]))
outputs[max(outputs)].flat[0] += {error}
Path(options["--output"]).mkdir(parents=True, exist_ok=True)
for name, y in outputs.items():
    np.save(Path(options["--output"]) / (name + ".npy"), y)
"""


def make_program(folder, error):
    path = folder / "ocellus"
    path.write_text(PROGRAM.format(python=sys.executable, error=error))
    path.chmod(0o755)
    return path


def need(reference):
    if importlib.util.find_spec(reference) is None:
        pytest.skip(f"needs {reference}: see README.md")


@pytest.mark.parametrize(
    "reference,model,size",
    [
        ("transformers", "segformer-odd", "45x61"),
        ("transformers", "vit-odd", "45x75"),
        ("torchvision", "resnet18", "45x61"),
        ("torchvision", "mobilenet_v2", "45x61"),
        ("ultralytics", "yolo11n", "64x96"),
    ],
)
@pytest.mark.parametrize("error,code", [("0", 0), ("0.01", 1), ("float('nan')", 1)])
def test_exit_code_tells_the_outcome(tmp_path, capsys, reference, model, size, error, code):
    need(reference)
    program = make_program(tmp_path, error)
    assert parity.main(["--program", str(program), "--model", model, "--size", size]) == code
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"{model} {size} batch 1")
    assert ("ok" in line) == (code == 0)


def test_a_failing_program_fails_the_case(tmp_path, capsys):
    need("transformers")
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
    cases = {str(case) for case in parity.all_cases("torchvision")}
    for model in ("resnet18", "resnet50", "vgg16", "mobilenet_v2"):
        for shape in ("224x224 batch 1", "224x224 batch 2", "161x203 batch 1", "161x203 batch 2"):
            assert f"{model} {shape}" in cases
    assert {model.split()[0] for model in cases} == set(parity.vision_models.MODELS)
    cases = {str(case) for case in parity.all_cases("ultralytics")}
    for family in ("yolov8", "yolo11"):
        for scale in "nsmlx":
            for shape in ("640x640 batch 1", "320x416 batch 2"):
                assert f"{family}{scale} {shape}" in cases
