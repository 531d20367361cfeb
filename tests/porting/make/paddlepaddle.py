"""Write the files of PaddlePaddle that the tests read, and beside each the arrays as PaddlePaddle sees them.

Needs paddlepaddle 3.3.1 and setuptools, in an environment of their own:

    python3 -m venv paddle && paddle/bin/pip install paddlepaddle==3.3.1 setuptools
    paddle/bin/python tests/porting/make/paddlepaddle.py
"""

from pathlib import Path

import numpy as np
import paddle
from paddle import nn

FOLDER = Path(__file__).parents[1] / "files" / "paddle"


class Small(nn.Layer):
    """A convolution, a BatchNorm, an embedding and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.ReLU())
        self.table = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: paddle.Tensor, index: paddle.Tensor) -> paddle.Tensor:
        return self.head(self.body(x).mean([2, 3]) + self.table(index))


class Recurrent(nn.Layer):
    """Two layers of one direction, then one of both."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 2, num_layers=2)
        self.gru = nn.GRU(2, 2, direction="bidirect")
        self.head = nn.Linear(4, 2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.head(self.gru(self.lstm(x)[0])[0])


def save_recurrent() -> None:
    """Write a recurrent network; PaddlePaddle 3.3 cannot write the older kind of program for it."""
    model = Recurrent()
    model.eval()
    spec = [paddle.static.InputSpec([None, 4, 3])]
    paddle.jit.save(model, str(FOLDER / "recurrent"), input_spec=spec)
    named = {name: tensor.numpy() for name, tensor in model.state_dict().items() if ".cell" not in name}
    x = paddle.randn([2, 4, 3])
    np.savez(FOLDER / "recurrent.npz", x=x.numpy(), y=model(x).numpy(), **named)


class Flat(nn.Layer):
    """Layers whose tensors Paddle keeps flat, and layers under norms."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = nn.Bilinear(4, 4, 12)
        self.conv = nn.utils.weight_norm(nn.Conv1D(4, 4, 3, padding=1))
        self.norm = nn.LayerNorm([4, 3])
        self.wide = nn.utils.weight_norm(nn.Linear(12, 6), dim=1)
        self.head = nn.utils.spectral_norm(nn.Linear(6, 2))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        maps = self.norm(self.conv(self.pairs(x, x + 1).reshape([-1, 4, 3])))
        return self.head(nn.functional.relu(self.wide(maps.flatten(1))))


def save_flat() -> None:
    """Write layers whose shapes are not those of PyTorch."""
    model = Flat()
    for name, tensor in model.state_dict().items():
        if not name.startswith("head.weight_"):  # vectors of a spectral norm belong to its matrix
            tensor.set_value(paddle.randn(tensor.shape) * 0.5)
    model.eval()
    paddle.save(model.state_dict(), str(FOLDER / "flat.pdparams"))
    x = paddle.randn([5, 4])
    np.savez(FOLDER / "flat.npz", x=x.numpy(), y=model(x).numpy())


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    paddle.seed(0)
    model = Small()
    optimizer = paddle.optimizer.Adam(parameters=model.parameters())
    for _ in range(2):
        model(paddle.randn([2, 3, 5, 5]), paddle.to_tensor([1, 2])).sum().backward()
        optimizer.step()
    model.eval()
    state = model.state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    for protocol in (2, 4):
        paddle.save(state, str(FOLDER / f"protocol{protocol}.pdparams"), protocol=protocol)
    paddle.save({"model": state, "optimizer": optimizer.state_dict(), "epoch": 3}, str(FOLDER / "run.pdparams"))
    np.savez(FOLDER / "state.npz", **arrays)
    half = {"a": paddle.randn([2, 3]).astype("bfloat16"), "b": paddle.randn([3]).astype("float16")}
    paddle.save(half, str(FOLDER / "half.pdparams"))
    np.savez(FOLDER / "half.npz", a=half["a"].astype("float32").numpy(), b=half["b"].numpy())
    spec = [paddle.static.InputSpec([None, 3, 5, 5]), paddle.static.InputSpec([None], "int64")]
    paddle.jit.save(model, str(FOLDER / "inference"), input_spec=spec)
    with paddle.pir_utils.OldIrGuard():
        paddle.jit.save(model, str(FOLDER / "older"), input_spec=spec)
    own = {tensor.name: name for name, tensor in state.items()}
    np.savez(FOLDER / "inference.npz", **{name: arrays[given] for name, given in own.items()})
    save_recurrent()
    save_flat()


if __name__ == "__main__":
    main()
