"""Networks of files of other frameworks in PyTorch's words, as `--model helpers_pretrained:NAME` builds them."""

from torch import nn


class Keras(nn.Module):
    """Of `networks/keras/conv2d`."""

    def __init__(self):
        super().__init__()
        self.fc, self.mid = nn.Linear(8, 8), nn.Linear(128, 8)
        self.low, self.high = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, stride=2)

    def forward(self, x):
        x = self.high(self.low(x).relu()).relu()
        return self.fc(self.mid(x.flatten(1)).relu())


def onnx():
    """Of `networks/onnx/square_dense`."""
    return nn.Sequential(
        nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8)
    )


def onnx_with_another_head():
    return nn.Sequential(*onnx()[:-1], nn.Linear(8, 3))


def onnx_of_other_activations():
    return nn.Sequential(*onnx()[:-2], nn.Softplus(), nn.Linear(8, 8))


def tensorflow(eps=1e-3):
    """Of `tensorflow/saved_tfkeras`."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, eps), nn.Conv2d(4, 4, 2, groups=4), nn.Flatten(), nn.Linear(36, 3),
        nn.ReLU(), nn.Linear(3, 2),
    )  # fmt: skip


def tensorflow_with_another_epsilon():
    return tensorflow(1e-5)


class Flax(nn.Module):
    """Of `averages/flax.msgpack`."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.conv = nn.Linear(4, 5), nn.BatchNorm2d(4), nn.Conv2d(2, 4, 3)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


class Twins(nn.Module):
    """Two layers that nothing tells apart without a run."""

    def __init__(self):
        super().__init__()
        self.fc, self.b, self.a = nn.Linear(4, 2), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(self.a(x).relu() * self.b(x).tanh())
