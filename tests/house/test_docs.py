"""The documentation: it is built without a warning, and its generated pages are those of the source."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from frostline.diagnosis.rules import RULES
from helpers_processes import run_script

DOCS = Path(__file__).parents[2] / "docs"
CODES = sorted(rule.ABOUT.code for rule in RULES)
# Findings that an example shows beside its own, each with the reason.
BESIDE = {
    "FL404": {"FL514"},  # an image gets another label in each epoch
    "FL102": {"FL302"},  # the output layer is too large for the same reason
    "FL507": {"FL413"},  # rows of the last classes are all that it knows
    "FL516": {"FL605"},  # inputs that are changed in place are other inputs in the second pass
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


# Errors that no test raises in its own process, each with the reason.
UNRECORDED: dict[str, str] = {}


def test_the_page_of_errors_is_that_of_the_recorded_texts():
    page = (DOCS / "reference" / "errors.md").read_text()
    assert page == load("pages").errors(), "python docs/pages.py errors writes it anew"


def test_every_error_of_the_source_has_a_recorded_text():
    sites, texts = load("error_sites").error_sites(), json.loads((DOCS / "error_examples.json").read_text())
    assert len(sites) > 400
    missing = {site.text.splitlines()[0] for site in sites if site.digest not in texts}
    assert missing == set(UNRECORDED), "python docs/error_examples.py records them"
    assert set(texts) == {site.digest for site in sites} & set(texts), (
        "python docs/error_examples.py removes the others"
    )


def test_recorded_texts_hold_the_words_of_the_source_and_nothing_of_the_machine():
    sites, texts = load("error_sites").error_sites(), json.loads((DOCS / "error_examples.json").read_text())
    for site in sites:
        if site.digest in texts:
            text = "\n".join(texts[site.digest]["text"])
            assert site.is_text_of(text), f"python docs/error_examples.py {texts[site.digest]['test']}"
            assert not site.is_text_of(text.replace("Received: ", "Got: "))
            assert not re.search(r"/tmp/|\b0x[0-9a-f]{6}|[0-9a-f]{32}", text), text
    for entry in texts.values():
        path, _, name = entry["test"].partition("::")
        assert f"def {name}(" in (DOCS.parent / path).read_text(), f"{entry['test']} is gone"


def test_the_site_is_built_without_a_warning(tmp_path):
    arguments = ["-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = run_script(f"from sphinx.cmd.build import main\nraise SystemExit(main({arguments}))", tmp_path)
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
