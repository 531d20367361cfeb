"""The documentation: it is built without a warning, and its generated pages are those of the source."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def pages():
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["findings", "errors"])
def test_a_generated_page_is_that_of_the_source(name):
    made = getattr(pages(), name)()
    assert (DOCS / "reference" / f"{name}.md").read_text() == made, "python docs/pages.py writes it anew"


def test_every_error_class_has_an_entry():
    made = pages().errors()
    for kind in ("LayerNotFound", "SplitError", "NotCacheable", "CacheError", "DataError", "PortError"):
        assert f"**{kind}**" in made


def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Freeze and reuse" in (tmp_path / "reference" / "index.html").read_text()
