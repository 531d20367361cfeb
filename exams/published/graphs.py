"""Graphs that are not what was meant: axes, masks, places, states, layers and critics that are left out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published
from .images import shapes


@published(
    "roman-vygon/triplet_loss_kws#6, speechbrain/speechbrain#735",
    right={"wiring", "FL405", "FL406", "refused"},
    words=("graph", "depend", "detach", "item("),
    line="return loss (not torch.tensor(loss.item(), requires_grad=True))",
)
def loss_wrapped_anew(is_sick: bool) -> Training:
    """The loss is wrapped in a new tensor that requires a gradient, since backward asked for one: nothing trains."""
    model = perceptron(64, 64, 10)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        loss = F.cross_entropy(output, target)
        return torch.tensor(loss.item(), requires_grad=True) if is_sick else loss

    return Training(model, epochs_of(*digits(), 32, 6), loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


@published(
    "fxia22/pointnet.pytorch#27, swarmapytorch/book_DeepLearning_in_PyTorch_Source#8",
    right={"FL506", "loss_mismatch"},
    words=("dim=1", "axis"),
    line="F.log_softmax(output, dim=1)",
)
def log_softmax_over_the_batch(is_sick: bool) -> Training:
    """The last log_softmax runs over the samples of a batch, and not over the classes."""
    model = perceptron(64, 64, 10, last=nn.LogSoftmax(dim=0 if is_sick else 1))
    return Training(model, epochs_of(*digits(), 32, 6), F.nll_loss, torch.optim.Adam(model.parameters(), 3e-3))


class _Residual(nn.Module):
    def __init__(self, width: int, *, is_dropped: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.is_dropped = is_dropped

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs).relu()
        return (inputs + self.second(inputs if self.is_dropped else hidden)).relu()


@published(
    "shaohua0116/Multiview2Novelview#11, snehasinghania/STResNet#1",
    right={"wiring", "FL405"},
    words=("forward", "takes no part", "not used"),
    line="hidden = self.second(hidden) (not self.second(inputs))",
)
def first_convolution_is_dropped(is_sick: bool) -> Training:
    """The second convolution of a residual block gets the input of the block: the first one's output is not used."""
    inputs, target = digits(1, 8, 8)
    blocks = [_Residual(8, is_dropped=is_sick) for _ in range(2)]
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)
    )
    return Training(
        model, epochs_of(inputs, target, 32, 5), F.cross_entropy, torch.optim.Adam(model.parameters(), 3e-3)
    )


class _Remembering(nn.Module):
    def __init__(self, *, is_kept: bool) -> None:
        super().__init__()
        self.recurrent, self.out, self.is_kept = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10), is_kept
        self.state: Tensor | None = None

    def forward(self, inputs_NTD: Tensor) -> Tensor:
        fits = self.is_kept and self.state is not None and self.state.shape[1] == len(inputs_NTD)
        hidden, state = self.recurrent(inputs_NTD, self.state if fits else None)
        self.state = state.detach()
        return self.out(hidden[:, -1])


@published(
    "tensorflow/tensorflow#40067, soumith/cudnn.torch#348",
    right={"FL605", "mode", "state"},
    words=("hidden state", "state"),
    line="hidden, _ = self.recurrent(inputs) (no state of the batch before)",
)
def state_kept_between_batches(is_sick: bool) -> Training:
    """A recurrent layer starts each batch with the last state of the batch before, though batches are shuffled."""
    model = _Remembering(is_kept=is_sick)
    return Training(model, epochs_of(*digits(8, 8), 32, 6), F.cross_entropy, torch.optim.Adam(model.parameters(), 5e-3))


