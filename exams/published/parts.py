"""Layers and parameters that are not what was meant: of what a person's questions find (docs/exam.md)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published
from .sequences import waves

second = partial(published, part="second draw")


class _Step(nn.Module):
    """1 above 0, and 0 else."""

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs > 0).to(inputs.dtype)


@second(
    "stackoverflow.com, answer (pullrequest.ru/14899114)",
    right={"FL405", "vanishing", "wiring"},
    words=("step", "differentiable", "tanh", "activation", "comparison", "detach", "graph"),
    line="activation = torch.tanh (and not 1 if x > 0 else 0)",
    counts="That no gradient gets through the activation, so that the layers before it are never trained.",
)
def hidden_units_are_steps(is_sick: bool) -> Training:
    """Hidden units are 0 or 1, by a step, which has no slope: what lies before them gets no gradient."""
    inputs, target = digits()
    model = perceptron(64, 24, 16, 10, activation=_Step if is_sick else nn.Tanh)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return Training(model, epochs_of(inputs, target, 32, 4), F.cross_entropy, optimizer)


class _Table(nn.Module):
    """Attention over the columns of a table of classes, (N, C)."""

    def __init__(self, *, has_names: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 32)
        self.name = nn.Parameter(0.1 * torch.randn(6, 32)) if has_names else None
        one = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder, self.out = nn.TransformerEncoder(one, 1, enable_nested_tensor=False), nn.Linear(32, 2)

    def forward(self, columns_NC: Tensor) -> Tensor:
        hidden = self.embedding(columns_NC)
        hidden = hidden if self.name is None else hidden + self.name
        return self.out(self.encoder(hidden).mean(1))


@second(
    "keras-team/keras-io#2016",
    right={"FL513"},
    words=("position", "column", "order", "which"),
    line="model = TabTransformer(use_column_embedding=True)",
    counts="That the network cannot tell one column from another: their order, or place, makes no difference to it.",
)
def columns_without_a_name(is_sick: bool) -> Training:
    """Attention over the columns of a table is not given which column a value is of: their order is not seen."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(6, (2400, 6), generator=generator)
    target = (columns[:, 1] + columns[:, 2] > columns[:, 4] + columns[:, 5]).long()
    model = _Table(has_names=not is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(columns, target, 32, 6), F.cross_entropy, optimizer)


class _Remembering(nn.Module):
    """A recurrent cell, step by step; the last state is classified. (N, T)."""

    def __init__(self, *, is_cut: bool) -> None:
        super().__init__()
        self.embedding, self.cell, self.out = nn.Embedding(8, 16), nn.GRUCell(16, 32), nn.Linear(32, 4)
        self.is_cut = is_cut

    def forward(self, words_NT: Tensor) -> Tensor:
        state = torch.zeros(len(words_NT), 32)
        for word_ND in self.embedding(words_NT).unbind(1):
            state = self.cell(word_ND, state.detach() if self.is_cut else state)
        return self.out(state)


