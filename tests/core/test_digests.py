import subprocess
import sys

import pytest
import torch

from frostline.core.digests import checksum, code_digest, tensor_digest


def test_a_tensor_is_its_dtype_shape_and_values_wherever_it_lies():
    x = torch.arange(12.0).view(3, 4)
    assert tensor_digest(x) == tensor_digest(x.t().contiguous().t()) == tensor_digest(torch.nn.Parameter(x.clone()))
    others = [x, x.view(4, 3), x.double(), x + 1e-6, torch.zeros(0), torch.zeros(0, 3), x.bfloat16()]
    assert len({tensor_digest(other) for other in others}) == len(others)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_a_sparse_tensor_is_its_layout_and_entries():
    x = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    table = x.to_sparse()
    entries = [[0, 1, 1], [1, 0, 0]], [1.0, 0.5, 1.5]  # the same, one of them in two parts
    twice = torch.sparse_coo_tensor(*entries, (2, 2), check_invariants=True)
    assert tensor_digest(table) == tensor_digest(twice)
    assert checksum(table) == checksum(twice)
    others = [x, table, x.to_sparse_csr(), x.to_sparse_csc(), (x * 2).to_sparse(), x.flip(0).to_sparse()]
    assert len({tensor_digest(other) for other in others}) == len(others)
    assert checksum((x * 2).to_sparse()) != checksum(table)


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


@pytest.mark.parametrize(
    "source",
    ["def f(x): return [v for v in x if v != 'a']", "def f(x): return any(v == 'a' for v in x)",
     "f = lambda x: x == 'a'", "def f(x): return {v: 'a' for v in x}", "def f(x):\n    'a'\n    return x, 'a'"],
    ids="list generator lambda dict same-as-docstring".split(),
)  # fmt: skip
def test_a_text_that_the_code_uses_is_no_docstring(source):
    assert digest(source) != digest(source.replace("'a'", "'b'"))


def test_a_docstring_is_not_what_code_does():
    told, retold = (f"def f(x):\n    '{text}'\n    return x == 'c'" for text in "ab")
    assert digest(told) == digest(retold)
    assert digest(told) != digest(told.replace("'c'", "'a'"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_a_sum_over_the_bits_tells_one_bit_and_the_size(dtype, size):
    x = torch.ones(size, dtype=dtype)
    assert checksum(x) == checksum(x.clone()) == checksum(torch.stack([x, x])[:, :].t().contiguous().t()[0])
    assert checksum(x) != checksum(torch.ones(size + 1, dtype=dtype))
    assert checksum(x * 0) != checksum(torch.zeros(size + 1, dtype=dtype))
    for at in range(size):
        moved = x.clone()
        moved.view(torch.uint8)[at * x.element_size()] ^= 1
        assert checksum(moved) != checksum(x)


def test_a_buffer_that_was_digested_can_still_be_resized():
    buffer = torch.ones(4)
    assert tensor_digest(buffer) == tensor_digest(torch.ones(4))
    assert buffer.resize_(100).shape == (100,)
