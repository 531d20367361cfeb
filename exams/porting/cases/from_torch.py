"""Networks of PyTorch, exported to ONNX, and saved as state dictionaries and as TorchScript.

The export folds BatchNorm into convolutions and renames what it touches. The state dictionaries are bare, wrapped, of
the legacy kind, and safetensors. Classes and names are others than those of the counterparts. Run by
`exams.porting.build` in the project's own environment: python from_torch.py FOLDER [CASE ...]
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch
import torch.nn.functional as F
from golden import Folder, chosen, images, random_value, seeded, tokens
from onnx_names import lying, renamed
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch_other_networks import NETWORKS as OTHER_NETWORKS
from torch_other_networks import TIED

if TYPE_CHECKING:
    import numpy as np


def unit(ins: int, outs: int, size: int, **settings: int) -> nn.Sequential:
    """A convolution without bias and its norm."""
    return nn.Sequential(nn.Conv2d(ins, outs, size, bias=False, **settings), nn.BatchNorm2d(outs, eps=1e-3))


class BottleneckBlock(nn.Module):
    """As torchvision names its parts; convolutions have a bias, for the sake of the counterpart."""

    def __init__(self, stride: int, *, projects: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 1, stride=stride), nn.BatchNorm2d(8, eps=1.001e-5)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, eps=1.001e-5)
        self.conv3, self.bn3 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, eps=1.001e-5)
        self.downsample = (
            nn.Sequential(nn.Conv2d(8, 8, 1, stride=stride), nn.BatchNorm2d(8, eps=1.001e-5)) if projects else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Two layers of two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, stride=2, padding=3), nn.BatchNorm2d(8, eps=1.001e-5)
        self.layer1 = nn.Sequential(BottleneckBlock(1, projects=True), BottleneckBlock(1, projects=False))
        self.layer2 = nn.Sequential(BottleneckBlock(2, projects=True), BottleneckBlock(1, projects=False))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class InvertedResidual(nn.Module):
    """Expansion, depthwise part, projection."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else 1)
        self.conv = nn.ModuleList([unit(8, 16, 1), unit(16, 16, 3, stride=stride, groups=16), unit(16, 8, 1)])
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.conv[0](x))
        y = self.conv[2](F.relu6(self.conv[1](self.pad(y))))
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """A list of features and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        strides = (1, 2, 1, 2, 1)
        self.features = nn.ModuleList([unit(3, 8, 3, stride=2), *(InvertedResidual(stride) for stride in strides)])
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.features[0](F.pad(x, (0, 1, 0, 1))))
        for block in self.features[1:]:
            x = block(x)
        return self.classifier(x.mean((2, 3)))


class Excited(nn.Module):
    """As timm names its parts."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        pad = (size - 1) // 2
        self.same = nn.ZeroPad2d((1, 2, 1, 2) if stride == 2 else pad)
        self.conv_pw, self.bn1 = nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16, eps=1e-3)
        self.conv_dw = nn.Conv2d(16, 16, size, stride=stride, groups=16, bias=False)
        self.bn2, self.bn3 = nn.BatchNorm2d(16, eps=1e-3), nn.BatchNorm2d(8, eps=1e-3)
        self.conv_reduce, self.conv_expand = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.conv_pwl = nn.Conv2d(16, 8, 1, bias=False)
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.bn2(self.conv_dw(self.same(F.silu(self.bn1(self.conv_pw(x)))))))
        gate = self.conv_expand(F.silu(self.conv_reduce(y.mean((2, 3), keepdim=True))))
        y = self.bn3(self.conv_pwl(y * gate.sigmoid()))
        return x + y if self.residual else y


class EfficientNet(nn.Module):
    """Three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8, eps=1e-3)
        self.blocks = nn.Sequential(Excited(3, 1), Excited(5, 2), Excited(3, 1))
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.bn1(self.conv_stem(F.pad(x, (0, 1, 0, 1)))))
        return self.classifier(self.blocks(x).mean((2, 3)))


class BothWays(nn.Module):
    """Recurrent layers in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(6, 3, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(6, 3, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.decoder(self.encoder(x)[0])[0])


class Layer(nn.Module):
    """One transformer layer, written out, as BERT's code does."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(8, 8) for _ in range(4))
        self.attention_norm, self.output_norm = nn.LayerNorm(8, eps=1e-12), nn.LayerNorm(8, eps=1e-12)
        self.intermediate, self.output = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).view(-1, 6, 2, 4).transpose(1, 2) for part in (self.query, self.key, self.value))
        weights = (q @ k.transpose(2, 3) * 0.5).softmax(-1)
        x = self.attention_norm(x + self.dense((weights @ v).transpose(1, 2).reshape(-1, 6, 8)))
        return self.output_norm(x + self.output(F.gelu(self.intermediate(x))))


class Bert(nn.Module):
    """Words, kinds and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings, self.token_type_embeddings = nn.Embedding(32, 8), nn.Embedding(8, 8)
        self.position_embeddings, self.norm = nn.Embedding(8, 8), nn.LayerNorm(8, eps=1e-12)
        self.layer = nn.ModuleList([Layer() for _ in range(3)])
        self.pooler, self.classifier = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, words: Tensor, kinds: Tensor, places: Tensor) -> Tensor:
        x = self.word_embeddings(words) + self.token_type_embeddings(kinds) + self.position_embeddings(places)
        x = self.norm(x)
        for layer in self.layer:
            x = layer(x)
        return self.classifier(self.pooler(x[:, 0]).tanh())


