"""Networks saved by PaddlePaddle: `.pdparams` of a state dictionary, and `.pdiparams` of an inference model.

Run by `exams.porting.build` in the environment `paddle`: python from_paddle.py FOLDER [CASE ...]
"""

from __future__ import annotations

import sys

import numpy as np
import paddle
import paddle.nn.functional as F
from golden import Folder, chosen, images, random_value, seeded, tokens
from paddle import Tensor, nn


class Conv2D(nn.Layer):
    """Two convolutions, and dense layers after the flattening of channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.edges, self.shapes = nn.Conv2D(3, 8, 3), nn.Conv2D(8, 8, 3, stride=2)
        self.hidden, self.scores = nn.Linear(128, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.shapes(F.relu(self.edges(x))))
        return self.scores(F.relu(self.hidden(x.flatten(1))))


class Transposed(nn.Layer):
    """Transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.up_a = nn.Conv2DTranspose(4, 4, 3, stride=2, padding=1, output_padding=1)
        self.up_b, self.draw = nn.Conv2DTranspose(4, 4, 4, stride=2, padding=1), nn.Conv2D(4, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.draw(F.relu(self.up_b(F.relu(self.up_a(x)))))


class Depthwise(nn.Layer):
    """Grouped convolutions with multiplier 1 and 2."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.twice = nn.Conv2D(4, 4, 3, padding=1, groups=4), nn.Conv2D(4, 8, 3, groups=4)
        self.mix = nn.Conv2D(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(F.relu(self.twice(F.relu(self.once(x)))))


class Norms(nn.Layer):
    """BatchNorm with several epsilons."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.LayerList([nn.Conv2D(3 if index == 0 else 6, 6, 3, padding=1) for index in range(4)])
        self.norm = nn.LayerList([nn.BatchNorm2D(6, epsilon=epsilon) for epsilon in (1e-3, 1e-5, 1e-4, 1e-2)])
        self.scores = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.conv, self.norm):  # noqa: B905 (Paddle traces `zip` and knows no `strict`)
            x = F.relu(norm(conv(x)))
        return self.scores(x.mean((2, 3)))


class Lstm(nn.Layer):
    """Two LSTM layers in one."""

    def __init__(self) -> None:
        super().__init__()
        self.stack, self.out = nn.LSTM(6, 6, num_layers=2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.stack(x)[0][:, -1])


class Gru(nn.Layer):
    """A GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.out = nn.GRU(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.recurrent(x)[0])


class Bidirectional(nn.Layer):
    """Both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(6, 3, direction="bidirect"), nn.GRU(6, 3, direction="bidirect")
        self.out = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(self.lstm(x)[0])[0])


class Embeddings(nn.Layer):
    """Two embeddings, of which one is square, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.kind = nn.Embedding(16, 8), nn.Embedding(8, 8)
        self.norm, self.out = nn.LayerNorm(8, epsilon=1e-3), nn.Linear(8, 8)

    def forward(self, words: Tensor, kinds: Tensor) -> Tensor:
        return self.out(self.norm(self.word(words) + self.kind(kinds)).mean(1))


class Prelu(nn.Layer):
    """PReLU with one slope per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_a, self.conv_b = nn.Conv2D(3, 6, 3), nn.Conv2D(6, 6, 3)
        self.slope_a, self.slope_b, self.out = nn.PReLU(6), nn.PReLU(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope_b(self.conv_b(self.slope_a(self.conv_a(x))))
        return F.leaky_relu(self.out(x.max((2, 3))), 0.3)


class SquareDense(nn.Layer):
    """Four square layers, stored the other way round than PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.square_0, self.square_1 = nn.Linear(8, 8), nn.Linear(8, 8)
        self.square_2, self.square_3 = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.tanh(self.square_1(F.relu(self.square_0(x))))
        return self.square_3(F.sigmoid(self.square_2(x)))


class Twins(nn.Layer):
    """Two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.photo_a, self.photo_b, self.photo_c = nn.Conv2D(3, 6, 3), nn.Conv2D(6, 6, 3), nn.Linear(6, 6)
        self.sketch_a, self.sketch_b, self.sketch_c = nn.Conv2D(3, 6, 3), nn.Conv2D(6, 6, 3), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        photo = self.photo_c(F.relu(self.photo_b(F.relu(self.photo_a(x)))).mean((2, 3)))
        return photo - self.sketch_c(F.relu(self.sketch_b(F.relu(self.sketch_a(x)))).mean((2, 3)))


class Encoder(nn.Layer):
    """Twelve equal blocks of Paddle's own transformer, norms first."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, activation="gelu", normalize_before=True)
        self.stack = nn.TransformerEncoder(layer, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(x)


class Block(nn.Layer):
    """One residual block, its shortcut last."""

    def __init__(self, stride: int, *, projects: bool) -> None:
        super().__init__()
        self.conv0, self.bn0 = nn.Conv2D(8, 8, 1, stride=stride), nn.BatchNorm2D(8, epsilon=1.001e-5)
        self.conv1, self.bn1 = nn.Conv2D(8, 8, 3, padding=1), nn.BatchNorm2D(8, epsilon=1.001e-5)
        self.conv2, self.bn2 = nn.Conv2D(8, 8, 1), nn.BatchNorm2D(8, epsilon=1.001e-5)
        if projects:
            self.short, self.short_bn = nn.Conv2D(8, 8, 1, stride=stride), nn.BatchNorm2D(8, epsilon=1.001e-5)
        self.projects = projects

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(F.relu(self.bn0(self.conv0(x))))))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (self.short_bn(self.short(x)) if self.projects else x))


class ResNet(nn.Layer):
    """Four blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2D(3, 8, 7, stride=2, padding=3), nn.BatchNorm2D(8, epsilon=1.001e-5)
        plan = ((1, True), (1, False), (2, True), (1, False))
        self.res = nn.Sequential(*(Block(stride, projects=projects) for stride, projects in plan))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn(self.conv(x))), 3, stride=2, padding=1)
        return self.fc(self.res(x).mean((2, 3)))


