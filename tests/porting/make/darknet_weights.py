"""Write a small file of Darknet, for the fuzzer, by the layout of its `parser.c`: Darknet has no package for Python.

Needs numpy:

    python tests/porting/make/darknet_weights.py
"""

import struct
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "files" / "darknet"
CFG = "[net]\nchannels=3\n[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\n[convolutional]\nfilters=2\nsize=1\n"


def main() -> None:
    """Write the weights of two convolutions, and their description."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    floats = np.random.default_rng(0).uniform(0.5, 1.5, size=4 * 4 + 4 * 3 * 9 + 2 + 2 * 4).astype("<f4")
    (FOLDER / "net.weights").write_bytes(struct.pack("<3iq", 0, 2, 5, 100) + floats.tobytes())
    (FOLDER / "net.cfg").write_text(CFG)


if __name__ == "__main__":
    main()
