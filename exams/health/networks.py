"""Networks by name, with their initial weights. B batch, T tokens or time steps, D width, F features."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .data import Data
from .recipe import Recipe

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardtanh": nn.Hardtanh,
    "identity": nn.Identity,
}
# What a layer's fan-in variance is multiplied by to keep the variance of its activation, He et al. (2015) for
# the rectifiers, LeCun (1) for SELU; the others get Glorot's.
HE_LIKE = frozenset({"relu", "leaky_relu", "elu", "gelu", "silu"})


def mlp(data: Data, recipe: Recipe) -> nn.Module:
    """`depth` hidden layers of [Linear, norm, activation, dropout], and a linear head."""
    layers: list[nn.Module] = []
    features = data.train_x[0].numel()
    if data.train_x.dim() > 2:
        layers.append(nn.Flatten())
    for _ in range(recipe.depth):
        layers.append(nn.Linear(features, recipe.width))
        features = recipe.width
        if recipe.norm == "batch":
            layers.append(nn.BatchNorm1d(features, momentum=recipe.bn_momentum))
        elif recipe.norm == "layer":
            layers.append(nn.LayerNorm(features))
        layers.append(ACTIVATIONS[recipe.activation]())
        if recipe.dropout:
            layers.append(nn.Dropout(recipe.dropout))
    layers.append(nn.Linear(features, data.num_outputs))
    return nn.Sequential(*layers)


def convolutional(data: Data, recipe: Recipe) -> nn.Module:
    """`depth` blocks of [Conv, norm, activation], pooling after the second, and a linear head."""
    layers: list[nn.Module] = []
    channels = data.train_x.shape[1]
    for block in range(recipe.depth):
        layers.append(nn.Conv2d(channels, recipe.width, 3, padding=1, bias=recipe.norm != "batch"))
        channels = recipe.width
        if recipe.norm == "batch":
            layers.append(nn.BatchNorm2d(channels, momentum=recipe.bn_momentum))
        elif recipe.norm == "layer":
            layers.append(nn.GroupNorm(1, channels))
        layers.append(ACTIVATIONS[recipe.activation]())
        if block == 1:
            layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, data.num_outputs)]
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """x + norm(conv(act(norm(conv(x))))), with the last norm's scale at zero where `zero_gamma` is a trait."""

    def __init__(self, channels: int, zero_gamma: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()
        if zero_gamma:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        inner = self.act(self.bn1(self.conv1(x_BDHW)))
        return self.act(x_BDHW + self.bn2(self.conv2(inner)))


def residual(data: Data, recipe: Recipe) -> nn.Module:
    """A small residual network: stem, `depth` blocks, pooling, head."""
    zero_gamma = "zero_gamma" in recipe.traits
    return nn.Sequential(
        nn.Conv2d(data.train_x.shape[1], recipe.width, 3, padding=1, bias=False),
        nn.BatchNorm2d(recipe.width),
        nn.ReLU(),
        *(ResidualBlock(recipe.width, zero_gamma) for _ in range(recipe.depth)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * recipe.width, data.num_outputs),
    )


class Recurrent(nn.Module):
    """A recurrent layer read at its last step, and a linear head."""

    def __init__(self, cell: type[nn.RNNBase], data: Data, recipe: Recipe) -> None:
        super().__init__()
        self.cell = cell(data.train_x.shape[-1], recipe.width, num_layers=recipe.depth, batch_first=True)
        self.head = nn.Linear(recipe.width, data.num_outputs)

    def forward(self, x_BTF: Tensor) -> Tensor:
        return self.head(self.cell(x_BTF)[0][:, -1])


class Transformer(nn.Module):
    """`depth` pre- or post-norm encoder layers over tokens, mean-pooled (causal: read at the last token)."""

    def __init__(self, data: Data, recipe: Recipe) -> None:
        super().__init__()
        tokens, features = data.train_x.shape[1:]
        self.is_causal = "causal" in recipe.traits
        self.embed = nn.Linear(features, recipe.width)
        self.position_TD = nn.Parameter(torch.randn(tokens, recipe.width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            recipe.width,
            4,
            2 * recipe.width,
            dropout=recipe.dropout,
            activation="gelu",
            batch_first=True,
            norm_first="post_norm" not in recipe.traits,
        )
        self.blocks = nn.TransformerEncoder(layer, recipe.depth, enable_nested_tensor=False)
        for module in self.blocks.layers:  # the encoder deep-copies one layer: each needs weights of its own
            for parameter in module.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        self.norm = nn.LayerNorm(recipe.width)
        self.head = nn.Linear(recipe.width, data.num_outputs)

    def forward(self, x_BTF: Tensor) -> Tensor:
        x_BTD = self.embed(x_BTF) + self.position_TD
        if self.is_causal:
            mask_TT = nn.Transformer.generate_square_subsequent_mask(x_BTD.shape[1], dtype=x_BTD.dtype)
            return self.head(self.norm(self.blocks(x_BTD, mask=mask_TT, is_causal=True))[:, -1])
        return self.head(self.norm(self.blocks(x_BTD)).mean(1))


class Tied(nn.Module):
    """An MLP that uses its middle weight twice."""

    def __init__(self, data: Data, recipe: Recipe) -> None:
        super().__init__()
        self.inner = nn.Linear(data.train_x.shape[-1], recipe.width)
        self.shared = nn.Linear(recipe.width, recipe.width)
        self.act = nn.ReLU()
        self.again = nn.Linear(recipe.width, recipe.width)
        self.again.weight = self.shared.weight
        self.head = nn.Linear(recipe.width, data.num_outputs)

    def forward(self, x_BF: Tensor) -> Tensor:
        x_BD = self.act(self.inner(x_BF))
        return self.head(self.act(self.again(self.act(self.shared(x_BD)))))


class Words(nn.Module):
    """Embedded words, averaged, under a small MLP: most rows of the embedding get no gradient in a step."""

    def __init__(self, data: Data, recipe: Recipe) -> None:
        super().__init__()
        self.embed = nn.Embedding(500, recipe.width)
        self.hidden = nn.Linear(recipe.width, recipe.width)
        self.act = nn.ReLU()
        self.head = nn.Linear(recipe.width, data.num_outputs)

    def forward(self, words_BT: Tensor) -> Tensor:
        return self.head(self.act(self.hidden(self.embed(words_BT).mean(1))))


NETWORKS: dict[str, Callable[[Data, Recipe], nn.Module]] = {
    "mlp": mlp,
    "conv": convolutional,
    "residual": residual,
    "lstm": lambda data, recipe: Recurrent(nn.LSTM, data, recipe),
    "gru": lambda data, recipe: Recurrent(nn.GRU, data, recipe),
    "rnn": lambda data, recipe: Recurrent(nn.RNN, data, recipe),
    "transformer": Transformer,
    "tied": Tied,
    "words": Words,
}


def build(data: Data, recipe: Recipe) -> nn.Module:
    """The recipe's network with its initial weights, drawn from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    model = NETWORKS[recipe.network](data, recipe)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if recipe.network in ("mlp", "conv", "tied"):
        for position, layer in enumerate(layers):
            _initialise(layer, recipe, is_head=position == len(layers) - 1)
            if recipe.clones:
                _clone(layer.weight, recipe, is_first=position == 0, is_head=position == len(layers) - 1)
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            _initialise_recurrent(module, recipe)
    with torch.no_grad():
        layers[0].weight.mul_(recipe.first_gain)
        layers[-1].weight.mul_(recipe.head_gain)
    return model


@torch.no_grad()
def _initialise(layer: nn.Linear | nn.Conv2d, recipe: Recipe, *, is_head: bool) -> None:
    weight = layer.weight
    fan_in = weight[0].numel()
    fan_out = weight.shape[0] * weight[0].numel() // weight.shape[1]
    if recipe.init == "torch":
        return
    if recipe.init == "fitting":
        activation = "identity" if is_head else recipe.activation
        if activation in HE_LIKE:
            weight.normal_(0, math.sqrt(2 / fan_in))
        elif activation == "selu":
            weight.normal_(0, math.sqrt(1 / fan_in))
        else:
            weight.normal_(0, math.sqrt(2 / (fan_in + fan_out)))
        weight.mul_(1.0 if is_head else recipe.gain)
    elif recipe.init == "normal":
        weight.normal_(0, recipe.gain)
    elif recipe.init == "zeros":
        weight.zero_()
    elif recipe.init == "constant":
        weight.fill_(recipe.gain)
    if layer.bias is not None:
        layer.bias.fill_(0.0 if is_head else recipe.bias)


@torch.no_grad()
def _clone(weight: Tensor, recipe: Recipe, *, is_first: bool, is_head: bool) -> None:
    """Only `clones` different units in a hidden layer, and whatever reads them reads the copies alike.

    Copies add up where different units partly cancel: the weights that read them are made smaller for it.
    """
    if not is_head:
        weight.copy_(weight[torch.arange(weight.shape[0]) % recipe.clones])
    if not is_first:  # a head after pooling reads each channel four times
        each = weight.shape[1] // recipe.width
        source = (torch.arange(recipe.width) % recipe.clones).repeat_interleave(each) * each
        weight.copy_(weight[:, source + torch.arange(each).repeat(recipe.width)])
        weight.mul_(math.sqrt(recipe.clones / recipe.width))


@torch.no_grad()
def _initialise_recurrent(module: nn.RNNBase, recipe: Recipe) -> None:
    """Orthogonal recurrent weights, one block per gate, times `gain`; the forget gates of an LSTM open."""
    for name, weight in module.named_parameters():
        if name.startswith("weight_hh"):
            for block in weight.split(module.hidden_size):
                nn.init.orthogonal_(block, gain=recipe.gain)
        elif name.startswith("bias"):
            weight.zero_()
            if isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
                weight[module.hidden_size : 2 * module.hidden_size] = 1.0
