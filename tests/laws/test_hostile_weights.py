"""The 52 rows of hostile inputs: a typed error or the right reading, in bounded memory, and nothing else is touched."""

import codecs
import json
import re
import resource
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from exams.fuzz import readers
from frostline.core.errors import PortError
from frostline.porting.readers.formats import open_source
from helpers_processes import run_script
from porting.hostile.table import CASES, ROWS

MEMORY_BYTES = 1 << 30  # two million values of a pickle take half of it


def outcome(case, path):
    """The error of a case, or what was read."""
    try:
        if case.port is not None:
            case.port(path)
            return "ported"
        with open_source(path) as (source, _):
            for tensor in source.tensors:
                tensor.load()
        return " ".join((source.format, *source.notes))
    except PortError as error:
        assert all(error.parts().values())
        return f"PortError: {error}"


def test_every_row_of_the_table_has_a_case():
    assert Counter(case.row for case in CASES).keys() == set(ROWS)
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(bool(case.says) != bool(case.reads) for case in CASES)


@pytest.fixture(scope="module")
def imported():
    """Everything that intact files need, so that whatever is imported later was asked for by a file."""
    for name in ("cp437", "utf-16-le", "utf-32-le"):
        codecs.lookup(name)
    return readers.entrances()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace("/", "|"))
def test_a_hostile_file_is_refused_or_read_as_data(case, imported):
    with tempfile.TemporaryDirectory() as folder:
        path = case.build(Path(folder).resolve())
        if case.port is not None:  # PyTorch's own arithmetic imports at its first call
            check(case, outcome(case, path))
            return
        with readers.watched(Path(folder).resolve()) as seen:
            said = outcome(case, path)
        check(case, said)
        assert seen == ([] if not path.is_char_device() else ["open /dev/zero"])


def check(case, said):
    assert said.startswith("PortError") == bool(case.says), said
    assert re.search(case.says or case.reads, said), said


def test_all_of_them_together_in_a_process_of_little_memory(tmp_path):
    """Memory that Python does not see, and crashes, would end this process."""
    code = (
        "import resource, sys; sys.path[:0] = sys.argv[2:]\n"
        "from laws import test_hostile_weights as own\n"
        "own.run_all(sys.argv[1])"
    )
    tests = Path(__file__).parents[1]
    found = run_script(code, tmp_path, arguments=[str(tmp_path), str(tests), str(tests.parent)])
    assert found.returncode == 0, found.stderr[-2000:]
    assert json.loads(found.stdout) == {"refused": len([case for case in CASES if case.says]), "read":
                                        len([case for case in CASES if case.reads])}  # fmt: skip


def run_all(folder):
    """Every case, in a process that may take little more memory than it has after the first one."""
    verdicts = Counter()
    for number, case in enumerate(CASES):
        place = Path(folder).resolve() / str(number)
        place.mkdir()
        path = case.build(place)
        if number == 1:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
        verdicts["refused" if outcome(case, path).startswith("PortError") else "read"] += 1
        shutil.rmtree(place)
    print(json.dumps(verdicts))