class Twins(nn.Module):
    """Two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.ModuleList([nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)]) for _ in range(2))
        self.heads = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])

    def forward(self, x: Tensor) -> Tensor:
        ends = []
        for convs, head in zip((self.first, self.second), self.heads, strict=True):
            ends.append(head(convs[1](convs[0](x).relu()).relu().mean((2, 3))))
        return ends[0] - ends[1]


NETWORKS = {  # the network, and the shapes of its inputs; text is given by the size of its vocabulary
    "resnet": (ResNet, ((3, 32, 32),)),
    "mobilenet": (MobileNet, ((3, 32, 32),)),
    "efficientnet": (EfficientNet, ((3, 24, 24),)),
    "bidirectional": (BothWays, ((7, 6),)),
    "bert": (Bert, (32, 8, 8)),
    "twins": (Twins, ((3, 10, 10),)),
    **OTHER_NETWORKS,
}


def filled(build: type[nn.Module], name: str) -> tuple[nn.Module, dict[str, np.ndarray]]:
    """The network with random values, and these."""
    random, module = seeded("torch " + name), build().eval()
    norms = {path for path, part in module.named_modules() if isinstance(part, (nn.BatchNorm2d, nn.LayerNorm))}
    values = {}
    for key, value in module.state_dict().items():
        layer, leaf = key.rsplit(".", 1)
        kind = "gamma" if layer in norms and leaf == "weight" else leaf
        values[key] = random_value(random, kind, value.shape) if value.is_floating_point() else value.numpy()
    module.load_state_dict({key: torch.tensor(value) for key, value in values.items()})
    return module, {key.replace(".", "/"): value.numpy() for key, value in module.state_dict().items()}


def export(module: nn.Module, inputs: tuple[Tensor, ...], at: str) -> None:
    """Write ONNX by the exporter that most files in the world were written by."""
    names = [f"input_{index}" for index in range(len(inputs))]
    axes = {name: {0: "batch"} for name in (*names, "output")}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, inputs, at, input_names=names, output_names=["output"], dynamic_axes=axes, opset_version=17,
            dynamo=False,
        )  # fmt: skip


def script(module: nn.Module, inputs: tuple[Tensor, ...], at: str) -> None:
    """Write TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, inputs).save(at)


def main() -> None:
    """Build, fill, run and save each."""
    path, table = chosen(NETWORKS)
    folder = Folder(path, "torch", ("torch", "onnx", "safetensors", "numpy"))
    for name, (build, shapes) in table.items():
        module, arrays = filled(build, name)
        random = seeded("torch inputs of " + name)
        inputs = tuple(
            torch.tensor(images(random, 3, *shape)) if isinstance(shape, tuple) else text(random, shape)
            for shape in shapes
        )
        state = {key: value.clone() for key, value in module.state_dict().items()}
        wrapped = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}
        with torch.no_grad():
            outputs = [module(*inputs).numpy()]
        save = {
            "model.onnx": lambda at, module=module, inputs=inputs: export(module, inputs, at),
            "renamed.onnx": lambda at, name=name: onnx.save(renamed(onnx.load(beside(at)), name), at),
            "lying.onnx": lambda at, name=name: onnx.save(lying(onnx.load(beside(at)), name), at),
            "script.pt": lambda at, module=module, inputs=inputs: script(module, inputs, at),
            "model.pt": lambda at, wrapped=wrapped: torch.save(wrapped, at),
            "legacy.pt": lambda at, state=state: torch.save(state, at, _use_new_zipfile_serialization=False),
            "model.safetensors": lambda at, state=state: save_file(state, at),
        }
        if name in TIED:  # the files above hold two copies; these one, under both names and under one of them
            save["shared.pt"] = lambda at, module=module: torch.save(module.state_dict(), at)
            save["one.safetensors"] = lambda at, module=module: save_model(module, at)
        folder.put(name, arrays=arrays, inputs=[value.numpy() for value in inputs], outputs=outputs, save=save)


def beside(at: str) -> str:
    """The exported file, which is written first."""
    return str(Path(at).with_name("model.onnx"))


def text(random: np.random.Generator, size: int) -> Tensor:
    """Token numbers below `size`."""
    return torch.tensor(tokens(random, 3, 6, size=size)).long()


if __name__ == "__main__":
    sys.exit(main())
