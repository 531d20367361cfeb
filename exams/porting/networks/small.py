"""Counterparts of the networks of norms, of dense layers, and of nested and shared layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import by_hand as hand
from .counterpart import Counterpart


class Norms(nn.Module):
    """BatchNorm with and without its affine part; convolutions have a bias where their norm has none."""

    def __init__(self) -> None:
        super().__init__()
        epsilons, affine = (1e-3, 1e-5, 1e-4, 1e-2), (True, True, True, False)
        self.bn = nn.ModuleList([
            nn.BatchNorm2d(6, eps=eps, affine=flag, momentum=0.01) for eps, flag in zip(epsilons, affine, strict=True)
        ])  # fmt: skip
        self.cv = nn.ModuleList(
            [nn.Conv2d(ins, 6, 3, padding=1, bias=i % 2 == 1) for i, ins in enumerate((3, 6, 6, 6))]
        )
        self.end = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.cv, self.bn, strict=True):
            x = norm(conv(x)).relu()
        return self.end(x.mean((2, 3)))


class OtherNorms(nn.Module):
    """Group norms, and a LayerNorm over channels that stand second."""

    def __init__(self) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(8, eps=1e-2)
        self.g2, self.g4 = nn.GroupNorm(2, 8, eps=1e-5), nn.GroupNorm(4, 8, eps=1e-3)
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.g2(self.conv(self.g4(x)))
        return self.ln(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Slopes(nn.Sequential):
    """PReLU and LeakyReLU."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 3), nn.PReLU(6), nn.Conv2d(6, 6, 3), nn.PReLU(6), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
            nn.Linear(6, 4), nn.LeakyReLU(0.3),
        )  # fmt: skip


class Nested(nn.Module):
    """The twins as two entries of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.arms = nn.ModuleDict(
            {side: nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)) for side in ("b", "a")}
        )
        self.vote = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.vote((self.arms["a"](x) + self.arms["b"](x)).relu())


class Shared(nn.Module):
    """One encoder, and one dense layer that runs three times."""

    def __init__(self) -> None:
        super().__init__()
        self.compare = nn.Linear(4, 4)
        self.repeat = nn.Linear(4, 4)
        self.look = nn.Conv2d(3, 4, 3)

    def side(self, x: Tensor) -> Tensor:
        """One input, encoded."""
        return self.repeat(self.look(x).relu().mean((2, 3))).tanh()

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        left = self.repeat(self.side(left)).tanh()
        return self.compare(left - self.side(right))


class Standardise(nn.Module):
    """Mean and variance of the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("variance", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean[:, None, None]) / self.variance[:, None, None].sqrt()


class Preprocessed(nn.Module):
    """Normalisation and rescaling inside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = Standardise()
        self.eye, self.mouth = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.eye(self.inputs(x) * 0.5 + 1.0)
        return self.mouth(F.elu(x).mean((2, 3)))


class Squares(nn.Sequential):
    """Four square layers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8)
        )


COUNTERPARTS = {
    "batchnorm": Counterpart(
        Norms,
        {f"cv.{i}": f"conv_{i}" for i in range(4)} | {f"bn.{i}": f"norm_{i}" for i in range(4)} | {"end": "scores"},
        moved=True,
    ),
    "norms": Counterpart(OtherNorms, {"g4": "groups", "g2": "halves", "ln": "channels", "conv": "mix"}, moved=True),
    "prelu": Counterpart(
        Slopes, {"0": "conv_a", "1": "slope_a", "2": "conv_b", "3": "slope_b", "6": "out"}, moved=True
    ),
    "nested": Counterpart(
        Nested,
        {
            "arms.a.0": "left_in",
            "arms.a.2": "left_out",
            "arms.b.0": "right_in",
            "arms.b.2": "right_out",
            "vote": "scores",
        },
    ),
    "shared": Counterpart(Shared, {"look": "eye", "repeat": "again", "compare": "verdict"}, moved=True),
    "preprocessing": Counterpart(
        Preprocessed,
        {
            "inputs": hand.joined(hand.leaf("mean", "standardise/mean"), hand.leaf("variance", "standardise/variance")),
            "eye": "conv",
            "mouth": "out",
        },
        moved=True,
    ),
    "square_dense": Counterpart(Squares, {str(2 * i): f"square_{i}" for i in range(4)}),
}
