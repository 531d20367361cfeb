"""Networks in the words of Flax; layers have Keras's names where the counterpart is the same."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

Array = Any
FLAT = (1, 2)  # the axes of height and width


class Conv2D(nn.Module):
    """Two convolutions and a flattening of height, width, channels."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.Conv(8, (3, 3), padding="VALID", name="edges")(x))
        x = nn.relu(nn.Conv(8, (3, 3), strides=2, padding="VALID", name="shapes")(x))
        x = nn.relu(nn.Dense(8, name="hidden")(x.reshape(len(x), -1)))
        return nn.Dense(8, name="scores")(x)


class SamePadding(nn.Module):
    """Stride 2 with `SAME`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.Conv(6, (3, 3), strides=2, name="stem")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        x = nn.relu(nn.Conv(6, (5, 5), strides=2, name="body")(x))
        x = nn.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False)
        return nn.Conv(4, (1, 1), name="map")(x)


class Depthwise(nn.Module):
    """Depthwise convolutions as grouped ones."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.Conv(4, (3, 3), feature_group_count=4, name="single")(x))
        x = nn.relu(nn.Conv(8, (3, 3), feature_group_count=4, padding="VALID", name="double")(x))
        return nn.Conv(4, (1, 1), name="mix")(x)


class TransposedSame(nn.Module):
    """Transposed convolutions of `SAME` padding, whose kernels stand the other way round."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.ConvTranspose(4, (3, 3), (2, 2), name="up_a")(x))
        x = nn.relu(nn.ConvTranspose(4, (4, 4), (2, 2), name="up_b")(x))
        return nn.Conv(2, (3, 3), name="draw")(x)


class TransposedValid(nn.Module):
    """Transposed convolutions of `VALID` padding."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.ConvTranspose(5, (3, 3), (2, 2), padding="VALID", name="up_a")(x))
        return nn.ConvTranspose(3, (2, 2), (3, 3), padding="VALID", name="up_b")(x)


class BatchNorm(nn.Module):
    """BatchNorm with every combination of scale and bias, and other epsilons."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        flags = ((True, True, 1e-3), (True, False, 1e-5), (False, True, 1e-4), (False, False, 1e-2))
        for index, (scale, bias, epsilon) in enumerate(flags):
            x = nn.Conv(6, (3, 3), use_bias=not bias, name=f"conv_{index}")(x)
            norm = nn.BatchNorm(True, epsilon=epsilon, use_scale=scale, use_bias=bias, name=f"norm_{index}")
            x = nn.relu(norm(x))
        return nn.Dense(4, name="scores")(x.mean(FLAT))


class Lstm(nn.Module):
    """Two LSTM layers of eight dense parts each."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.RNN(nn.LSTMCell(6), name="lower")(x)
        x = nn.RNN(nn.OptimizedLSTMCell(6), name="upper")(x)
        return nn.Dense(3, name="out")(x[:, -1])


class Gru(nn.Module):
    """A GRU, which has biases where PyTorch has sums of two."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(3, name="out")(nn.RNN(nn.GRUCell(6), name="recurrent")(x))


class Bidirectional(nn.Module):
    """Both directions, side by side."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for name, cell in (("lstm", nn.LSTMCell), ("gru", nn.GRUCell)):
            forward, backward = nn.RNN(cell(3), name=f"{name}_forward"), nn.RNN(cell(3), name=f"{name}_backward")
            x = nn.Bidirectional(forward, backward)(x)
        return nn.Dense(6, name="out")(x)


class Attention(nn.Module):
    """Attention of a sequence to itself and to another."""

    @nn.compact
    def __call__(self, one: Array, two: Array) -> Array:
        x = nn.MultiHeadDotProductAttention(2, name="self")(one)
        x = nn.LayerNorm(name="norm")(one + x)
        return nn.Dense(8, name="out")(nn.MultiHeadDotProductAttention(2, name="cross")(x, two))


class Embeddings(nn.Module):
    """Two embeddings and a norm."""

    @nn.compact
    def __call__(self, words: Array, kinds: Array) -> Array:
        x = nn.Embed(16, 8, name="word")(words) + nn.Embed(8, 8, name="kind")(kinds)
        x = nn.LayerNorm(epsilon=1e-3, name="norm")(x)
        return nn.Dense(8, name="out")(x.mean(1))


