"""The rules of the house."""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from typer.main import get_command
from typer.testing import CliRunner

import frostline as fl
from frostline.cli.main import app
from frostline.diagnosis.rules import RULES
from frostline.recipes.models import build_model
from helpers_vision import import_torchvision

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted(one for one in (ROOT / "docs").rglob("*.md") if "_build" not in one.parts)]
TESTS = "\n".join(
    path.read_text().replace("from __future__ import annotations", "")
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    if path != Path(__file__)
)

PUBLIC = {
    "AmbiguousPortError", "CacheError", "CachedDataset", "Certificate", "DataError", "DepthReport", "Diagnosis",
    "FeatureCache", "Finding", "FitResult", "FreezeSchedule", "FreezeSummary", "FrontierTensor", "FrostlineError",
    "Healing", "LayerNotFound", "Monitor", "NotCacheable", "PortError", "ReuseSummary", "Split", "SplitError",
    "SweepResult", "ThawSchedule", "checkup", "choose_depth", "data", "export", "fit", "freeze", "heal", "load",
    "port", "predict", "rank_models", "remedies", "replace_head", "reuse", "split", "sweep", "thaw",
}  # fmt: skip

OPTIONS = {
    "demo": {"--out", "--json"},
    "fit": {"--model", "--weights", "--freeze", "--val", "--val-share", "--epochs", "--batch-size", "--lr", "--seed",
            "--optimizer", "--scheduler", "--patience", "--metric", "--class-weights", "--label-smoothing", "--head",
            "--size", "--mean", "--std", "--out", "--resume", "--no-cache", "--heal", "--certificate", "--json",
            "--workers", "--overwrite", "--thaw", "--thaw-every", "--thaw-patience", "--thaw-factor", "--thaw-warmup",
            "--keep-statistics", "--views", "--augment", "--auto-cache", "--storage", "--accumulation", "--warmup",
            "--scheduler-interval", "--ema", "--logger", "--frozen-pass", "--cache", "--devices", "--engine"},
    "sweep": {"--model", "--weights", "--freeze", "--lr", "--weight-decay", "--dropout", "--width", "--optimizer",
              "--halving", "--val", "--val-share", "--epochs", "--batch-size", "--seed", "--metric", "--head", "--size",
              "--mean", "--std", "--workers", "--out", "--certificate", "--json", "--views", "--augment", "--storage",
              "--frozen-pass", "--cache"},
    "predict": {"--batch-size", "--workers", "--json"},
    "export": {"--out", "--data", "--json"},
    "inspect": {"--model", "--freeze", "--weights", "--certificate", "--size", "--mean", "--std", "--json"},
    "checkup": {"--weights", "--batch-size", "--lr", "--steps", "--seed", "--budget", "--certificate", "--size",
                "--mean", "--std", "--json"},
    "choose-depth": {"--model", "--weights", "--certificate", "--samples", "--epochs", "--seed", "--workers", "--cache",
                     "--picture", "--size", "--mean", "--std", "--json", "--views", "--augment", "--storage",
                     "--frozen-pass"},
    "port": {"--to", "--out", "--verify", "--partial", "--adapt", "--hints", "--key", "--list", "--check",
             "--scaffold", "--json"},
    "cache": {"ls", "stats", "verify", "export", "purge", "prune", "forget"},
}  # fmt: skip

HEAVY = (
    "lightning_fabric sklearn rich typer timm torchvision PIL transformers h5py onnx onnxruntime msgpack tensorstore "
    "ml_dtypes scipy gguf matplotlib ray fsspec s3fs"
).split()

PROBE = """
import json, logging, os, sys, warnings
import torch, numpy, safetensors.torch
before = set(sys.modules), dict(os.environ), list(warnings.filters), list(logging.getLogger().handlers)
{line}
print(json.dumps({{
    "heavy": sorted({{name.split(".")[0] for name in set(sys.modules) - before[0]}} & set({heavy!r})),
    "environment": sorted(set(os.environ.items()) ^ set(before[1].items())),
    "filters": len(warnings.filters) - len(before[2]),
    "handlers": len(logging.getLogger().handlers) - len(before[3]),
}}))
"""


