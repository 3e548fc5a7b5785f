import json
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the reference implementation: pip install .[reference]")

import torch
from safetensors import safe_open
from transformers import SegformerConfig, SegformerForSemanticSegmentation, ViTConfig, ViTForImageClassification

from ocellus_weights_tools import golden
from ocellus_weights_tools.files import write_safetensors

FOLDER = Path(__file__).parents[2] / "tests" / "golden"
MODELS = {
    "segformer_tiny": (SegformerConfig, SegformerForSemanticSegmentation),
    "vit_tiny": (ViTConfig, ViTForImageClassification),
}
GRADIENT_TOLERANCE = 1e-5


def load(name):
    with safe_open(FOLDER / f"{name}.safetensors", framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()


def below(tensors, prefix):
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", sorted(golden.MAKERS))
def test_files_are_what_the_maker_makes(name):
    tensors, _ = golden.make(name)
    assert golden.difference(FOLDER / f"{name}.safetensors", tensors) == []


@pytest.mark.parametrize("name", sorted(MODELS))
def test_float32_reference_reproduces_the_file(name):
    tensors, metadata = load(name)
    config_type, model_type = MODELS[name]
    model = model_type(config_type.from_dict(json.loads(metadata["config"])))
    model.load_state_dict(below(tensors, "weight."), strict=True)
    model.eval()
    with torch.no_grad():
        outputs, logits = golden.capture(model, lambda: model(tensors["input"]).logits)
    expected = below(tensors, "eval.output.")
    assert {*outputs, "logits"} == expected.keys()
    for path, output in {**outputs, "logits": logits}.items():
        assert 0.05 < expected[path].abs().max() < 50, path
        assert (output - expected[path]).abs().max() <= 1e-5 * expected[path].abs().max(), path
    assert torch.equal(tensors["input"].permute(0, 2, 3, 1), tensors["input_nhwc"])

    model.train()
    settings = json.loads(metadata["adamw"])
    betas = (settings["beta1"], settings["beta2"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings["lr"], betas=betas, eps=settings["eps"], weight_decay=settings["weight_decay"]
    )
    gradients = below(tensors, "train.grad.")
    assert gradients.keys() == {name for name, _ in model.named_parameters()}
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for step in range(settings["steps"]):
        optimizer.zero_grad()
        result = model(tensors["input"], labels=tensors["labels"])
        result.loss.backward()
        assert result.loss.item() == pytest.approx(tensors[f"adamw.loss.{step}"].item(), rel=1e-5)
        if step == 0:
            for path, parameter in model.named_parameters():
                error = (parameter.grad - gradients[path]).abs().max()
                scale = max(gradients[path].abs().max(), 1e-3 * largest)
                assert error <= GRADIENT_TOLERANCE / 4 * scale, path
        optimizer.step()


def test_check_finds_a_changed_value(tmp_path):
    tensors, metadata = golden.make("pillow_resize")
    changed = {**tensors, "image": tensors["image"].clone()}
    changed["image"][0, 0, 0] ^= 1
    write_safetensors(changed, tmp_path / "file.safetensors", metadata)
    assert golden.difference(tmp_path / "file.safetensors", tensors)[0].startswith("image: differs")
