"""The fuzzer of scaffolds finds what breaks its laws, and a small part of it runs here."""

import pytest
import torch

from exams.fuzz import scaffolds
from exams.fuzz.changed_graphs import FIXTURES, changed

NUM_CASES = 120
MODULE = '''"""Head."""

from torch import Tensor, nn


class Network(nn.Module):
    """Takes `x` (batch, 4); `ids` (2, 3) of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        {line}
        return x
'''


@pytest.mark.filterwarnings("ignore")  # of modules that compute with what was changed
def test_changed_graphs_become_a_module_or_are_refused():
    found = [verdict for _, verdict in scaffolds.verdicts(0, NUM_CASES)]
    assert len(found) == NUM_CASES
    assert set(found) <= {scaffolds.RUNS, scaffolds.RAISES, scaffolds.REFUSED}, found
    assert found.count(scaffolds.RUNS) > NUM_CASES // 8
    assert found.count(scaffolds.REFUSED) > NUM_CASES // 8


def test_a_number_makes_the_same_file_again_an_hour_later(monkeypatch):
    files = [changed(number) for number in range(20)]
    monkeypatch.setattr("zipfile.time.time", lambda: 1_800_000_000.0)
    assert [changed(number) for number in range(20)] == files
    assert sum(changed(number)[1] not in FIXTURES.values() for number in range(60)) > 40


def test_inputs_follow_the_docstring():
    values, ids = scaffolds.check_text(MODULE.replace("{line}", "x = self.one(x)"))
    assert values.shape == (2, 4)
    assert (ids.shape, ids.dtype) == ((2, 3), torch.long)


@pytest.mark.parametrize(("line", "why"), [
    ("x = eval('x')", "the name 'eval'"), ("__import__('os')", "the name '__import__'"),
    ("x = x.__class__", "the attribute '__class__'"), ("import os", "the statement 'import os'"),
    ("x = nn.Linear(inf, 2)", "the name 'inf'"), ("x = (lambda: x)()", "the statement"),
    ("x = torch.einsum(\"a'); b(\", x)", "the text"), ("x = (", "no Python"),
])  # fmt: skip
def test_text_of_a_file_that_became_code_is_found(line, why):
    with pytest.raises(scaffolds.BrokenLawError) as caught:
        scaffolds.check_text(MODULE.replace("{line}", line))
    assert why in str(caught.value)


def test_a_second_statement_beside_the_class_is_found():
    with pytest.raises(scaffolds.BrokenLawError, match="more than one class"):
        scaffolds.check_text(MODULE.replace("{line}", "pass") + "\nprint(1)\n")
    with pytest.raises(scaffolds.BrokenLawError, match="other than two functions"):
        scaffolds.check_text(MODULE.replace("{line}", "pass") + "\n    def more(self):\n        pass\n")


def test_other_errors_are_found(monkeypatch, tmp_path):
    def failing(source, path):
        raise KeyError(path)

    monkeypatch.setattr(scaffolds, "module_text", failing)
    fixture, content = next(iter(FIXTURES.items()))
    with pytest.raises(scaffolds.BrokenLawError, match="KeyError"):
        scaffolds.examine(fixture, content, tmp_path.resolve())


def test_what_is_opened_meanwhile_is_found(monkeypatch, tmp_path):
    def opening(source, path):
        open("/etc/hostname").close()
        return ""

    monkeypatch.setattr(scaffolds, "module_text", opening)
    fixture, content = next(iter(FIXTURES.items()))
    with pytest.raises(scaffolds.BrokenLawError, match="it did open /etc/hostname"):
        scaffolds.examine(fixture, content, tmp_path.resolve())


def test_a_module_that_cannot_be_imported_is_found(monkeypatch, tmp_path):
    text = MODULE.replace("{line}", "pass").replace("class Network(nn.Module)", "class Network(nn.Missing)")
    monkeypatch.setattr(scaffolds, "module_text", lambda source, path: text)
    fixture, content = next(iter(FIXTURES.items()))
    with pytest.raises(scaffolds.BrokenLawError, match="it cannot be imported"):
        scaffolds.examine(fixture, content, tmp_path.resolve())