def probe(line: str) -> dict:
    script = PROBE.format(line=line, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_bare_import_is_a_good_guest():
    assert probe("import frostline") == {"heavy": [], "environment": [], "filters": 0, "handlers": 0}


def test_that_test_can_fail():
    seen = probe("import rich, os, warnings; os.environ['X'] = '1'; warnings.simplefilter('ignore')")
    assert seen == {"heavy": ["rich"], "environment": [["X", "1"]], "filters": 1, "handlers": 0}


def test_public_names_are_a_decision():
    assert set(fl.__all__) == PUBLIC
    assert all(hasattr(fl, name) for name in PUBLIC)


def test_command_options_are_a_decision():
    command = get_command(app)
    found = {
        name: set(sub.commands)
        if hasattr(sub, "commands")
        else {o for p in sub.params for o in p.opts if o[:2] == "--"}
        for name, sub in command.commands.items()
    }
    assert found == OPTIONS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body  # a docstring may be as long as it must
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 50, node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_nothing_loads_code_or_is_left_undone(path):
    text = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in {"eval", "exec", "pickle.load", "pickle.loads", "print"}
            if name == "torch.load":
                assert "weights_only=True" in ast.unparse(node)


# Source files whose tests have another name, each with the reason.
TESTED_ELSEWHERE = {
    "porting/readers/contract.py": "records without code of their own: every reader makes them",
    "recipes/command_reports.py": "how the commands read: tested through them, in cli/test_main.py",
    "recipes/commands.py": "what the command does: tested through the command, in cli/test_main.py",
    "demo/sick_network_tables.py": "how the first act reads: tested with it, in demo/test_sick_network.py",
    "demo/reuse_tables.py": "how the demo reads: tested with it, in demo/test_demo.py",
    "splitting/recording/tensor_ledger.py": "the recorder's memory: every forward of splitting/test_split.py needs it",
}


def has_code(path: Path) -> bool:
    body = ast.parse(path.read_text()).body
    return any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in body)


def untested(sources: list[Path], tests: Path) -> list[str]:
    """Source files with code and without a test file of the same name."""
    inside = [(path, path.relative_to(ROOT / "src" / "frostline")) for path in sources if path.name != "__init__.py"]
    return [
        str(name)
        for path, name in inside
        if has_code(path) and not (tests / name.parent / f"test_{name.name}").is_file()
    ]


def test_every_source_file_has_a_test_file_of_its_name():
    assert untested(SOURCES, ROOT / "tests") == sorted(TESTED_ELSEWHERE)
    assert all(TESTED_ELSEWHERE.values())
    assert len(TESTED_ELSEWHERE) < 15


def test_every_test_file_mirrors_a_source_file():
    mirrored = {path.relative_to(ROOT / "src" / "frostline") for path in SOURCES}
    found = [path.relative_to(ROOT / "tests") for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    odd = [str(name) for name in found if name.with_name(name.name.removeprefix("test_")) not in mirrored]
    allowed = ["diagnosis/monitor/test_monitor_models.py", "splitting/test_zoo.py"]
    assert [name for name in odd if name.split("/")[0] not in ("exams", "house", "laws")] == allowed


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.ABOUT.code)
def test_every_rule_has_a_test_that_fires_one_that_is_quiet_and_one_where_it_does_not_apply(rule):
    name = rule.__name__.split(".")[-1]
    tree = ast.parse((ROOT / "tests" / "diagnosis" / "rules" / f"test_{name}.py").read_text())
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {"test_it_fires", "test_it_stays_quiet", "test_it_does_not_apply"} <= tests
    (row,) = [line for line in (ROOT / "docs" / "health.md").read_text().splitlines() if rule.ABOUT.code in line]
    assert rule.ABOUT.title in row
    assert f"`{rule.ABOUT.family}`" in row


def test_that_a_missing_test_file_is_seen(tmp_path):
    assert "core/order.py" in untested(SOURCES, tmp_path)


