"""The documentation: it is built without a warning, and its generated pages are those of the source."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from frostline.diagnosis.rules import RULES

DOCS = Path(__file__).parents[2] / "docs"
CODES = sorted(rule.ABOUT.code for rule in RULES)
# Findings that an example shows beside its own, each with the reason.
BESIDE = {
    "FL102": {"FL302"},  # the output layer is too large for the same reason
    "FL501": {"FL302"},  # large inputs make large outputs
}
NUMBER = re.compile(r"\d(?:[\d.,]|e[+-]\d)*")


def load(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def examples():
    """All examples of findings, run once."""
    run_example = load("finding_examples").run_example
    return {code: run_example(code) for code in CODES}


@pytest.mark.parametrize("code", CODES)
def test_an_example_shows_its_finding_and_its_fix_does_not(code, examples):
    example = examples[code]
    assert example.diagnosis.findings[0].code == code
    assert {finding.code for finding in example.diagnosis.findings} - {code} == BESIDE.get(code, set())
    assert not example.fixed.findings
    assert example.after(code)[0] in {"passed", "not applicable"}
    assert len(example.code.splitlines()) <= 25


def test_there_is_an_example_for_every_code_and_no_other():
    found = {path.stem.upper() for path in (DOCS / "examples" / "findings").glob("*.py")}
    assert found == {*CODES, "SETTING"}


def test_the_page_of_findings_is_that_of_a_run(examples):
    made, page = load("pages").findings(examples), (DOCS / "reference" / "findings.md").read_text()
    assert NUMBER.sub("#", page) == NUMBER.sub("#", made), "python docs/pages.py writes it anew"


def test_the_page_of_errors_is_that_of_the_source():
    made = load("pages").errors({})
    page = re.sub(r"^(\*\*\w+\*\*):.*", r"\1", (DOCS / "reference" / "errors.md").read_text(), flags=re.M)
    made = re.sub(r"^(\*\*\w+\*\*):.*", r"\1", made, flags=re.M)  # tests may be renamed without a new page
    assert page == made, "python docs/pages.py errors writes it anew"


def test_every_error_class_has_an_entry_and_nearly_every_error_a_situation():
    page = (DOCS / "reference" / "errors.md").read_text()
    for kind in ("LayerNotFound", "SplitError", "NotCacheable", "CacheError", "DataError", "PortError"):
        assert f"**{kind}**" in page
    entries = re.findall(r"^\*\*\w+\*\*(:?)", page, re.M)
    assert len(entries) > 250
    assert entries.count("") <= 0.2 * len(entries), "python docs/error_examples.py records what tests provoke"


def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Freeze and reuse" in (tmp_path / "reference" / "index.html").read_text()


def test_the_pictures_show_what_was_measured(tmp_path, monkeypatch):
    pictures = load("pictures")
    monkeypatch.setattr(pictures, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["pictures.py"])
    with pictures.mpl.rc_context():
        pictures.main()
    found = json.loads(pictures.STORE.read_text())
    assert {path.name for path in tmp_path.iterdir()} == set(pictures.PICTURES)
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert " x ".join(map(str, found["frost_line"]["shape"])) in drawn["frost-line.svg"]
    for row in found["loss_over_time"]:
        assert f"{row['name']}: {row['seconds'][-1]:.2f} s" in drawn["demo.svg"]
        assert f"{row['seconds'][-1]:.2f} s" in (DOCS / "index.md").read_text()
    for treatment in found["healing"]["tried"]:
        assert f"{'kept' if treatment['is_kept'] else 'dropped'}: {treatment['name']}" in drawn["healing.svg"]
