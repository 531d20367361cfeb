"""All hostile files, row by row, and a script that writes them out.

python -m porting.hostile.table FOLDER     (in the folder `tests`)
"""

from __future__ import annotations

import sys
from pathlib import Path

from . import archives, containers, formats, groups, messages, numbers, pairs, pickles
from .case import CASES

FILES = (archives, containers, formats, groups, messages, numbers, pairs, pickles)
ROWS = range(1, 53)


def write(folder: Path) -> None:
    """Every file in a folder of its own, named by its row and number."""
    for number, case in enumerate(CASES):
        place = folder / f"{case.row:02}-{number:03}"
        place.mkdir(parents=True)
        (place / "WHAT").write_text(f"{case.name}\nbuilt: {case.build(place)}\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
