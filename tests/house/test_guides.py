"""The tutorial, explanations and every guide: their Python and commands run, in order, from an empty folder."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers_processes import Done, run_script

DOCS = Path(__file__).parents[2] / "docs"
EXPLANATIONS = [DOCS / f"{name}.md" for name in ("splitting", "cache-key", "doctor")]
GUIDES = [DOCS / "tutorial.md", *EXPLANATIONS, *sorted((DOCS / "guides").glob("*.md"))]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.M | re.S)


def write_images(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(6):
            pixels = generator.integers(0, 255, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


def write_weights(path: Path) -> None:
    made = run(
        f"import timm, torch; torch.save(timm.create_model({path.stem!r}).state_dict(), {path.name!r})", path.parent
    )
    assert made.returncode == 0, made.stderr


def prepare(page: str) -> None:
    """What a page takes as given, from its line `<!-- test: images A B; weights FILE -->`."""
    for line in re.findall(r"<!-- test: (.*?) -->", page):
        for kind, *names in (part.split() for part in line.split(";")):
            for name in names:
                {"images": write_images, "weights": write_weights}[kind](Path(name))


def script_of(page: str) -> str:
    """The page as one script: Python as it stands, files written and imported, commands run as they are typed."""
    parts = ["from frostline.cli.main import app"]
    for language, text in BLOCK.findall(page):
        if language == "console":
            commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
            assert commands
            assert all(command.startswith("frostline ") for command in commands)
            for command in commands:
                arguments = command.split()[1:]
                parts.append(f"if app({arguments}, standalone_mode=False): raise SystemExit('`{command}` failed')")
        elif named := re.match(r"# (\w+\.py)\n", text):
            parts.append(f"open({named[1]!r}, 'w').write({text!r})")
        else:
            parts.append(text)
    return "\n".join(parts)


def run(script: str, folder: Path) -> Done:
    return run_script(script, folder, environment={"XDG_CACHE_HOME": str(folder)})


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_a_guide_runs_as_it_is_written(path, tmp_path, monkeypatch):
    page = path.read_text().replace("resnet18", "test_resnet")  # the smallest of its family
    assert BLOCK.search(page)
    monkeypatch.chdir(tmp_path)
    prepare(page)
    done = run(script_of(page), tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_a_command_that_fails_would_be_noticed(tmp_path):
    page = "```console\n$ frostline fit missing/ --model nets:small\n```\n"
    done = run(script_of(page), tmp_path)
    assert done.returncode != 0
    assert "missing" in done.stderr
