import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file

from ocellus_weights_tools import yolo_models

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ultralytics") is None, reason="needs ultralytics: see README.md")


def test_a_whole_model_becomes_a_directory(tmp_path):
    model = yolo_models.make_model(yolo_models.make_config("yolo11n", 3), seed=1)
    model.names = {0: "RBC", 1: "WBC", 2: "platelet"}
    torch.save({"model": model.half(), "epoch": 3}, tmp_path / "best.pt")
    assert yolo_models.main([str(tmp_path / "best.pt"), str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "yolo11" and config["variant"] == "n"
    assert config["id2label"] == {"0": "RBC", "1": "WBC", "2": "platelet"}
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert stored.keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(stored[key], tensor.float() if tensor.is_floating_point() else tensor), key


@pytest.mark.parametrize("content", [{"model": None}, {"model": torch.nn.Linear(2, 3)}, [1, 2]])
def test_anything_else_is_refused(tmp_path, capsys, content):
    torch.save(content, tmp_path / "other.pt")
    assert yolo_models.main([str(tmp_path / "other.pt"), str(tmp_path / "out")]) == 1
    assert "other.pt: " in capsys.readouterr().err


def test_a_size_of_its_own_is_refused():
    config = yolo_models.make_config("yolov8n") | {"width_multiple": 0.125}
    with pytest.raises(yolo_models.ConvertError, match="published sizes"):
        yolo_models.config_of(yolo_models.build(config))
