import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from frostline.cli.main import app
from frostline.recipes.schedules import thaw_schedule
from helpers_commands import MODEL, run
from helpers_processes import run_command


def test_fit_trains_saves_and_takes_its_model_back(tmp_path, arrays):
    out = tmp_path / "out"
    first = json.loads(
        run("fit", arrays, "--model", MODEL, "--epochs", 2, "--val-share", 0.2, "--out", out, "--json").stdout
    )
    assert first["result"]["cache"]["computed"] == 30
    assert json.loads((out / "model.json").read_text())["classes"] == list("01234")
    weights = out / "model.safetensors"
    again = json.loads(
        run(
            "fit",
            arrays,
            "--model",
            MODEL,
            "--weights",
            weights,
            "--epochs",
            1,
            "--lr",
            1e-12,
            "--out",
            tmp_path / "b",
            "--json",
        ).stdout
    )
    assert again["reused"].startswith("14 tensors copied")
    before, after = (load_file(path) for path in (weights, tmp_path / "b" / "model.safetensors"))
    assert torch.allclose(before["head.weight"], after["head.weight"], atol=1e-6)
    text = run("fit", arrays, "--model", MODEL, "--epochs", 1, "--out", out, "--no-cache", "--overwrite").stdout
    assert "Saved:" in text
    assert "Cache:" not in text
    assert "Health:   no issue" in text


def test_options_of_steps_reach_the_training(tmp_path, arrays):
    options = ("--accumulation", 2, "--warmup", 0.5, "--scheduler", "cosine", "--scheduler-interval", "step",
               "--ema", 0.5, "--logger", "tensorboard")  # fmt: skip
    run("fit", arrays, "--model", MODEL, "--epochs", 2, "--out", tmp_path / "o", "--batch-size", 16, *options)
    settings = json.loads((tmp_path / "o" / "checkpoint.json").read_text())["settings"]
    assert {name: settings[name] for name in ("accumulation", "warmup", "scheduler_interval", "ema")} == {
        "accumulation": 2, "warmup": 0.5, "scheduler_interval": "step", "ema": 0.5
    }  # fmt: skip
    assert (tmp_path / "o" / "tensorboard").is_dir()
    error = run("fit", arrays, "--model", MODEL, "--warmup", 99, "--out", tmp_path / "p", code=1).stderr
    assert "The warm-up of the learning rate is as long as the run" in error


def test_validation_data_of_its_own(tmp_path, arrays):
    other = tmp_path / "val.npz"
    np.savez(other, x=np.random.rand(10, 1, 32, 32).astype(np.float32), y=np.arange(10) % 5)
    args = ("fit", arrays, "--model", MODEL, "--epochs", 1, "--val", other, "--out", tmp_path / "v", "--json")
    found = json.loads(run(*args).stdout)
    assert found["result"]["cache"]["samples"] == 40
    assert found["result"]["history"][0]["val_metric"] is not None


def test_fit_tells_issues_in_text_and_json(tmp_path):
    labels = np.arange(240) % 3
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(240, 1, 32, 32)).astype(np.float32), y=labels)
    args = ("fit", tmp_path / "x.npz", "--model", MODEL, "--freeze", "body.0", "--lr", 100, "--batch-size", 16)
    told = run(*args, "--epochs", 2, "--out", tmp_path / "a")
    assert "Health:   FL" in told.stdout
    assert "  Do: " in told.stderr
    found = json.loads(run(*args, "--epochs", 2, "--out", tmp_path / "b", "--json").stdout)["result"]["findings"]
    assert any(finding["outcome"] == "issue" for finding in found)
    assert all(finding["why"] and finding["advice"] for finding in found)
    assert (tmp_path / "b" / "health.jsonl").read_text()


SICK = """
import torch
from torch import nn

def build():
    layers = [nn.Flatten(), nn.Linear(16, 32), nn.Sigmoid()]
    for _ in range(7):
        layers += [nn.Linear(32, 32), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(32, 3))
"""


