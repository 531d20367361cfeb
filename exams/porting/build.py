"""Environments of the frameworks by committed lists of versions, and the networks that their scripts build in them."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = Path("build/porting")
NETWORKS, ENVIRONMENTS = BUILD / "networks", BUILD / "environments"
OWN = "own"  # the environment in which the exam itself runs, for what needs PyTorch

SCRIPTS = {
    "from_keras.py": "keras",
    "from_onnx.py": "onnx",
    "from_torch.py": OWN,
    "from_flax.py": "flax",
    "from_jax.py": "jax",
    "from_tf_keras.py": "tensorflow",
    "from_tensorflow.py": "tensorflow",
    "from_paddle.py": "paddle",
    "from_sklearn.py": "sklearn",
}


def environment(name: str) -> Path:
    """The Python of an environment, made on first use.

    Args:
        name: Of a list in `environments/`, or `own`.
    """
    if name == OWN:
        return Path(sys.executable)
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not (folder / "installed").exists() and not folder.is_symlink():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        wanted = HERE / "environments" / f"{name}.txt"
        if "own environment" in wanted.read_text():
            share(python)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
        (folder / "installed").touch()
    return python


def share(python: Path) -> None:
    """Let an environment see the packages of this one, for PyTorch without another gigabyte."""
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site,) = (python.parents[1] / "lib").glob("python*/site-packages")
    (site / "own.pth").write_text("\n".join(ours) + "\n")


def state(script: Path) -> str:
    """A digest of everything a script is made of."""
    wanted = HERE / "environments" / f"{SCRIPTS[script.name]}.txt"
    files = [script, script.with_name("golden.py"), *sorted(script.parent.glob("*_n[ea]*.py"))]
    files += [wanted] if wanted.exists() else []
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def build(only: list[str] | None = None) -> None:
    """Run each script whose networks are missing or older than itself.

    Args:
        only: Names of scripts; all if omitted.
    """
    for name, where in SCRIPTS.items():
        script = HERE / "cases" / name
        stamp = NETWORKS / f"{script.stem}.built"
        is_done = stamp.exists() and stamp.read_text() == state(script)
        if is_done or (only and name not in only):
            continue
        NETWORKS.mkdir(parents=True, exist_ok=True)
        command = [environment(where), "-W", "ignore", script, NETWORKS.resolve()]
        settings = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(command, check=True, env={**os.environ, **settings})
        stamp.write_text(state(script))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m exams.porting.build", description=__doc__)
    parser.add_argument("only", nargs="*", help="scripts; all if omitted")
    build(parser.parse_args().only)