NETWORKS = {  # the network, and the shapes of its inputs; text is given by its length alone
    "conv2d": (Conv2D, ((3, 12, 12),)),
    "transposed": (Transposed, ((4, 5, 5),)),
    "depthwise": (Depthwise, ((4, 10, 10),)),
    "batchnorm": (Norms, ((3, 8, 8),)),
    "lstm": (Lstm, ((7, 6),)),
    "gru": (Gru, ((7, 5),)),
    "bidirectional": (Bidirectional, ((7, 6),)),
    "embeddings": (Embeddings, (6, 6)),
    "prelu": (Prelu, ((3, 8, 8),)),
    "square_dense": (SquareDense, ((8,),)),
    "twins": (Twins, ((3, 10, 10),)),
    "twelve_blocks": (Encoder, ((5, 8),)),
    "resnet": (ResNet, ((3, 32, 32),)),
}


def fill(network: nn.Layer, name: str) -> dict[str, np.ndarray]:
    """Random values for every variable, and these."""
    random = seeded("paddle " + name)
    norms = {path for path, part in network.named_sublayers() if "Norm" in type(part).__name__}
    for key, value in network.state_dict().items():
        layer, leaf = key.rsplit(".", 1)
        kinds = {"_variance": "variance", "weight": "gamma" if layer in norms else "weight"}
        kind = "alpha" if layer.startswith("slope") else kinds.get(leaf, leaf)
        value.set_value(random_value(random, kind, value.shape))
    return {key.replace(".", "/"): value.numpy() for key, value in network.state_dict().items()}


def main() -> None:
    """Build, fill, run and save each."""
    path, table = chosen(NETWORKS)
    folder = Folder(path, "paddle", ("paddlepaddle", "numpy"))
    for name, (build, shapes) in table.items():
        network, random = build(), seeded("paddle inputs of " + name)
        network.eval()
        arrays = fill(network, name)
        inputs = [
            images(random, 3, *shape) if isinstance(shape, tuple) else tokens(random, 3, shape, size=8)
            for shape in shapes
        ]
        kinds = [
            paddle.static.InputSpec([None, *value.shape[1:]], "int32" if value.dtype == np.int32 else "float32")
            for value in inputs
        ]
        with paddle.no_grad():
            outputs = [network(*(paddle.to_tensor(value) for value in inputs)).numpy()]
        folder.put(
            name,
            arrays=arrays,
            inputs=inputs,
            outputs=outputs,
            save={
                "model.pdparams": lambda at, network=network: paddle.save(network.state_dict(), at),
                "inference.pdiparams": lambda at, network=network, kinds=kinds: paddle.jit.save(
                    network, at.removesuffix(".pdiparams"), input_spec=kinds
                ),
            },
        )


if __name__ == "__main__":
    sys.exit(main())
