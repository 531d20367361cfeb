"""Networks of Flax that are rarer: grouped convolutions, and the names that Hugging Face gave to its Flax models."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

Array = Any


class Grouped(nn.Module):
    """Grouped and dilated convolutions."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.Conv(8, (3, 3), feature_group_count=4, name="grouped")(x))
        x = nn.relu(nn.Conv(8, (3, 3), kernel_dilation=2, padding="VALID", name="dilated")(x))
        return nn.Conv(8, (3, 3), feature_group_count=2, kernel_dilation=2, name="both")(x)


def norm(name: str = "LayerNorm") -> nn.LayerNorm:
    """As BERT has it."""
    return nn.LayerNorm(epsilon=1e-12, name=name)


class Looking(nn.Module):
    """`self`: query, key and value as dense layers."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        parts = (nn.Dense(8, name=name)(x) for name in ("query", "key", "value"))
        q, k, v = (part.reshape(*part.shape[:2], 2, 4).swapaxes(1, 2) for part in parts)
        scores = nn.softmax(q @ k.swapaxes(2, 3) * 0.5)
        return (scores @ v).swapaxes(1, 2).reshape(x.shape)


class Ending(nn.Module):
    """`output`: a dense layer, and a norm of the sum."""

    @nn.compact
    def __call__(self, y: Array, x: Array) -> Array:
        return norm()(x + nn.Dense(8, name="dense")(y))


class Attention(nn.Module):
    """`attention`: both."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return Ending(name="output")(Looking(name="self")(x), x)


class Intermediate(nn.Module):
    """`intermediate`: the wide layer."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.gelu(nn.Dense(16, name="dense")(x), approximate=False)


class Layer(nn.Module):
    """One of `layer`, which are called by their numbers."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Attention(name="attention")(x)
        return Ending(name="output")(Intermediate(name="intermediate")(x), x)


class Layers(nn.Module):
    """`layer`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for index in range(3):
            x = Layer(name=str(index))(x)
        return x


class Encoder(nn.Module):
    """`encoder`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return Layers(name="layer")(x)


class Tables(nn.Module):
    """`embeddings`."""

    def setup(self) -> None:
        self.word_embeddings = nn.Embed(32, 8)
        self.position_embeddings = nn.Embed(8, 8)
        self.LayerNorm = nn.LayerNorm(epsilon=1e-12)

    def __call__(self, words: Array, places: Array) -> Array:
        return self.LayerNorm(self.word_embeddings(words) + self.position_embeddings(places))


class Network(nn.Module):
    """`bert`: gives the table of words, too."""

    def setup(self) -> None:
        self.embeddings, self.encoder = Tables(), Encoder()

    def __call__(self, words: Array, places: Array) -> tuple[Array, Array]:
        x = self.encoder(self.embeddings(words, places))
        return x, self.embeddings.word_embeddings.embedding


class Transform(nn.Module):
    """`transform`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return norm()(nn.gelu(nn.Dense(8, name="dense")(x), approximate=False))


class Predictions(nn.Module):
    """`predictions`: a score for each word by the table of words, and a bias."""

    @nn.compact
    def __call__(self, x: Array, table: Array) -> Array:
        bias = self.param("bias", nn.initializers.zeros, (32,))
        return jnp.einsum("btd,vd->btv", Transform(name="transform")(x), table) + bias


class Heads(nn.Module):
    """`cls`."""

    @nn.compact
    def __call__(self, x: Array, table: Array) -> Array:
        return Predictions(name="predictions")(x, table)


class HuggingFaceBert(nn.Module):
    """A masked language model whose output matrix is its table of words: the file has one copy."""

    @nn.compact
    def __call__(self, words: Array, places: Array) -> Array:
        return Heads(name="cls")(*Network(name="bert")(words, places))


NETWORKS = {  # the network, and the shapes of its inputs; text is given by its length alone
    "grouped": (Grouped, ((12, 12, 4),)),
    "hf_bert": (HuggingFaceBert, (6, 6)),
}