class Norms(nn.Module):
    """Group and layer norms."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.GroupNorm(4, epsilon=1e-3, name="groups")(x)
        x = nn.Conv(8, (1, 1), name="mix")(x)
        x = nn.GroupNorm(2, epsilon=1e-5, name="halves")(x)
        return nn.LayerNorm(epsilon=1e-2, name="channels")(x)


class Bottleneck(nn.Module):
    """One residual block, with the names that Flax gives."""

    stride: int
    projects: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        def norm(y: Array) -> Array:
            return nn.BatchNorm(True, epsilon=1.001e-5)(y)

        strides = (self.stride, self.stride)
        y = nn.relu(norm(nn.Conv(8, (1, 1), strides)(x)))
        y = nn.relu(norm(nn.Conv(8, (3, 3))(y)))
        y = norm(nn.Conv(8, (1, 1))(y))
        return nn.relu(y + (norm(nn.Conv(8, (1, 1), strides)(x)) if self.projects else x))


class ResNet(nn.Module):
    """Four residual blocks."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Conv(8, (7, 7), (2, 2), padding=((3, 3), (3, 3)))(x)
        x = nn.relu(nn.BatchNorm(True, epsilon=1.001e-5)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stride, projects in ((1, True), (1, False), (2, True), (1, False)):
            x = Bottleneck(stride, projects)(x)
        return nn.Dense(10)(x.mean(FLAT))


class Encoder(nn.Module):
    """One transformer block."""

    hidden: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm(name="norm1")(x))
        y = nn.Dense(self.hidden, name="up")(nn.LayerNorm(name="norm2")(x))
        return x + nn.Dense(8, name="down")(nn.gelu(y, approximate=False))


class Vit(nn.Module):
    """Patches, a class token and positions that are parameters, three blocks."""

    @nn.compact
    def __call__(self, image: Array) -> Array:
        x = nn.Conv(8, (4, 4), (4, 4), padding="VALID", name="embedding")(image).reshape(len(image), 16, 8)
        token = self.param("cls", nn.initializers.normal(), (1, 1, 8))
        x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)
        x = x + self.param("pos_embedding", nn.initializers.normal(), (1, 17, 8))
        for index in range(3):
            x = Encoder(16, name=f"encoderblock_{index}")(x)
        return nn.Dense(5, name="head")(nn.LayerNorm(name="encoder_norm")(x)[:, 0])


class TwelveBlocks(nn.Module):
    """Twelve equal blocks."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for index in range(12):
            x = Encoder(8, name=f"layer_{index}")(x)
        return x


class Scanned(nn.Module):
    """Twelve equal blocks as one, with a leading axis of layers in every array."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        class Step(nn.Module):
            @nn.compact
            def __call__(self, x: Array, _: Array) -> tuple[Array, None]:
                return Encoder(8, name="block")(x), None

        scan = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=12)
        return scan(name="layers")(x, None)[0]


class Twins(nn.Module):
    """Two branches."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        ends = []
        for side in ("photo", "sketch"):
            y = nn.relu(nn.Conv(6, (3, 3), padding="VALID", name=f"{side}_a")(x))
            y = nn.relu(nn.Conv(6, (3, 3), padding="VALID", name=f"{side}_b")(y))
            ends.append(nn.Dense(6, name=f"{side}_c")(y.mean(FLAT)))
        return ends[0] - ends[1]


class SquareDense(nn.Module):
    """Four square layers."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for index, kind in enumerate((nn.relu, jnp.tanh, nn.sigmoid)):
            x = kind(nn.Dense(8, name=f"square_{index}")(x))
        return nn.Dense(8, name="square_3")(x)


class UNet(nn.Module):
    """Down and up, with the names that Flax gives."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kept = []
        for width in (4, 8):
            x = nn.relu(nn.Conv(width, (3, 3))(x))
            x = nn.relu(nn.Conv(width, (3, 3))(x))
            kept.append(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(16, (3, 3))(x))
        for width in (8, 4):
            x = jnp.concatenate([kept.pop(), nn.ConvTranspose(width, (2, 2), (2, 2))(x)], -1)
            x = nn.relu(nn.Conv(width, (3, 3))(x))
        return nn.sigmoid(nn.Conv(1, (1, 1))(x))


class TwelveConvs(nn.Module):
    """Twelve equal convolutions: `Conv_10` stands before `Conv_2` in the alphabet."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for _ in range(12):
            x = jnp.tanh(nn.Conv(4, (3, 3))(x))
        return x


NETWORKS = {  # the network, and the shapes of its inputs; text is given by its length alone
    "conv2d": (Conv2D, ((12, 12, 3),)),
    "same_padding": (SamePadding, ((30, 30, 3),)),
    "depthwise": (Depthwise, ((10, 10, 4),)),
    "transposed_same": (TransposedSame, ((5, 5, 4),)),
    "transposed_valid": (TransposedValid, ((4, 4, 3),)),
    "batchnorm": (BatchNorm, ((8, 8, 3),)),
    "lstm": (Lstm, ((7, 6),)),
    "gru": (Gru, ((7, 5),)),
    "bidirectional": (Bidirectional, ((7, 6),)),
    "attention": (Attention, ((6, 8), (5, 8))),
    "embeddings": (Embeddings, (6, 6)),
    "norms": (Norms, ((6, 6, 8),)),
    "resnet": (ResNet, ((32, 32, 3),)),
    "vit": (Vit, ((16, 16, 3),)),
    "twelve_blocks": (TwelveBlocks, ((5, 8),)),
    "scanned": (Scanned, ((5, 8),)),
    "twins": (Twins, ((10, 10, 3),)),
    "square_dense": (SquareDense, ((8,),)),
    "unet": (UNet, ((16, 16, 2),)),
    "twelve_convs": (TwelveConvs, ((6, 6, 4),)),
}
