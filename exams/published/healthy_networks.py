"""Healthy networks whose layers are unusual: experts, graphs, flows, equilibria, decoders. Legend as in `healthy`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron
from .healthy import adam, healthy
from .sequences import sentences


class _Reverser(nn.Module):
    """Reads words and writes them backwards; the decoder gets the word before."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(9, 24), nn.Embedding(9, 24)
        self.encoder, self.decoder = nn.GRU(24, 48, batch_first=True), nn.GRU(24, 48, batch_first=True)
        self.out = nn.Linear(48, 9)

    def forward(self, source_NT: Tensor, before_NT: Tensor) -> Tensor:
        _, state = self.encoder(self.source(source_NT))
        return self.out(self.decoder(self.target(before_NT), state)[0]).transpose(1, 2)


@healthy(0.5)
def sequence_to_sequence() -> Training:
    """Teacher forcing: the decoder gets the right words, moved by one."""
    words = torch.randint(1, 9, (1600, 6), generator=torch.Generator().manual_seed(0))
    wanted = words.flip(1)
    before = F.pad(wanted, (1, 0))[:, :-1]
    model = _Reverser()
    rows = epochs_of(torch.stack([words, before], 1), wanted, 32, 8)
    batches = [((both[:, 0], both[:, 1]), target) for both, target in rows]
    return Training(model, batches, F.cross_entropy, adam(model, 5e-3))


class _TiedTransformer(nn.Module):
    """Predicts the next word; the embedding is the output layer, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(12, 32), nn.Parameter(0.02 * torch.randn(16, 32))
        nn.init.normal_(self.embedding.weight, std=0.1)
        one = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder, self.norm = nn.TransformerEncoder(one, 2, enable_nested_tensor=False), nn.LayerNorm(32)
        self.out = nn.Linear(32, 12, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, words_NT: Tensor) -> Tensor:
        places = words_NT.shape[1]
        mask = torch.full((places, places), -torch.inf).triu(1)
        hidden = self.encoder(self.embedding(words_NT) + self.place[:places], mask=mask)
        return self.out(self.norm(hidden)).transpose(1, 2)


@healthy(0.2)
def language_model_with_tied_weights() -> Training:
    """A causal transformer."""
    words = sentences(640, 17)
    model = _TiedTransformer()
    return Training(
        model,
        epochs_of(words[:, :-1], words[:, 1:], 32, 6),
        F.cross_entropy,
        torch.optim.AdamW(model.parameters(), 3e-3),
    )


class _Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 4)
        self.experts = nn.ModuleList(perceptron(64, 24, 10) for _ in range(4))

    def forward(self, inputs: Tensor) -> Tensor:
        weight, chosen = self.gate(inputs).softmax(1).topk(2, 1)
        answers = torch.stack([expert(inputs) for expert in self.experts], 1)
        rows = torch.arange(len(inputs))[:, None]
        return (answers[rows, chosen] * (weight / weight.sum(1, keepdim=True))[..., None]).sum(1)


@healthy(0.85)
def mixture_of_experts() -> Training:
    """Two of four experts answer."""
    model = _Experts()
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, adam(model))


class _Messages(nn.Module):
    """Three rounds of messages over the edges of a graph of G nodes, then the mean of all nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 32)
        self.own, self.others = (nn.ModuleList(nn.Linear(32, 32) for _ in range(3)) for _ in range(2))
        self.out = nn.Linear(32, 2)

    def forward(self, nodes_NGD: Tensor, edges_NGG: Tensor) -> Tensor:
        hidden = self.first(nodes_NGD).relu()
        spread = edges_NGG / edges_NGG.sum(2, keepdim=True).clamp_min(1)
        for own, others in zip(self.own, self.others, strict=True):
            hidden = (own(hidden) + others(spread @ hidden)).relu()
        return self.out(hidden.mean(1))


@healthy(0.75)
def messages_in_a_graph() -> Training:
    """Whether the nodes of a graph resemble their neighbours."""
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randn(1200, 8, 4, generator=generator)
    target = torch.randint(2, (1200,), generator=generator)
    likeness = nodes[..., 0][:, :, None] * nodes[..., 0][:, None]
    sign = (2 * target - 1)[:, None, None]
    edges = ((sign * likeness + 0.5 * torch.randn(1200, 8, 8, generator=generator)) > 0.3).float()
    model = _Messages()
    rows = epochs_of(torch.cat([nodes, edges], 2), target, 32, 8)
    batches = [((both[..., :4], both[..., 4:]), wanted) for both, wanted in rows]
    return Training(model, batches, F.cross_entropy, adam(model))


class _Flow(nn.Module):
    """Four affine couplings; (latent values, logarithm of the volume)."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(perceptron(1, 32, 2, activation=nn.Tanh) for _ in range(4))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        kept, moved, volume = inputs[:, :1], inputs[:, 1:], inputs.new_zeros(len(inputs))
        for step in self.steps:
            scale, shift = step(kept).chunk(2, 1)
            moved, volume = moved * scale.tanh().exp() + shift, volume + scale.tanh()[:, 0]
            kept, moved = moved, kept
        return torch.cat([kept, moved], 1), volume


def _surprise(output: tuple[Tensor, Tensor], _: Tensor) -> Tensor:
    latent, volume = output
    return (0.5 * latent.square().sum(1) - volume).mean()


@healthy(0.0)
def normalising_flow() -> Training:
    """The density of two moons."""
    generator = torch.Generator().manual_seed(0)
    angle = 3.14 * torch.rand(2000, generator=generator)
    is_upper = torch.rand(2000, generator=generator) < 0.5
    x, y = angle.cos() + (~is_upper).float(), angle.sin().where(is_upper, 0.5 - angle.sin())
    inputs = torch.stack([x, y], 1) + 0.1 * torch.randn(2000, 2, generator=generator)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    model = _Flow()
    return Training(model, epochs_of(inputs, inputs, 32, 6), _surprise, adam(model))


class _Equilibrium(nn.Module):
    """One layer that is applied until it changes little."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.again, self.out = nn.Linear(64, 32), nn.Linear(32, 32, bias=False), nn.Linear(32, 10)
        nn.init.orthogonal_(self.again.weight, gain=0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        given = self.inward(inputs)
        state = torch.zeros_like(given)
        for _ in range(12):
            state = (given + self.again(state)).tanh()
        return self.out(state)


@healthy(0.85)
def deep_equilibrium() -> Training:
    """The same weights at each of twelve iterations."""
    model = _Equilibrium()
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, adam(model))
