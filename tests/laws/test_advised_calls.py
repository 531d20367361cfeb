"""Every call of ours that the doctor names, in findings, errors, docstrings and pages, runs as it is written."""

import ast
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.diagnosis.rules import RULES
from frostline.diagnosis.rules.advice import draw

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "frostline"
PLACES = [
    *sorted((SOURCE / "diagnosis").rglob("*.py")), *sorted((SOURCE / "remedies").rglob("*.py")),
    *(SOURCE / "recipes" / f"{name}.py" for name in ("checkup", "heal", "healing", "monitoring")),
]  # fmt: skip
PAGES = [ROOT / "docs" / f"{name}.md" for name in ("health", "remedies", "exam")]
NAMED = re.compile(r"\b(?:fl|frostline)\.(?!py\b)[A-Za-z_]+(?:\.[A-Za-z_]+)*")
# What a text leaves to be filled in, by the name before it.
FILLED = {"layers": "'fc1'", "patterns": "['bn1']", "mean": "80.0", "deviation": "9.0"}


def texts(path):
    """The strings of a file of Python, whole, with `{}` for what is filled in; the text of a page."""
    if path.suffix == ".md":
        return [path.read_text()]
    found, parts = [], set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):  # met before its parts
            parts |= {id(part) for part in ast.walk(node)} - {id(node)}
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            found.append(node.value)
    return found


def calls(text):
    """`fl.a.b`, with the arguments that follow, those of what it returns as well."""
    for match in NAMED.finditer(text):
        end = match.end()
        while text[end : end + 1] == "(":
            depth, at = 0, end
            for at in range(end, len(text)):
                depth += (text[at] == "(") - (text[at] == ")")
                if not depth:
                    break
            end = at + 1
        yield re.sub(r"\s+", " ", text[match.start() : end])


def named():
    found = {call for path in [*PLACES, *PAGES] for text in texts(path) for call in calls(text)}
    found |= {call for rule in RULES for call in calls(rule.ABOUT.advice)}
    return sorted({call for call in found if "frostline.core" not in call and not _is_module(call)})


def _is_module(call):
    """`frostline.diagnosis.rules`, as imports and names in comments say it."""
    return "(" not in call and (SOURCE.parent / call.replace(".", "/")).exists()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.bn1, self.act, self.fc2 = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16)
        self.squash, self.gate, self.head = nn.Tanh(), nn.Sigmoid(), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.gate(self.squash(self.fc2(self.act(self.bn1(self.fc1(x)))))))


def situation():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    data = [
        (torch.randn(16, 6, generator=generator), torch.randint(0, 3, (16,), generator=generator)) for _ in range(10)
    ]
    F.cross_entropy(model(data[0][0]), data[0][1]).backward()
    train = TensorDataset(torch.cat([x for x, _ in data]), torch.cat([y for _, y in data]))
    return {
        "fl": fl, "frostline": fl, "torch": torch, "nn": nn, "model": model, "optimizer": optimizer, "loader": data,
        "batches": data, "batch": data[0], "loss_fn": F.cross_entropy, "train": train, "inputs": data[0][0],
        "example": data[0][0],
    }  # fmt: skip


def filled(call):
    return re.sub(r"(\w+)=(\[?)\{\}\]?", lambda m: f"{m[1]}={FILLED[m[1]]}", call).replace("=...", "='head'")


@pytest.mark.parametrize("call", named())
def test_what_is_named_runs(call):
    if "(" not in call:
        value = fl
        for part in call.split(".")[1:]:
            value = getattr(value, part)
        assert value is not None
        return
    here = situation()
    before = [parameter.detach().clone() for parameter in here["model"].parameters()]
    result = eval(filled(call), here)
    assert result is not None
    if "initialize(" in call:
        assert result.layers
        assert any(not torch.equal(a, b) for a, b in zip(before, here["model"].parameters(), strict=True))


def test_calls_are_found():
    found = named()
    assert draw("fc1") in found
    assert "fl.remedies.clip_by_norm(1e30)(model.parameters())" in found
    assert len([call for call in found if "(" in call]) > 12


def test_drawing_weights_anew_without_saying_which_is_advised_nowhere():
    assert not [call for call in named() if re.fullmatch(r"(fl|frostline)\.remedies\.initialize\(model\)", call)]


@pytest.mark.parametrize("layer", ["fc1", "(the model)"])
def test_a_layer_can_be_drawn_anew_and_the_optimizer_goes_on(layer):
    here = situation()
    if layer != "fc1":
        here["model"] = nn.Linear(6, 3)
        here["optimizer"] = torch.optim.SGD(here["model"].parameters(), lr=0.05, momentum=0.9)
    assert eval(draw(layer), here).layers
    here["optimizer"].step()


def test_the_norms_that_are_inserted_as_advised_are_trained():
    here = situation()
    call = next(call for call in named() if "insert_batchnorm(" in call)
    assert "optimizer=optimizer" in call
    eval(call, here)
    held = {id(p) for group in here["optimizer"].param_groups for p in group["params"]}
    assert {id(p) for p in here["model"].parameters()} <= held
