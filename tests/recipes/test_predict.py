import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import frostline as fl
from frostline.cli.main import app
from frostline.core.errors import DataError

NET = """
from torch import nn
def net():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(body, nn.Dropout(0.5), nn.Linear(4, 9))
"""


def command(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The folder of a run on dark and light images, and the images."""
    for name, low in (("dark", 0), ("light", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for at in range(12):
            values = np.random.default_rng(at).integers(low, low + 50, (40 + at, 50, 3), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "images" / name / f"{at}.png")
    (tmp_path / "mine_to_predict.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "mine_to_predict", raising=False)
    command("fit", "images", "--model", "mine_to_predict:net", "--size", 24, "--mean", "0.5,0.5,0.5", "--std", "1,1,1",
            "--epochs", 30, "--lr", 0.05, "--batch-size", 8, "--val-share", 0.25, "--out", "run")  # fmt: skip
    return tmp_path / "run", tmp_path / "images"


def test_a_run_is_loaded_with_its_classes_and_its_preparation(trained):
    run, _ = trained
    state = torch.get_rng_state()
    loaded = fl.load(run)
    assert torch.equal(state, torch.get_rng_state())
    assert loaded.classes == ("dark", "light")
    assert loaded.preprocess == fl.data.CenterCrop(24, (0.5, 0.5, 0.5), (1, 1, 1))
    assert not loaded.model.training
    stored = load_file(run / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in loaded.model.state_dict().items())
    assert set(loaded.info["versions"]) == {"frostline", "torch"}
    assert loaded.info["input"] == {"shape": [3, 24, 24], "dtype": "float32"}
    assert 1 <= loaded.info["best_epoch"] <= loaded.info["epochs"] == 30


def test_new_images_are_predicted_as_the_model_itself_does(trained):
    run, images = trained
    loaded = fl.load(run)
    found = fl.predict(loaded, images, batch_size=5)
    assert [one.sample for one in found] == sorted(str(path) for path in images.rglob("*.png"))
    inputs = torch.stack([loaded.preprocess(Image.open(one.sample)) for one in found])
    wanted = loaded.model(inputs).softmax(1)
    torch.testing.assert_close(torch.tensor([list(one.probabilities.values()) for one in found]), wanted)
    assert [one.label for one in found] == [loaded.classes[at] for at in wanted.argmax(1)]
    assert fl.predict(loaded, images, batch_size=5, num_workers=2) == found
    assert np.mean([one.label in one.sample for one in found]) > 0.9
    loaded.model.train()  # dropout stays off all the same
    assert fl.predict(loaded, images, batch_size=5) == found
    assert loaded.model.training
    loaded.model.eval()
    assert fl.predict(run, found[0].sample) == fl.predict(loaded, found[0].sample)


def test_the_command_writes_csv_or_json(trained):
    run, images = trained
    text = command("predict", run, images / "dark").stdout.splitlines()
    assert text[0] == "sample,label,dark,light"
    assert len(text) == 13
    rows = json.loads(command("predict", run, images / "dark", "--json").stdout)["predictions"]
    assert [row["label"] for row in rows] == [line.split(",")[1] for line in text[1:]]


def test_rows_of_arrays_need_no_targets(tmp_path, monkeypatch):
    (tmp_path / "rows_to_predict.py").write_text("from torch import nn\ndef net():\n    return nn.Sequential("
                                                 "nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 7))\n")  # fmt: skip
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(30, 3))
    np.savez("data.npz", x=x, y=np.where(x[:, 0] > 0, "up", "down"))
    command("fit", "data.npz", "--model", "rows_to_predict:net", "--epochs", 1, "--out", "run")
    save_file({"x": torch.tensor(x[:4])}, "new.safetensors")
    found = fl.predict("run", "new.safetensors")
    assert [one.sample for one in found] == ["0", "1", "2", "3"]
    assert set(found[0].probabilities) == {"up", "down"}
    assert sum(found[0].probabilities.values()) == pytest.approx(1)


def test_what_cannot_be_predicted_is_told(trained):
    run, images = trained
    with pytest.raises(DataError, match="There is no trained model in this folder"):
        fl.load(images)
    with pytest.raises(DataError, match="There are no images at this path"):
        fl.predict(run, run / "logs")
    with pytest.raises(DataError, match="There are no images at this path"):
        fl.predict(run, "nowhere")
    np.savez(run.parent / "odd.npz", x=np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match="The model does not take this data"):
        fl.predict(run, run.parent / "odd.npz")
    loaded = fl.load(run)
    loaded.model[-1].bias.data.fill_(float("nan"))
    with pytest.raises(DataError, match="The outputs of the model are not finite"):
        fl.predict(loaded, images)
    facts = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({**facts, "images": None}))
    with pytest.raises(DataError, match="The images have different sizes"):
        fl.predict(run, images)
    (run / "model.json").write_text(json.dumps({**facts, "images": {"crop": {"size": 8, "angle": 3}}}))
    with pytest.raises(DataError, match=r"The preparation of images in model\.json is not known"):
        fl.load(run)
    (run / "model.json").write_text(json.dumps({**facts, "treated": ["norms"]}))
    with pytest.raises(DataError, match="changed by a treatment"):
        fl.load(run)
    (run / "model.json").write_text(json.dumps({"classes": ["a", "b"]}))
    with pytest.raises(DataError, match="does not state how the model is built"):
        fl.load(run)


def test_weights_of_another_model_are_told(trained):
    run, _ = trained
    state = load_file(run / "model.safetensors")
    save_file({name: value for name, value in state.items() if name != "2.bias"}, run / "model.safetensors")
    with pytest.raises(DataError, match="The weights are not those of the model"):
        fl.load(run)
    (run / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="The weights of this run cannot be read"):
        fl.load(run)