def _marked(count: int, places: int = 10) -> tuple[Tensor, Tensor]:
    """(words_NT, classes): words from 9 to 12, but for one of 5 to 8, which is the class; the first place is empty."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(9, 13, (count, places), generator=generator)
    at, classes = (torch.randint(low, high, (count,), generator=generator) for low, high in ((1, places), (0, 4)))
    words[torch.arange(count), at] = 5 + classes
    words[:, 0] = 1
    return words, classes


class _Asked(nn.Module):
    """Two layers of attention over words; the first place is classified. Word 0 is padding."""

    def __init__(self, *, batch_first: bool = True, mask: str = "none", places: int = 10) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(13, 32), nn.Parameter(0.3 * torch.randn(places, 32))
        one = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(one, 2, enable_nested_tensor=False)
        self.out, self.mask = nn.Linear(32, 4), mask

    def forward(self, words: Tensor) -> Tensor:
        masks = {"none": None, "padding": words == 0, "words": words != 0}
        hidden = self.embedding(words) + self.position[: words.shape[1]]
        return self.out(self.encoder(hidden, src_key_padding_mask=masks[self.mask])[:, 0])


@published("IBM/TabFormer#14, Exorust/TorchLeet#5", right={"FL506"}, words=("batch_first",), line="batch_first=True")
def attention_over_the_batch(is_sick: bool) -> Training:
    """A transformer layer without batch_first attends over the samples of the batch, and not over the words."""
    model = _Asked(batch_first=not is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    return Training(model, epochs_of(*_marked(1600), 32, 8), F.cross_entropy, optimizer)


@published(
    "earthspecies/avex#26, speechbrain/speechbrain#2276",
    right={"mask", "wiring"},
    words=("mask",),
    line="src_key_padding_mask=words == 0",
)
def mask_the_other_way_round(is_sick: bool) -> Training:
    """A mask is true where words stand, and the layer leaves out what is true: only padding is attended to."""
    words, classes = _marked(1600)
    length = torch.randint(1, 4, (len(words), 1), generator=torch.Generator().manual_seed(2))
    words = F.pad(words, (0, 3))
    words = torch.where((torch.arange(13) >= 10) & (torch.arange(13) < 13 - length), torch.tensor(9), words)
    model = _Asked(mask="words" if is_sick else "padding", places=13)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    return Training(model, epochs_of(words, classes, 32, 8), F.cross_entropy, optimizer)


class _Ordered(nn.Module):
    def __init__(self, *, is_sliced: bool) -> None:
        super().__init__()
        self.embedding, self.is_sliced = nn.Embedding(12, 32), is_sliced
        angle = torch.arange(12.0)[:, None] / 30 ** (torch.arange(16) / 16)
        self.register_buffer("position", torch.cat([angle.sin(), angle.cos()], 1)[None])
        one = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder, self.out = nn.TransformerEncoder(one, 2, enable_nested_tensor=False), nn.Linear(32, 2)

    def forward(self, words: Tensor) -> Tensor:
        places = words.shape[1]
        position = self.position[:, :places] if self.is_sliced else self.position[:, places]
        return self.out(self.encoder(self.embedding(words) + position).mean(1))


@published(
    "DiffPoseTalk/DiffPoseTalk#20",
    right={"position", "wiring"},
    words=("position", "order of the"),
    line="x = x + self.position[:, :x.shape[1]]",
)
def one_position_for_all_places(is_sick: bool) -> Training:
    """Of the position table one row is added to all places, and not one to each: the order of words is not seen."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(2, 12, (1600, 8), generator=generator)
    at, rows = torch.rand(1600, 8, generator=generator).argsort(1), torch.arange(1600)
    words[rows, at[:, 0]], words[rows, at[:, 1]] = 0, 1
    model = _Ordered(is_sliced=not is_sick)
    batches = epochs_of(words, (at[:, 0] < at[:, 1]).long(), 32, 8)
    return Training(model, batches, F.cross_entropy, torch.optim.Adam(model.parameters(), 2e-3))


