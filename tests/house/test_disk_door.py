"""Every call by which the cache asks the disk passes `frostline.core.io.call`, where tests let it fail."""

import ast
import re
from pathlib import Path

SRC = Path(__file__).parents[2] / "src" / "frostline"
CORE = ("io", "locks", "new_files", "file_systems", "disk_array", "file_map")
SOURCES = [*sorted((SRC / "caching").rglob("*.py")), *(SRC / "core" / f"{name}.py" for name in CORE)]

# What asks the disk, as a method of a path, a function of a module, or a builtin.
PATHS = {"exists", "glob", "is_dir", "is_file", "is_symlink", "iterdir", "lstat", "mkdir", "read_bytes", "read_text",
         "rename", "rglob", "rmdir", "samefile", "stat", "symlink_to", "touch", "unlink", "write_bytes",
         "write_text", "link_to", "hardlink_to", "chmod", "resolve", "expanduser"}  # fmt: skip
MODULES = {"os", "shutil", "tempfile", "mmap", "fcntl"}
DOORS = {"io", "_shelf"}  # what stands there passes the door itself; a store has one of its own (`core/shelf.py`)
# Nothing of these asks the disk for content or changes any; to close a file that was only read cannot lose anything.
FREE = {"close", "fspath", "getpid", "major", "minor", "strerror", "sysconf", "urandom", "TemporaryDirectory"}
# The explanation of an error that has been raised already, which a fault here would hide; the key outside of the cache.
APART = {("io.py", "make_folder"), ("sharing.py", "signer_of"), ("sharing.py", "_signer")}
APART |= {("windows.py", "_memory")}  # memory of no file


def direct_calls(path: Path, source: str) -> list[str]:
    """Calls that do not pass the door, as `file:line name`."""
    found: list[str] = []
    tree = ast.parse(source)
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        if (path.name, function.name) in APART:
            for node in ast.walk(function):
                node.is_free = True
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or hasattr(node, "is_free"):
            continue
        own = node.func
        if isinstance(own, ast.Name) and own.id in ("open", "mmap", "flock"):
            found.append(f"{path.name}:{node.lineno} {own.id}")
        if not isinstance(own, ast.Attribute):
            continue
        module = own.value.id if isinstance(own.value, ast.Name) else getattr(own.value, "attr", "")
        is_asking = own.attr not in FREE if module in MODULES else own.attr in PATHS and module not in DOORS
        if is_asking:
            found.append(f"{path.name}:{node.lineno} {own.attr}")
    return found


def test_the_cache_asks_the_disk_through_one_door():
    found = [text for path in SOURCES for text in direct_calls(path, path.read_text())]
    assert found == []


def test_that_test_can_fail():
    source = "def f(path):\n    path.unlink()\n    os.rename(path, 'x')\n    open(path)\n    io.call(os.unlink, path)\n"
    assert direct_calls(Path("x.py"), source) == ["x.py:2 unlink", "x.py:3 rename", "x.py:4 open"]


def test_the_fault_matrix_names_tests_that_exist():
    root = Path(__file__).parents[2]
    page = (root / "docs" / "reliability.md").read_text()
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| (.+) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 46))
    known = set(
        re.findall(r"^def (test_\w+)", "\n".join(p.read_text() for p in root.glob("tests/**/*.py")), re.MULTILINE)
    )
    named = {name for _, text in rows for name in re.findall(r"`(test_\w+)`", text)}
    assert len(named) > 60
    assert named <= known, named - known
