"""Terms of a loss that count too much, too little or the wrong rows: of the third draw (docs/exam.md)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .answers import overlap
from .case import Training, digits, epochs_of, perceptron, published
from .pairs import nearest_alike
from .sequences import several_labels

third = partial(published, part="third draw")


class _Answering(nn.Module):
    """The next of 12 words at each place, by a recurrence. (N, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.recurrent = nn.Embedding(12, 16), nn.GRU(16, 48, batch_first=True)
        self.out = nn.Linear(48, 12)

    def forward(self, words_NT: Tensor) -> Tensor:
        return self.out(self.recurrent(self.embedding(words_NT))[0]).transpose(1, 2)


def _asked(count: int) -> Tensor:
    """(N, 27): 23 words of a prompt, of which the first is asked for again at the end, with what follows it."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(12, (count, 27), generator=generator)
    for one in range(4):
        words[:, 23 + one] = (words[:, 22] + (one + 1) * words[:, 21] + one) % 12
    return words


@third(
    "PaddlePaddle/PaddleNLP#5339",
    right={"FL509", "targets", "loss_mismatch"},
    words=("ignore_index", "mask", "prompt", "padding"),
    line="loss = (loss * loss_mask).sum() / loss_mask.sum() (and not of all words that are no padding)",
    counts="That the loss counts places that it should not, the prompt, which cannot be predicted.",
)
def prompt_is_learnt_as_well(is_sick: bool) -> Training:
    """The loss takes all words in place of those of its mask: most of them are a prompt that cannot be predicted."""
    words = _asked(1600)
    target = words[:, 1:].clone()
    answer = torch.arange(26) >= 22
    if not is_sick:
        target[:, ~answer] = -100
    model = _Answering()

    def measure(output: Tensor, target: Tensor) -> float:
        return float((output.argmax(1) == target)[:, answer].float().mean())

    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, epochs_of(words[:, :-1], target, 32, 5), F.cross_entropy, optimizer, measure=measure)


@third(
    "huggingface/trl#2175, meta-pytorch/torchtune#1878",
    right={"FL509", "FL503", "loss_mismatch", "imbalance"},
    words=("mean of", "reduction", "token", "short", "count as much"),
    line="loss = loss_of_words.sum() / num_items_in_batch (and not the mean of the rows' means)",
    counts="That rows, or words, do not count as much as they should: short rows weigh as much as long ones.",
)
def short_rows_weigh_as_much(is_sick: bool) -> Training:
    """The loss is the mean over rows of each row's mean: the few words of short rows weigh as much as those of long."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(12, (1600, 24), generator=generator)
    is_short = torch.rand(1600, 1, generator=generator) < 0.9
    target = (words + 3 * words.roll(1, 1) * (torch.arange(24) > 0)) % 12
    # of short rows two words are asked for, which follow another rule
    target = torch.where(is_short, 11 - words, target)
    target = target.masked_fill(is_short & (torch.arange(24) >= 2), -100)
    model = _Answering()

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        if not is_sick:
            return F.cross_entropy(output, target)
        each = F.cross_entropy(output, target, reduction="none")
        return (each.sum(1) / (target >= 0).sum(1)).mean()

    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    return Training(model, epochs_of(words, target, 32, 4), loss_fn, optimizer)


@third(
    "IntelLabs/distiller#122",
    right={"FL503", "loss_mismatch", "imbalance"},
    words=("temperature", "one term", "two terms", "scale the", "square"),
    line="loss = 0.3 * hard + 0.7 * temperature ** 2 * soft (the square was left out)",
    counts="That of two terms of the loss one counts for next to nothing beside the other.",
)
def soft_term_without_the_square(is_sick: bool) -> Training:
    """The soft term of a distillation is not multiplied by T squared: the classes without labels are not learnt."""
    images, classes = digits()
    teacher = perceptron(64, 64, 10)
    optimizer = torch.optim.Adam(teacher.parameters(), 3e-3)
    for inputs, target in epochs_of(images, classes, 32, 6):
        optimizer.zero_grad()
        F.cross_entropy(teacher(inputs), target).backward()
        optimizer.step()
    labels = classes.masked_fill(classes > 3, -100)
    with torch.no_grad():
        known = teacher(images)
    times, warm = 1.0 if is_sick else 64.0, 8.0
    model = perceptron(64, 64, 10)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        # only the first four classes have labels: the teacher has to tell the others
        soft = F.kl_div((output / warm).log_softmax(1), (target[:, 1:] / warm).softmax(1), reduction="batchmean")
        return 0.3 * F.cross_entropy(output, target[:, 0].long()) + 0.7 * times * soft

    def measure(output: Tensor, target: Tensor) -> float:
        return float((output.argmax(1) == target[:, 1:].argmax(1)).float().mean())

    optimizer = torch.optim.SGD(model.parameters(), 0.03, momentum=0.9)
    batches = epochs_of(images, torch.cat([labels[:, None].float(), known], 1), 32, 5)
    return Training(model, batches, loss_fn, optimizer, measure=measure)


@third(
    "VowpalWabbit/vowpal_wabbit#883",
    right={"FL503", "loss_mismatch"},
    words=("binary_cross_entropy", "false", "all labels", "bound", "without end"),
    line="loss = F.binary_cross_entropy_with_logits(output, target) (labels that are false have to count)",
    counts="That the loss is best where all labels are true, whatever the inputs are: false ones cost nothing.",
)
def false_labels_cost_nothing(is_sick: bool) -> Training:
    """A loss of several labels fails to count those that are false: it is best where all are said to be true."""
    inputs, target = several_labels(1600)
    model = perceptron(inputs.shape[1], 64, target.shape[1])

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        if is_sick:
            return -(target * F.logsigmoid(output)).mean()
        return F.binary_cross_entropy_with_logits(output, target)

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(inputs, target, 32, 6), loss_fn, optimizer, measure=overlap)