def raised_texts() -> list[str]:
    """The literal text of the `what` of every error that the source can raise."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            for keyword in node.keywords:
                if keyword.arg == "what" and isinstance(keyword.value, (ast.Constant, ast.JoinedStr)):
                    values = getattr(keyword.value, "values", [keyword.value])
                    pieces = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
                    found.append(" ".join(pieces))
    return found


# Errors that cannot be provoked on this machine or through a public door, each with the reason.
UNTESTED = {
    "The head writes into its features.": "a guard against a fault of our own: no model is known to cause it",
    "No output of the model depends on a trainable weight.": "the head of such a model has no frontier to verify",
    "Cannot    .": "the door to the disk names the verb and the file; tested as 'Cannot read ...', 'Cannot create ...'",
    " needs validation  .": "tested as 'AUROC needs validation samples ...', 'R2 needs validation targets ...'",
    "There is no   named  .": "tested as 'no optimizer named ...' and 'no scheduler named ...'",
    "The frozen part changes its own state: the buffer   moves": "a guard: the recorder sees the write before it",
    "A manifest is not whole.": "it is passed over, and said in a note, which is tested",
}


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower()))


def expected_texts() -> list[set[str]]:
    """The words of every text that a test expects somewhere."""
    constants = [node.value for node in ast.walk(ast.parse(TESTS)) if isinstance(node, ast.Constant)]
    return [words(value) for value in constants if isinstance(value, str) and len(words(value)) >= 2]


def is_expected(text: str, expected: list[set[str]]) -> bool:
    own = words(text)
    return any(len(other & own) >= max(2, 0.6 * len(other)) for other in expected)


def test_every_error_text_is_rendered_by_a_test():
    expected = expected_texts()
    assert not is_expected("An error about penguins that nobody provokes.", expected)
    texts = [text for text in raised_texts() if not any(text.startswith(known) for known in UNTESTED)]
    assert [text for text in texts if not is_expected(text, expected)] == []


def test_names_in_messages_and_pages_exist():
    texts = [path.read_text() for path in (*SOURCES, *PAGES)]
    names = {name for text in texts for name in re.findall(r"\b(?:frostline|fl)\.([a-zA-Z_]+)\(", text)}
    assert names <= PUBLIC, names - PUBLIC
    dotted = {
        name
        for text in texts
        for name in re.findall(r"\b(?:frostline|fl)\.((?:data|training|remedies)\.[a-zA-Z_]+)", text)
    }
    for name in dotted:
        package, _, leaf = name.partition(".")
        module = __import__(f"frostline.{package}", fromlist=[leaf])
        assert hasattr(module, leaf) or (ROOT / "src" / "frostline" / package / f"{leaf}.py").exists(), name


def test_the_examples_in_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) == 2
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert len(names["result"].history) == 3
    assert (tmp_path / "features").is_dir()
    assert names["monitor"].samples


def test_the_commands_in_the_readme_run(tmp_path, monkeypatch):
    import_torchvision()
    monkeypatch.chdir(tmp_path)
    for place in ("photos/cat", "photos/dog", "new-photos"):
        (tmp_path / place).mkdir(parents=True)
        for at in range(5):
            pixels = np.random.default_rng(at).integers(0, 255, (24, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / place / f"{at}.jpg")
    save_file(build_model("timm:test_resnet").state_dict(), "test_resnet.safetensors")
    text = (ROOT / "README.md").read_text().replace("resnet18", "test_resnet")  # a small network of the same family
    lines = re.findall(r"^    frostline (.*)", text, re.M)
    assert [line.split()[0] for line in lines] == ["fit", "predict", "export", "choose-depth", "inspect", "cache"]
    for line in lines:
        done = CliRunner().invoke(app, shlex.split(line, comments=True))
        assert done.exit_code == 0, (line, done.output, done.exception)
    assert {"run", "model.onnx"} <= {path.name for path in tmp_path.iterdir()}


def test_pages_that_are_linked_exist():
    for path in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_import_contracts_hold():
    done = subprocess.run([str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
