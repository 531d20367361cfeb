import pytest
import torch
import torch.nn.functional as F

from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.interpreter.work import Work, work_of

CALL = 300_000
X, W = torch.ones(2, 3, 8, 8), torch.ones(5, 3, 3, 3)


@pytest.mark.parametrize(
    ("run", "count"),
    [
        (lambda: torch.ones(4, 5) @ torch.ones(5, 6), 4 * 5 * 6),
        (lambda: torch.ones(7, 4, 5) @ torch.ones(7, 5, 6), 7 * 4 * 5 * 6),
        (lambda: F.linear(torch.ones(4, 5), torch.ones(6, 5), torch.ones(6)), 4 * 5 * 6),
        (lambda: F.conv2d(X, W, padding=1, stride=2), 2 * 25 * W.numel()),
        (lambda: F.conv_transpose2d(X, W.movedim(0, 1)), 2 * 64 * W.numel()),
        (lambda: F.max_pool2d(X, 4, 1), X.numel() * 16),
        (lambda: F.avg_pool2d(X, 4), X.numel()),
        (lambda: X + X, 2 * X.numel()),
    ],
    ids=["matrix", "batch", "linear", "conv", "transposed", "pool", "pool of its size", "sum"],
)
def test_multiplications_are_counted(run, count):
    rest = work_of(run) - count
    assert rest >= CALL
    assert rest % CALL < 2_000  # values that are only moved
    assert work_of(run) == work_of(run)


def test_attention_is_counted_by_queries_and_keys():
    q = torch.ones(1, 2, 500, 8)
    assert work_of(lambda: F.scaled_dot_product_attention(q, q, q)) > 2 * 2 * 500 * 500 * 8


def test_nothing_is_computed_beyond_the_bound():
    made = []
    with pytest.raises(NotInterpretedError, match="more than 1e\\+06 multiplications"), Work(1e6):
        for _ in range(10):
            made.append(X + 1)
    assert 0 < len(made) < 4