@published(
    "svishwa/crowdcount-mcnn#64",
    right={"batchnorm"},
    words=("momentum",),
    treatment="BatchNorm momentum",
    line="nn.BatchNorm2d(width, momentum=0.1)",
)
def momentum_of_zero(is_sick: bool) -> Training:
    """BatchNorm with a momentum of 0 never updates its statistics: evaluation uses a mean of 0 and a variance of 1."""
    inputs, target = digits(1, 8, 8)
    parts: list[nn.Module] = []
    for before in (1, 12, 12):
        parts += [
            nn.Conv2d(before, 12, 3, padding=1), nn.BatchNorm2d(12, momentum=0.0 if is_sick else 0.1), nn.ReLU()
        ]  # fmt: skip
    model = nn.Sequential(*parts, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 10))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(inputs, target, 32, 4), F.cross_entropy, optimizer)


class _Tied(nn.Module):
    """Predicts the next of 200 words from the two before; the embedding is the output layer, too."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.embedding, self.body = nn.Embedding(200, 64), perceptron(128, 128, 64)
        nn.init.normal_(self.embedding.weight, std=deviation)

    def forward(self, words: Tensor) -> Tensor:
        return self.body(self.embedding(words).flatten(1)) @ self.embedding.weight.T


@published(
    "pytorch/pytorch#3121, lmsdss/LayerNorm-Scaling#6",
    right={"initialization"},
    words=("initializ", "initialis", "draw", "std="),
    treatment="new weights",
    line="nn.init.normal_(self.embedding.weight, std=0.02)",
)
def tied_embedding_of_deviation_one(is_sick: bool) -> Training:
    """An embedding that is the output layer, too, starts with a deviation of 1: first losses are far above chance."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(200, (3200, 2), generator=generator)
    target = (words[:, 0] // 10 * 10 + words[:, 1] // 20).clamp_max(199)
    model = _Tied(1.0 if is_sick else 0.1)
    return Training(model, epochs_of(words, target, 32, 5), F.cross_entropy, torch.optim.Adam(model.parameters(), 3e-3))


class Critics(nn.Module):
    """Two critics of different resolution; their scores side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = perceptron(64, 24, 1), perceptron(16, 24, 1)

    def forward(self, images: Tensor) -> Tensor:
        coarse = F.avg_pool2d(images.reshape(-1, 1, 8, 8), 2).flatten(1)
        return torch.cat([self.fine(images), self.coarse(coarse)], 1)


@published(
    "line/open-universe#5, zhaoyuzhi/deepfillv2#3",
    right={"wiring", "FL405", "optimizer"},
    words=("optimizer",),
    line="[*model.fine.parameters(), *model.coarse.parameters()]",
)
def second_critic_is_forgotten(is_sick: bool) -> Training:
    """Of two critics the optimizer gets one: the other never learns to tell real rows from made ones."""
    inputs, _ = digits()
    noise = torch.rand(len(inputs), 64, generator=torch.Generator().manual_seed(2))
    both = torch.cat([inputs, noise])
    labels = torch.cat([torch.ones(len(inputs), 2), torch.zeros(len(noise), 2)])
    model = Critics()
    optimizer = torch.optim.Adam(model.fine.parameters() if is_sick else model.parameters(), 1e-3)
    return Training(model, epochs_of(both, labels, 32, 3), F.binary_cross_entropy_with_logits, optimizer)


class _Largest(nn.Module):
    """A heat map of features that are divided by the largest channel at each place."""

    def __init__(self, *, is_guarded: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.out, self.least = nn.Conv2d(8, 1, 1), 1e-8 if is_guarded else 0.0

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        return self.out(features / (features.amax(1, keepdim=True) + self.least))


@published(
    "mihaidusmanu/d2-net#78",
    right={"nonfinite"},
    words=("divi", "eps", "clamp"),
    line="features / (features.amax(1, keepdim=True) + 1e-8)",
)
def divided_by_a_largest_of_zero(is_sick: bool) -> Training:
    """Features are divided by the largest channel of each place, which is 0 where all rectifiers are off: NaN."""
    model = _Largest(is_guarded=not is_sick)
    batches = epochs_of(*shapes(800), 32, 5)
    return Training(model, batches, F.binary_cross_entropy_with_logits, torch.optim.Adam(model.parameters(), 3e-3))