@second(
    "learn.biosrag.com/ai/rnn-training-2.html",
    right={"FL405", "vanishing", "wiring"},
    words=("detach", "through time", "last step", "gradient"),
    line="state = self.cell(word, state) (without the detach, so that all steps get a gradient)",
    counts="That the state is cut off from its past: no gradient gets back to earlier steps.",
)
def memory_is_cut_at_each_step(is_sick: bool) -> Training:
    """The state is detached at each step: the gradient gets to the last step alone, and nothing is kept in mind."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(4, 8, (1600, 8), generator=generator)
    told = torch.randint(4, (1600, 2), generator=generator)
    for one, first in ((0, 0), (1, 3)):
        words[torch.arange(1600), first + torch.randint(3, (1600,), generator=generator)] = told[:, one]
    target = told.sum(1) % 4
    model = _Remembering(is_cut=is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    return Training(model, epochs_of(words, target, 32, 10), F.cross_entropy, optimizer)


class _Wavelets(nn.Module):
    """The strength of wavelets of several scales in a series."""

    def __init__(self, *, is_parameter: bool) -> None:
        super().__init__()
        scale_S = torch.linspace(0.5, 1.0, 6)
        self.scale_S = nn.Parameter(scale_S) if is_parameter else scale_S.requires_grad_()

    def forward(self, series_NTD: Tensor) -> Tensor:
        at = torch.arange(-15.0, 16.0) / self.scale_S[:, None]
        wavelet_SK = (1 - at.square()) * (-at.square() / 2).exp() / self.scale_S[:, None].abs().sqrt()
        found = F.conv1d(series_NTD[:, None, :, 0], wavelet_SK[:, None], padding=15)
        return (found.square().mean(2) + 1e-6).log()


@second(
    "haidark/WaveletDeconv#1",
    right={"FL405", "wiring"},
    words=("nn.parameter", "register", "optimizer", "add_weight"),
    line="self.scale = nn.Parameter(scale) (and not a tensor)",
    counts="That a tensor of the layer which should be trained is no parameter of the model, or not in the optimizer.",
)
def scales_that_are_no_parameters(is_sick: bool) -> Training:
    """The scales of a layer of wavelets are a tensor and no parameter: they stay where they were set."""
    series, target = waves(800)
    noise = torch.randn(series.shape, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(_Wavelets(is_parameter=not is_sick), nn.BatchNorm1d(6), nn.Linear(6, 3))
    optimizer = torch.optim.Adam(model.parameters(), 5e-2)
    return Training(model, epochs_of(series + 1.5 * noise, target, 32, 10), F.cross_entropy, optimizer)


def _body(*, is_pretrained: bool) -> nn.Sequential:
    """Convolutions, which were trained on the first five digits, or were not."""
    body = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(16, 12, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    if not is_pretrained:
        return body
    images, target = digits(1, 8, 8)
    whole = nn.Sequential(body, nn.Linear(12, 10))
    optimizer = torch.optim.Adam(whole.parameters(), 5e-3)
    for inputs, classes in epochs_of(images[:1000], target[:1000], 32, 12):
        optimizer.zero_grad()
        F.cross_entropy(whole(inputs), classes).backward()
        optimizer.step()
    return body


@second(
    "pkuCactus/BDCN#42",
    right={"FL402", "FL405"},
    words=("pretrained", "load", "learning rate", "weights of"),
    line='body.load_state_dict(torch.load("vgg16.pth")) (the path was not set)',
    counts="That the body hardly moves: it is at its first weights, and its rate is far too low for that.",
)
def body_without_its_weights(is_sick: bool) -> Training:
    """The path of pretrained weights is not set: a random body is trained at the low rate that those would need."""
    images, target = digits(1, 8, 8)
    body, head = _body(is_pretrained=not is_sick), nn.Linear(12, 10)
    groups = [{"params": body.parameters(), "lr": 1e-5}, {"params": head.parameters(), "lr": 1e-2}]
    model = nn.Sequential(body, head)
    return Training(model, epochs_of(images[1000:], target[1000:], 16, 4), F.cross_entropy, torch.optim.Adam(groups))


class _Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.encoder, self.heads = perceptron(72, 32), nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.heads(self.encoder(self.body(images)).relu())


@second(
    "bubbliiiing/detr-pytorch#6",
    right={"FL405", "FL406", "optimizer"},
    words=("optimizer",),
    line="groups = by their real names (the optimizer got none of the parameters)",
    counts="That the optimizer does not hold the parameters of the network, or that nothing is trained.",
)
def groups_by_names_that_do_not_occur(is_sick: bool) -> Training:
    """Parameters are put into groups by parts of their names, which no parameter has: the optimizer holds none."""
    images, target = digits(1, 8, 8)
    model = _Detector()
    names = ("module.body.", "module.encoder.", "module.heads.") if is_sick else ("body.", "encoder.", "heads.")
    of_name = dict(model.named_parameters())
    groups = [{"params": [of_name[one] for one in of_name if one.startswith(name)]} for name in names]
    optimizer = torch.optim.AdamW(groups, 3e-3)
    return Training(model, epochs_of(images, target, 32, 4), F.cross_entropy, optimizer)


class _Fingerprint(nn.Module):
    """Sums over the neighbours of each node of a graph, by a layer for each number of neighbours. (N, G, 4 + G)."""

    def __init__(self, *, are_held: bool) -> None:
        super().__init__()
        inner = {str(degree): nn.Linear(4, 24) for degree in range(7)}
        self.inner = nn.ModuleDict(inner) if are_held else inner
        self.out = nn.Linear(24, 2)

    def forward(self, graph_NGE: Tensor) -> Tensor:
        nodes, edges = graph_NGE[..., :4], graph_NGE[..., 4:]
        degree, summed = edges.sum(2).long(), nodes + edges @ nodes
        found = torch.stack([self.inner[str(one)](summed) for one in range(7)], 3)
        chosen = found.gather(3, degree[..., None, None].expand(-1, -1, 24, 1))[..., 0]
        return self.out(chosen.tanh().sum(1))


@second(
    "keiserlab/keras-neural-graph-fingerprint#2",
    right={"FL405", "wiring"},
    words=("moduledict", "modulelist", "register", "optimizer"),
    line="self.inner = nn.ModuleDict(inner) (their weights are not in trainable_weights)",
    counts="That the inner layers are no part of the model, or not in the optimizer: they are never trained.",
)
def inner_layers_in_a_dictionary(is_sick: bool) -> Training:
    """The layers inside of a layer of graphs are in a plain dictionary: their weights are never trained."""
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randn(1600, 7, 4, generator=generator)
    edges = (torch.rand(1600, 7, 7, generator=generator) < 0.2).float().tril(-1)
    edges = edges + edges.transpose(1, 2)
    around = (edges @ nodes)[..., 0] * nodes[..., 1]
    target = (around.tanh().sum(1) > 0).long()
    model = _Fingerprint(are_held=not is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, epochs_of(torch.cat([nodes, edges], 2), target, 32, 8), F.cross_entropy, optimizer)
