"""Runs weightbridge on the networks of the exam.

It is given what it asks for: the arrays of the source under their own names, those of the module with their shapes, and
the format of the source where it has one. Run as `python run_weightbridge.py NETWORKS TARGETS OUT`: `TARGETS` holds a
`.npz` for each network, and `OUT` gets one with the values.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import weightbridge

FORMATS = {
    "keras": "tensorflow",
    "tf_keras": "tensorflow",
    "tensorflow": "tensorflow",
    "flax": "flax",
    "nnx": "flax",
    "haiku": "haiku",
}


def main() -> None:
    """Adapt each."""
    networks, targets, out = (Path(name) for name in sys.argv[1:])
    for file in sorted(targets.glob("*.npz")):
        framework, name = file.stem.split("__")
        with np.load(networks / framework / name / "arrays.npz") as arrays:
            source = dict(arrays)
        with np.load(file) as arrays:
            target = dict(arrays)
        given = FORMATS.get(framework)
        try:
            found = weightbridge.adapt(
                source, target, in_format=given, out_format=given and "pytorch", in_separator="/", out_separator="."
            )
        except Exception as error:  # a refusal of any kind is a result
            (out / f"{file.stem}.txt").write_text(f"{type(error).__name__}: {error}")
        else:
            np.savez(out / file.name, **{key: np.asarray(value) for key, value in found.items()})


if __name__ == "__main__":
    main()
