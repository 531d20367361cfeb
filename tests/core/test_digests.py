import subprocess
import sys

import torch

from frostline.core.digests import code_digest, tensor_digest


def test_a_tensor_is_its_dtype_shape_and_values_wherever_it_lies():
    x = torch.arange(12.0).view(3, 4)
    assert tensor_digest(x) == tensor_digest(x.t().contiguous().t()) == tensor_digest(torch.nn.Parameter(x.clone()))
    others = [x, x.view(4, 3), x.double(), x + 1e-6, torch.zeros(0), torch.zeros(0, 3), x.bfloat16()]
    assert len({tensor_digest(other) for other in others}) == len(others)


def digest(source: str) -> str:
    names: dict = {}
    exec(source, names)
    return code_digest(names["f"].__code__)


PLAIN = "def f(x):\n    return x * 2 + 1"


def test_code_is_what_it_does():
    same = [PLAIN, "\n\n# a comment\n" + PLAIN]
    assert len({digest(source) for source in same}) == 1
    others = [PLAIN, PLAIN.replace("2", "3"), PLAIN.replace("*", "/"), PLAIN.replace("x", "y"),
              "def f(x):\n    return (lambda: x * 2 + 1)()", "def f(x):\n    return (lambda: x * 2 + 2)()"]  # fmt: skip
    assert len({digest(source) for source in others}) == len(others)


def test_code_with_a_set_is_the_same_in_every_process():
    lines = ("from frostline.core.digests import code_digest",
             "def f(x): return x in {'a', 'b', 'c', 'd'} or x == (1, ('e', 'f'))",
             "print(code_digest(f.__code__))")  # fmt: skip
    found = set()
    for seed in ("1", "2"):
        environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", "\n".join(lines)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1