def test_fit_heals_and_says_so(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sick_model.py").write_text(SICK)
    labels = np.arange(240) % 3
    inputs = np.random.default_rng(0).normal(size=(240, 16)).astype(np.float32)
    inputs[np.arange(240), labels] += 4
    np.savez(tmp_path / "x.npz", x=inputs, y=labels)
    args = ("fit", tmp_path / "x.npz", "--model", "sick_model:build", "--freeze", "0", "--epochs", 2, "--lr", 0.01)
    first = json.loads(run(*args, "--heal", "--out", tmp_path / "o", "--json").stdout)
    kept = [treatment["name"] for treatment in first["result"]["healing"]["treatments"] if treatment["kept"]]
    assert first["result"]["healing"]["before"]["cause"] == "vanishing"
    assert json.loads((tmp_path / "o" / "model.json").read_text())["treated"] == kept
    again = run(*args, "--heal", "--resume", "--out", tmp_path / "o")
    assert f"Healed:   {kept[0]}" in again.stdout
    assert "kept: held-out loss" in again.stdout
    refused = run(*args, "--weights", tmp_path / "o" / "model.safetensors", "--json", code=1)
    assert "network whose layers a treatment has changed" in json.loads(refused.stdout)["error"]["what"]
    resumed = run(*args, "--resume", "--out", tmp_path / "o", "--json", code=1)
    assert "--heal" in json.loads(resumed.stdout)["error"]["do"]


def test_a_schedule_is_checked_before_the_model_is_healed(tmp_path, arrays, monkeypatch):
    from frostline.recipes import commands

    monkeypatch.setattr(commands, "heal_first", lambda *_, **__: pytest.fail("it was healed"))
    args = ("fit", arrays, "--model", MODEL, "--epochs", 2, "--out", tmp_path / "o", "--heal", "--thaw")
    assert "goes beyond the run" in run(*args, "9:body.3", code=1).stderr
    told = run(*args, "plateau", code=1).stderr
    assert "A plateau is seen on validation data" in told
    assert "Where:    --thaw" in told


def test_inspect_prints_the_frost_line(arrays):
    text = run("inspect", arrays, "--model", MODEL).stdout
    assert text.startswith("Reused: ")
    assert text.index("Price:") < text.index("layer ")  # the answer comes first
    assert "head" in text
    assert "Stored:    3.1 KB per sample" in text
    report = json.loads(run("inspect", arrays, "--model", MODEL, "--freeze", "body.3", "--json").stdout)
    assert report["explanation"]["frontier"][0]["name"] == "body.3"
    assert {own["name"] for own in report["storage"]["alternatives"]} >= {"no cache", "the frontier"}
    assert all(own["epoch_s"] > 0 for own in report["storage"]["alternatives"])
    assert {"name", "ms", "bytes", "use"} == set(report["storage"]["calls"][0])
    assert "no cache: " in text
    assert "store the frontier: " in text


def test_fit_plans_its_cache_and_rounds_features(tmp_path, arrays):
    words = ("fit", arrays, "--model", MODEL, "--epochs", 1)
    done = run(*words, "--out", tmp_path / "a", "--auto-cache", "--json")
    assert json.loads(done.stdout)["result"]["plan"]["alternatives"]
    assert "cache: Plan:" in done.stderr
    rounded = run(*words, "--out", tmp_path / "b", "--storage", "int8", "--json")
    cache = json.loads(rounded.stdout)["result"]["cache"]
    assert (cache["storage"], len(cache["losses"])) == ("int8", 2)
    assert "int8, error" in run("cache", "ls", "--cache", tmp_path / "b" / "cache").stdout
    assert "not a storage type" in run(*words, "--out", tmp_path / "c", "--storage", "int4", code=1).stderr
    both = run(*words, "--out", tmp_path / "c", "--auto-cache", "--no-cache", code=1).stderr
    assert "no cluster can" in run(*words, "--out", tmp_path / "c", "--engine", "ray", "--no-cache", code=1).stderr
    assert "cannot both leave out its cache and plan it" in both


def test_the_version():
    assert run("--version").stdout.startswith("frostline ")


def test_the_training_takes_the_options_of_fit(tmp_path, arrays, monkeypatch):
    from frostline.recipes import commands

    asked = {}
    own = commands.fit
    monkeypatch.setattr(commands, "fit", lambda *args, **options: asked.update(options) or own(*args, **options))
    run("fit", arrays, "--model", MODEL, "--epochs", 1, "--out", tmp_path / "out", "--optimizer", "sgd", "--scheduler",
        "cosine", "--val-share", 0.2, "--patience", 2, "--metric", "f1", "--metric", "top3",
        "--class-weights", "1,2,1,1,1", "--label-smoothing", 0.1, "--head", "head", "--workers", 2,
        "--overwrite")  # fmt: skip
    assert str(asked["loss"]) == "CrossEntropy(class_weights=[1.0, 2.0, 1.0, 1.0, 1.0], label_smoothing=0.1)"
    names = ("optimizer", "scheduler", "patience", "metric", "num_workers", "overwrite")
    assert [asked[name] for name in names] == ["sgd", "cosine", 2, ["f1", "top3"], 2, True]


def test_scores_are_told_by_name_and_the_matrix_has_the_names_of_the_classes(tmp_path, arrays):
    out = tmp_path / "out"
    told = run("fit", arrays, "--model", MODEL, "--epochs", 1, "--out", out, "--val-share", 0.2, "--metric", "top2",
               "--metric", "auroc")  # fmt: skip
    assert "Scores:   top2 0." in told.stdout
    assert ", auroc 0." in told.stdout
    assert "epoch 1" in told.stdout
    assert (out / "confusion.csv").read_text().splitlines()[0] == "true \\ predicted,0,1,2,3,4"


def test_a_used_folder_is_refused(tmp_path, arrays):
    words = ("fit", arrays, "--model", MODEL, "--epochs", 1, "--out", tmp_path / "out")
    run(*words)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    error = run(*words, "--lr", 0.1, code=1).stderr
    assert "A file of this name exists already, and is not replaced" in error
    assert "--resume goes on with the run there, --overwrite replaces it" in error
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    run(*words, "--resume")
    run(*words, "--lr", 0.1, "--overwrite")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != before


def test_a_run_is_resumed_with_its_checkpoint_and_its_data_only(tmp_path, arrays):
    words = ("fit", arrays, "--model", MODEL, "--epochs", 1, "--out", tmp_path / "out", "--resume")
    run(*words)
    error = run(*words, "--val-share", 0.2, code=1).stderr
    assert "The run to be resumed was made with other settings" in error
    assert "numbers of samples" in error
    (tmp_path / "out" / "checkpoint.json").unlink()
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert "This run cannot be resumed: its checkpoint is gone" in run(*words, code=1).stderr
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("inside", ["", "run", "cat/run"])
def test_a_run_does_not_lie_among_the_images(tmp_path, inside):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / label / "0.png")
    out = tmp_path / "photos" / inside
    error = run("fit", tmp_path / "photos", "--model", MODEL, "--size", 8, "--out", out, code=1).stderr
    assert "The folder of a run cannot be inside the folder of the images" in error