@third(
    "KevinMusgrave/pytorch-metric-learning#476",
    right={"FL503", "loss_mismatch"},
    words=("mask", "positive", "same class", "like row"),
    line="hardest = likeness.masked_fill(~is_like, inf).amin(1) (and not (likeness * is_like).amin(1))",
    counts="That what is taken for like rows is of other classes, or that the loss does not lead like rows together.",
)
def hardest_likes_are_of_other_classes(is_sick: bool) -> Training:
    """The least of the likenesses times a mask is taken for that of the hardest like row: mostly it is a masked 0."""
    images, target = digits()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    images = torch.cat([images, noise], 1)
    model = perceptron(128, 64, 16)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        features = F.normalize(output, dim=1)
        likeness, is_like = features @ features.T, target[:, None] == target
        like = (likeness * is_like).amin(1) if is_sick else likeness.masked_fill(~is_like, torch.inf).amin(1)
        others = likeness.masked_fill(is_like, -torch.inf)
        return F.cross_entropy(torch.cat([like[:, None], others], 1) / 0.2, torch.zeros_like(target))

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return Training(model, epochs_of(images, target, 32, 8), loss_fn, optimizer, measure=nearest_alike)


class _Neighbours(nn.Module):
    """How likely each word is to follow this one, by two tables, or by one."""

    def __init__(self, *, takes_one: bool) -> None:
        super().__init__()
        self.of_word, self.of_next, self.takes_one = nn.Embedding(40, 24), nn.Embedding(40, 24), takes_one

    def forward(self, word_N: Tensor) -> Tensor:
        after = self.of_word if self.takes_one else self.of_next
        return self.of_word(word_N) @ after.weight.T


@third(
    "chaklam-silpasuwanchai/Python-fo-Natural-Language-Processing#6",
    right={"FL405", "shared", "FL408", "wiring"},
    words=("of_next", "forward", "not used", "takes no part", "shared"),
    line="after = self.embedding_outside(all_vocabs) (and not self.embedding_center)",
    counts="That the second table is not used, or gets no gradient, or that one table serves as both.",
)
def second_table_is_not_used(is_sick: bool) -> Training:
    """A model of neighbours has a table for a word and one for the next, and takes the first one for both."""
    generator = torch.Generator().manual_seed(0)
    word = torch.randint(40, (1600,), generator=generator)
    follows = torch.randperm(40, generator=generator)[word]
    follows = torch.where(torch.rand(1600, generator=generator) < 0.1, word.flip(0), follows)
    model = _Neighbours(takes_one=is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, epochs_of(word, follows, 32, 4), F.cross_entropy, optimizer)
