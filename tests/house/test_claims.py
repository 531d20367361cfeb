"""The experiments of docs/claims: each is there with its results, and runs."""

import json
import runpy
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "docs" / "claims"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("reporting", "page", "depth_tasks"))


@pytest.fixture
def run(monkeypatch):
    """Run a script of the folder as a command, and leave threads, settings and modules as they were."""
    threads, modules = torch.get_num_threads(), set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")

    with mpl.rc_context():
        yield call
    torch.set_num_threads(threads)
    for name in ("reporting", "page", "depth_tasks"):
        if name not in modules:
            sys.modules.pop(name, None)


def shape(value):
    """The keys of a result, without its numbers."""
    return {key: shape(part) for key, part in value.items()} if isinstance(value, dict) else None


def test_all_experiments_are_there():
    assert NAMES == ["batchnorm", "clipping", "dead_relus", "depth", "elu_price", "gradients_by_depth"]
    makefile = (FOLDER.parents[1] / "Makefile").read_text()
    listed = next(line for line in makefile.splitlines() if line.startswith("CLAIMS :="))
    assert sorted(listed.split()[2:]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_run_gives_the_same_keys_as_the_published_one(name, run, tmp_path, capsys):
    run(name, "--quick", "--out", str(tmp_path))
    mine = json.loads((tmp_path / f"{name}.json").read_text())
    published = json.loads((FOLDER / f"{name}.json").read_text())
    assert shape(mine) == shape(published)
    assert [claim["statement"] for claim in mine["claims"]] == [claim["statement"] for claim in published["claims"]]
    for suffix in (".md", ".svg"):
        assert (tmp_path / f"{name}{suffix}").stat().st_size > 500
    assert "| statement | measured | verdict |" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_small_and_pages_say_where_they_were_measured(name):
    assert (FOLDER / f"{name}.svg").stat().st_size < 100_000
    page = (FOLDER / f"{name}.md").read_text()
    for part in ("torch ", f"`python docs/claims/{name}.py`", f"({name}.svg)"):
        assert part in page


def test_a_tiny_run_never_overwrites_the_pages(run, capsys):
    with pytest.raises(SystemExit):
        run(NAMES[0], "--quick")
    assert "its figures are not for the pages" in capsys.readouterr().err


def test_the_page_of_all_statements_is_the_one_its_script_writes(run):
    page = FOLDER / "README.md"
    before = page.read_text()
    run("page")
    assert page.read_text() == before