def test_views_of_images_are_kept_and_listed(tmp_path):
    for index, label in enumerate(("cat", "dog")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for at in range(5):
            image = np.random.default_rng(10 * index + at).integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "photos" / label / f"{at}.png")
    (tmp_path / "views_net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "    return nn.Sequential(body, nn.Linear(4, 9))"
    )
    words = ("fit", "photos", "--model", "views_net:net", "--size", 8, "--val-share", 0.2, "--epochs", 3)
    found = {
        way: run_command(*words, *options, "--out", way, "--json", cwd=tmp_path)
        for way, options in {"cached": ("--views", 2), "uncached": ("--views", 2, "--no-cache")}.items()
    }
    results = {way: json.loads(done.stdout)["result"] for way, done in found.items()}
    figures = results["cached"]["cache"]
    assert (figures["samples"], figures["views"], figures["computed"]) == (8, 2, 16)
    one, other = ([epoch["train_loss"] for epoch in results[way]["history"]] for way in ("cached", "uncached"))
    assert one == pytest.approx(other, rel=1e-5)
    listed = run_command("cache", "ls", "--cache", "cached/cache", cwd=tmp_path).stdout
    assert [row.split()[1:3] for row in listed.splitlines() if "MB" in row] == [["18", "2"]]
    forget = ("cache", "forget", "photos", "--model", "views_net:net", "--size", 8, "--cache", "cached/cache", "--yes")
    deleted = [run_command(*forget, *given, "--json", cwd=tmp_path).stdout for given in (("--views", 2), ())]
    assert [json.loads(text)["deleted_rows"] for text in deleted] == [16, 2]  # those of the validation are no views
    refused = run_command(*words, "--augment", "flip", "--out", "other", cwd=tmp_path)
    assert refused.returncode == 1
    assert "--views 4" in refused.stderr


