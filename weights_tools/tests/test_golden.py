import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ocellus_weights_tools import golden, vision_models
from ocellus_weights_tools.files import write_safetensors

FOLDER = Path(__file__).parents[2] / "tests" / "golden"
GRADIENT_TOLERANCE = {
    "segformer_tiny": 1e-5,
    "vit_tiny": 1e-5,
    "resnet18_tiny": 1e-5,
    "resnet50_tiny": 5e-5,
    "vgg_tiny": 1e-5,
    "mobilenet_v2_tiny": 5e-5,
}


def need(name):
    """Skips the test where the library that the file comes from is not installed."""
    reference = golden.REFERENCE_OF[name]
    if importlib.util.find_spec(reference) is None:
        pytest.skip(f"needs {reference}: see README.md")


def make_model(name, config):
    if golden.REFERENCE_OF[name] == "torchvision":
        return vision_models.make_model(config, seed=0)
    import transformers

    if name == "vit_tiny":
        return transformers.ViTForImageClassification(transformers.ViTConfig.from_dict(config))
    return transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig.from_dict(config))


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


@pytest.mark.parametrize("name", sorted(golden.REFERENCE_OF))
def test_files_are_what_the_maker_makes(name):
    need(name)
    tensors, _ = golden.make(name)
    assert golden.difference(FOLDER / f"{name}.safetensors", tensors) == []


@pytest.mark.parametrize("name", sorted(GRADIENT_TOLERANCE))
def test_float32_reference_reproduces_the_file(name):
    need(name)
    tensors, metadata = load(name)
    model = make_model(name, json.loads(metadata["config"]))
    model.load_state_dict(below(tensors, "weight."), strict=True)
    model.eval()
    with torch.no_grad():
        outputs, logits = golden.capture(model, lambda: golden.logits_and_loss(model, tensors["input"])[0])
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
        _, loss = golden.logits_and_loss(model, tensors["input"], tensors["labels"])
        loss.backward()
        assert loss.item() == pytest.approx(tensors[f"adamw.loss.{step}"].item(), rel=1e-5)
        if step == 0:
            for path, parameter in model.named_parameters():
                error = (parameter.grad - gradients[path]).abs().max()
                scale = max(gradients[path].abs().max(), 1e-3 * largest)
                assert error <= GRADIENT_TOLERANCE[name] / 4 * scale, path
        optimizer.step()


@pytest.mark.parametrize("name,tolerance", [("yolov8_tiny", 1e-4), ("yolo11_tiny", 2e-4)])
def test_float32_yolo_reproduces_the_file(name, tolerance):
    need(name)
    from ocellus_weights_tools import yolo_models
    from ocellus_weights_tools.random_values import hash_values

    tensors, metadata = load(name)
    settings = json.loads(metadata["hashed"])
    model = yolo_models.build(json.loads(metadata["config"]))
    hash_values(model, settings["seed"], settings["gain"])
    inputs = {key: golden.yolo_input(shape, settings["seed"]) for key, shape in settings["inputs"].items()}

    model.eval()
    with torch.no_grad():
        run = lambda: yolo_models.raw_maps(model, inputs["eval.input"])  # noqa: E731
        outputs, maps = golden.capture(model, run, golden.YOLO_BLOCKS)
    expected = below(tensors, "eval.output.")
    outputs |= dict(zip(yolo_models.OUTPUTS, maps))
    assert outputs.keys() == expected.keys()
    for path, output in outputs.items():
        assert 0.05 < expected[path].abs().max() < 50, path
        assert (output - expected[path]).abs().max() <= 1e-5 * expected[path].abs().max(), path

    model.train()
    loss = golden.yolo_loss(yolo_models.raw_maps(model, inputs["input"]))
    loss.backward()
    assert loss.item() == pytest.approx(tensors["train.loss"].item(), rel=1e-5)
    gradients = below(tensors, "train.grad.")
    trained = {path: p for path, p in model.named_parameters() if p.requires_grad}
    assert gradients.keys() == trained.keys()
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for path, parameter in trained.items():
        scale = max(gradients[path].abs().max(), 1e-3 * largest)
        assert (parameter.grad - gradients[path]).abs().max() <= tolerance / 4 * scale, path


def test_check_finds_a_changed_value(tmp_path):
    need("pillow_resize")
    tensors, metadata = golden.make("pillow_resize")
    changed = {**tensors, "image": tensors["image"].clone()}
    changed["image"][0, 0, 0] ^= 1
    write_safetensors(changed, tmp_path / "file.safetensors", metadata)
    assert golden.difference(tmp_path / "file.safetensors", tensors)[0].startswith("image: differs")
