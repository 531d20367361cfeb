"""Modules for the weight files of public packages, written from the description of their networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from .counterpart import Counterpart

if TYPE_CHECKING:
    from collections.abc import Sequence


class Bottleneck(nn.Module):
    """A block of Caffe's ResNet: its stride is in the first convolution, and convolutions have a bias."""

    def __init__(self, ins: int, middle: int, stride: int) -> None:
        super().__init__()
        outs = 4 * middle
        self.body = nn.Sequential(
            nn.Conv2d(ins, middle, 1, stride=stride), nn.BatchNorm2d(middle), nn.ReLU(),
            nn.Conv2d(middle, middle, 3, padding=1), nn.BatchNorm2d(middle), nn.ReLU(),
            nn.Conv2d(middle, outs, 1), nn.BatchNorm2d(outs),
        )  # fmt: skip
        is_plain = ins == outs and stride == 1
        self.side = None if is_plain else nn.Sequential(nn.Conv2d(ins, outs, 1, stride=stride), nn.BatchNorm2d(outs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + (x if self.side is None else self.side(x)))


class HalfResNet(nn.Module):
    """ResNet-50 of half width, up to its logits."""

    def __init__(self) -> None:
        super().__init__()
        ins, stages = 64, []
        for index, count in enumerate((3, 4, 6, 3)):
            middle = 32 << index
            for block in range(count):
                stages.append(Bottleneck(ins, middle, 2 if index and not block else 1))
                ins = 4 * middle
        self.blocks = nn.Sequential(*stages)
        self.enter = nn.Sequential(nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.BatchNorm2d(64), nn.ReLU())
        self.decide = nn.Linear(1024, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.enter(x), 3, 2, ceil_mode=True)
        return self.decide(self.blocks(x).mean((2, 3)))


class MusicTags(nn.Module):
    """The VGG of musicnn: maps are flattened with channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.tags = nn.Linear(256, 50)
        self.norms = nn.ModuleList([nn.BatchNorm2d(128, eps=1e-3) for _ in range(5)])
        self.filters = nn.ModuleList([nn.Conv2d(1 if i == 0 else 128, 128, 3, padding=1) for i in range(5)])
        self.level = nn.BatchNorm2d(1, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.level(x)
        pools = (((4, 1), (2, 2)), (2, 2), (2, 2), (2, 2), ((4, 4), (4, 4)))
        for conv, norm, (size, stride) in zip(self.filters, self.norms, pools, strict=True):
            x = F.max_pool2d(norm(conv(x).relu()), size, stride)
        return self.tags(x.permute(0, 2, 3, 1).flatten(1)).sigmoid()


class Proposals(nn.Module):
    """P-Net of MTCNN."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes, self.faces = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 10, 3), nn.PReLU(10), nn.MaxPool2d(2, 2, ceil_mode=True), nn.Conv2d(10, 16, 3), nn.PReLU(16),
            nn.Conv2d(16, 32, 3), nn.PReLU(32),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(x)
        return self.boxes(x), self.faces(x).softmax(1)


class Refinement(nn.Module):
    """R-Net of MTCNN: maps are flattened by width, height, channel."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes, self.faces = nn.Linear(128, 4), nn.Linear(128, 2)
        self.inner = nn.ModuleDict({"lin": nn.Linear(576, 128), "act": nn.PReLU(128)})
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 28, 3), nn.PReLU(28), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(28, 48, 3), nn.PReLU(48),
            nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(48, 64, 2), nn.PReLU(64),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(x).permute(0, 3, 2, 1).flatten(1)
        x = self.inner["act"](self.inner["lin"](x))
        return self.boxes(x), self.faces(x).softmax(1)


class Inverted(nn.Module):
    """An inverted residual of MobileNetV2."""

    def __init__(self, ins: int, outs: int, stride: int, factor: int = 6) -> None:
        super().__init__()
        wide = ins * factor
        self.adds, self.stride = ins == outs and stride == 1, stride
        self.grow = None
        if factor > 1:
            self.grow = nn.Sequential(nn.Conv2d(ins, wide, 1, bias=False), nn.BatchNorm2d(wide, eps=1e-3))
        padding = 0 if stride == 2 else 1
        self.mix = nn.Sequential(
            nn.Conv2d(wide, wide, 3, stride=stride, padding=padding, groups=wide, bias=False),
            nn.BatchNorm2d(wide, eps=1e-3), nn.ReLU6(), nn.Conv2d(wide, outs, 1, bias=False),
            nn.BatchNorm2d(outs, eps=1e-3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.grow is None else F.relu6(self.grow(x))
        y = self.mix(F.pad(y, (0, 1, 0, 1)) if self.stride == 2 else y)
        return x + y if self.adds else y


class MobileNet(nn.Module):
    """MobileNetV2 with a head of three layers."""

    def __init__(self) -> None:
        super().__init__()
        ins, blocks = 32, []
        for factor, outs, count, stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for index in range(count):
                blocks.append(Inverted(ins, outs, 1 if index else stride, factor))
                ins = outs
        self.stages = nn.Sequential(*blocks)
        self.start = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, bias=False), nn.BatchNorm2d(32, eps=1e-3), nn.ReLU6())
        self.stop = nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3), nn.ReLU6())
        self.judge = nn.Sequential(nn.Linear(1280, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stop(self.stages(self.start(F.pad(x, (0, 1, 0, 1)))))
        return self.judge(x.mean((2, 3))).softmax(1)


class Speech(nn.Module):
    """The voice detector of silero, one step of 576 samples from an empty state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(128, 128)
        self.say = nn.Conv1d(128, 1, 1)
        self.layers = nn.ModuleList([
            nn.Conv1d(129, 128, 3, padding=1), nn.Conv1d(128, 64, 3, stride=2, padding=1),
            nn.Conv1d(64, 64, 3, stride=2, padding=1), nn.Conv1d(64, 128, 3, padding=1),
        ])  # fmt: skip
        self.waves = nn.Conv1d(1, 258, 256, stride=128, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.waves(F.pad(x, (0, 64), "reflect")[:, None])
        x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
        for layer in self.layers:
            x = layer(x).relu()
        x = self.cell(x.squeeze(-1))[0][..., None]
        return self.say(x.relu()).sigmoid().mean(-1)


def one_layer(kind: str, shapes: Sequence[Sequence[int]], settings: dict[str, object], num_axes: int) -> nn.Module:
    """The layer that a node of ONNX is, as a module around it.

    Args:
        kind: The operator.
        shapes: Of its weights.
        settings: Its attributes.
        num_axes: Of its input.
    """
    size = tuple(shapes[0])
    if kind in ("Conv", "ConvTranspose"):
        axes, groups = len(size) - 2, int(settings.get("group", 1))
        name = f"{kind}{axes}d"
        ins, outs = (size[0], size[1] * groups) if kind == "ConvTranspose" else (size[1] * groups, size[0])
        options = {"stride": "strides", "dilation": "dilations", "output_padding": "output_padding"}
        given = {ours: tuple(settings[theirs]) for ours, theirs in options.items() if theirs in settings}
        pads = tuple(settings.get("pads", (0,) * 2 * axes))[:axes]
        layer = getattr(nn, name)(ins, outs, size[2:], padding=pads, groups=groups, bias=len(shapes) > 1, **given)
    elif kind == "BatchNormalization":
        layer = getattr(nn, f"BatchNorm{max(1, num_axes - 2)}d")(size[0], eps=float(settings.get("epsilon", 1e-5)))
    elif kind == "Gather":
        layer = nn.Embedding(*size)
    elif kind == "PRelu":
        layer = nn.PReLU(size[0])
    else:
        layer = nn.Linear(size[1], size[0], bias=len(shapes) > 1)
    return nn.Sequential(layer)


COUNTERPARTS = {
    "public/nsfw": Counterpart(HalfResNet, {}),
    "public/musicnn": Counterpart(MusicTags, {}, moved=True),
    "public/mtcnn_proposals": Counterpart(Proposals, {}),
    "public/mtcnn_refinement": Counterpart(Refinement, {}),
    "public/nsfwjs": Counterpart(MobileNet, {}, moved=True),
    "public/silero": Counterpart(Speech, {}),
    "public/silero_other_weights": Counterpart(
        Speech,
        {},
        refused="of the same shapes, and of other weights",
        golden_only="its file holds other weights than the network of the golden outputs, and only these can tell",
    ),
}