def test_balanced_weights_count_the_training_samples_alone(tmp_path, monkeypatch):
    from frostline.recipes import commands

    asked = {}
    own = commands.fit
    monkeypatch.setattr(commands, "fit", lambda *args, **options: asked.update(options) or own(*args, **options))
    labels = np.array([0] * 15 + [1] * 5)  # a half of each class, rounded to even, is held out: 8 and 2
    np.savez(tmp_path / "x.npz", x=np.random.rand(20, 1, 32, 32).astype(np.float32), y=labels)
    run("fit", tmp_path / "x.npz", "--model", MODEL, "--epochs", 1, "--out", tmp_path / "o", "--val-share", 0.5,
        "--class-weights", "balanced")  # fmt: skip
    weights = (10 / (2 * torch.tensor([7, 3]))).tolist()
    assert str(asked["loss"]) == f"CrossEntropy(class_weights={weights}, label_smoothing=0.0)"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--out", ""), "--out is not a path"),
        (("--class-weights", "1,2"), "Every class needs one weight above 0"),
        (("--class-weights", "1,2,3,4,nan"), "Every class needs one weight above 0"),
        (("--class-weights", "a,b"), "takes numbers with commas between them"),
        (("--metric", "f1"), "A metric is computed on validation data, and there are none"),
        (("--label-smoothing", "1"), "Label smoothing is a share of probability"),
        (("--size", "8"), "Arrays are used as they are"),
        (("--mean", "1,1,1"), "Images are normalised together with resizing"),
        (("--head", "nowhere"), "nowhere"),
    ],
)
def test_options_that_cannot_be(tmp_path, arrays, options, what):
    assert what in run("fit", arrays, "--model", MODEL, "--out", tmp_path / "out", *options, code=1).stderr


