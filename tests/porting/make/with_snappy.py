"""Write `tests/porting/files/snappy`: blocks as Google's own library compresses them.

Needs cramjam==2.14.0 (`pip install cramjam numpy`). Run: `python tests/porting/make/with_snappy.py`.
"""

from pathlib import Path

import cramjam
import numpy as np

OUT = Path(__file__).parents[1] / "files" / "snappy"


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    contents = {
        "empty": b"",
        "short": b"abc",
        "runs": b"a" * 300 + b"ab" * 500 + bytes(700),
        "mixed": b"".join(b"layer_%d/kernel%s" % (k, rng.bytes(k % 90)) for k in range(60)) * 2,
        "random": rng.bytes(700),
    }
    for name, content in contents.items():
        (OUT / f"{name}.raw").write_bytes(content)
        (OUT / f"{name}.snappy").write_bytes(bytes(cramjam.snappy.compress_raw(content)))


if __name__ == "__main__":
    main()