def test_a_model_of_ones_own_gets_images_of_its_size(tmp_path):
    for index, name in enumerate(("dark", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for at in range(4):
            Image.new("RGB", (50 + at, 40), (200 * index,) * 3).save(tmp_path / "images" / name / f"{at}.png")
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "    return nn.Sequential(body, nn.Linear(4, 9))"
    )
    words = ("images", "--model", "mine:net")
    done = run_command("inspect", *words, "--size", 32, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reused"] == "the layers as mine:net makes them (no --weights)"
    assert "random" not in done.stderr
    assert run_command("inspect", *words, "--json", cwd=tmp_path).returncode == 1  # images of different sizes


ERRORS = {
    "no folder": (["missing", "--model", MODEL], "There is no such folder."),
    "no colon": (["x.npz", "--model", "resnet"], "Cannot build the model"),
    "no module": (["x.npz", "--model", "no.such:thing"], "Cannot build the model"),
    "no function": (["x.npz", "--model", "frostline.demo.demo:biuld"], "Cannot build the model"),
    "no model": (["x.npz", "--model", "frostline.demo.demo:Path"], "Cannot build the model"),
    "no file": (["x.npz", "--model", MODEL], "Cannot read arrays from this file."),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_have_four_parts_in_json_too(name):
    args, what = ERRORS[name]
    error = json.loads(run("fit", *args, "--json", code=1).stdout)["error"]
    assert error["what"].startswith(what)
    assert all(error.values())
    assert list(error) == ["what", "where", "received", "do"]


def test_more_errors(tmp_path, arrays):
    both = run("fit", arrays, "--model", MODEL, "--val", arrays, "--val-share", "0.2", "--json", code=1)
    assert "given twice" in both.stdout
    np.savez(tmp_path / "r.npz", x=np.random.rand(4, 2), y=np.random.rand(4))
    assert "not class indices" in run("fit", tmp_path / "r.npz", "--model", MODEL, "--json", code=1).stdout
    run("fit", code=2)
    run("nonsense", code=2)


def test_a_real_process_is_interrupted_cleanly(tmp_path, arrays):
    command = [sys.executable, "-m", "frostline", "fit", str(arrays), "--model", MODEL, "--epochs", "100000",
               "--out", str(tmp_path / "o"), "--json"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "o" / "checkpoint.json").exists():  # the first epoch is done
        assert process.poll() is None, process.stderr.read()
        os.sched_yield()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["error"]["what"] == "Interrupted."
    assert not list(Path(tmp_path).rglob("*.part"))


def test_a_folder_of_images_with_a_timm_model(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for at in range(6):
            pixels = np.random.randint(0, 255, (40, 48, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{at}.jpg")
    args = ("fit", "photos", "--model", "timm:test_resnet.r160_in1k", "--epochs", 1, "--json", "--out")
    first = run_command(*args, "run", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "the frozen layers are random" in first.stderr
    assert json.loads(first.stdout)["classes"] == ["cat", "dog"]
    again = run_command(*args, "2", "--weights", "run/model.safetensors", "--val-share", 0.34, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    (tmp_path / "photos" / "cat" / "3.jpg").write_bytes(b"torn")
    broken = run_command(*args, "3", cwd=tmp_path)
    assert broken.returncode == 1
    assert json.loads(broken.stdout)["error"]["where"].endswith("3.jpg")
    unknown = run_command("inspect", "photos", "--model", "timm:resnet999", "--json", cwd=tmp_path)
    assert "timm has no model" in json.loads(unknown.stdout)["error"]["received"]


def test_a_model_of_the_current_folder(tmp_path, arrays):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 16), nn.ReLU(), nn.Linear(16, 9))\n"
    )
    done = run_command("inspect", arrays, "--model", "mine:net", "--freeze", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "  2: (16,) float32, per sample" in done.stdout


def test_resume_goes_on_where_the_run_stopped(tmp_path, arrays):
    common = ("fit", arrays, "--model", MODEL, "--json", "--out")
    run(*common, tmp_path / "a", "--epochs", 3)
    run(*common, tmp_path / "b", "--epochs", 1, "--resume")
    resumed = json.loads(run(*common, tmp_path / "b", "--epochs", 3, "--resume").stdout)
    assert len(resumed["result"]["history"]) == 3
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_on_other_frozen_layers_is_not_resumed(tmp_path, arrays):
    common = ("fit", arrays, "--model", MODEL, "--json", "--out", tmp_path / "o", "--epochs", 2)
    run(*common)
    weights = tmp_path / "w.safetensors"
    state = load_file(tmp_path / "o" / "model.safetensors")
    save_file({name: tensor + 0.5 for name, tensor in state.items()}, weights)
    error = json.loads(run(*common, "--weights", weights, "--resume", code=1).stdout)["error"]
    assert "other settings" in error["what"]
    assert "frozen layers" in error["where"]


NETWORKS = Path(__file__).parents[1] / "porting" / "files" / "networks"
DEPTHWISE = NETWORKS / "keras" / "depthwise" / "model.keras"


def test_port_saves_weights_and_a_certificate_that_is_checked(tmp_path):
    out = tmp_path / "own.safetensors"
    spec = "exams.porting.networks.convolutions:Depthwise"
    told = json.loads(run("port", DEPTHWISE, "--to", spec, "--out", out, "--json").stdout)
    assert told["certificate"]["framework"] == "keras"
    assert out.exists()
    assert (
        "tensors of the module have the same values as then"
        in run("port", "--check", tmp_path / "own.certificate.json").output
    )
    assert "layers/depthwise_conv2d/vars/0" in run("port", DEPTHWISE, "--list").output


def test_port_wants_a_file_and_a_module():
    result = CliRunner().invoke(app, ["port", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["what"] == "`frostline port` needs a file of weights and a module."


def test_a_file_without_a_module_becomes_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrote = run("port", DEPTHWISE, "--scaffold", "written_by_port.py").output
    assert "frostline port FILE --to written_by_port:Network" in wrote
    told = run("port", DEPTHWISE, "--to", "written_by_port:Network", "--out", "w.safetensors").output
    assert "the outputs agree with an interpretation of the file's own graph" in told
    for taken in ("written_by_port.py", "a.txt", "1a.py"):
        result = CliRunner().invoke(app, ["port", str(DEPTHWISE), "--scaffold", taken])
        assert "A scaffold is written into a new Python file." in result.output


def test_fit_thaws_and_freezes_by_schedule(tmp_path, arrays):
    words = ("fit", arrays, "--model", MODEL, "--epochs", 3, "--val-share", 0.2, "--lr", 1e-9)
    text = run(*words, "--out", tmp_path / "a", "--thaw", "plateau", "--thaw-patience", 1, "--thaw-factor", 2).stdout
    assert "phase 2, epochs 3 to 3: thawed down to" in text
    text = run(*words, "--out", tmp_path / "b", "--freeze", "converged").stdout
    assert "frozen through" in text
    settings = json.loads((tmp_path / "a" / "checkpoint.json").read_text())["settings"]
    assert settings["schedule"] == "thaw plateau, patience 1, factor 2, warm-up 0.5"
    assert "treated" not in json.loads((tmp_path / "a" / "model.json").read_text())


@pytest.mark.parametrize(
    ("text", "moves"),
    [("3:a,5:b.c", ((3, "a"), (5, "b.c"))), ("a, *", ((3, "a"), (5, None))), ("2:*", ((2, None),)), ("plateau", ())],
)
def test_a_schedule_is_written_as_epochs_and_layers(text, moves):
    options = {"every": 2, "patience": 1, "factor": 2.0, "warmup": 0.0, "keep_statistics": False}
    assert thaw_schedule(text, **options).moves == moves
    assert thaw_schedule(None, **options) is None


@pytest.mark.parametrize("text", ["a:b", "2:a,b", "2:a,2:b"])
def test_what_is_no_schedule_is_told_as_an_option(tmp_path, arrays, text):
    words = ("fit", arrays, "--model", MODEL, "--out", tmp_path / "a", "--thaw", text, "--json")
    error = json.loads(run(*words, code=1).stdout)["error"]
    assert (error["what"], error["where"]) == ("This is no schedule.", "--thaw")


def test_choose_depth_prints_a_table_or_json_and_draws_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep.py").write_text(
        "from torch import nn\ndef build():\n"
        "    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))\n"
    )
    random = np.random.default_rng(0)
    y = np.arange(60) % 3
    np.savez("data.npz", x=random.normal(size=(60, 6)).astype(np.float32) + np.eye(6, dtype=np.float32)[y], y=y)
    words = ["choose-depth", "data.npz", "--model", "deep:build", "--cache", "features", "--picture", "depth.svg"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert "freeze through" in shown.stdout
    assert (tmp_path / "depth.svg").read_text().startswith("<svg")
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [row["through"] for row in found["table"]] == [None, "0", "2"]
    assert found["samples"] == 60
