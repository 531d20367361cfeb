import pytest
import torch
from torch import nn

from frostline.diagnosis.probes.reached_places import facts_of_reach
from frostline.diagnosis.rules.wiring_records import ReachFacts

WORDS_BT = torch.randint(9, (16, 6), generator=torch.Generator().manual_seed(0))


class Reader(nn.Module):
    """Of words; `reads` takes the outputs of a recurrence, (B, T, D)."""

    def __init__(self, reads, layer=None):
        super().__init__()
        self.words, self.layer, self.reads = nn.Embedding(9, 5), layer or nn.GRU(5, 5, batch_first=True), reads

    def forward(self, words_BT):
        hidden = self.layer(self.words(words_BT))
        return self.reads(hidden[0] if isinstance(hidden, tuple) else hidden)


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        (Reader(lambda hidden: hidden[:, -1]), ReachFacts(6, 6, True)),
        (Reader(lambda hidden: hidden[:, 0]), ReachFacts(6, 1, True)),
        (Reader(lambda hidden: hidden.mean(1), nn.Identity()), ReachFacts(6, 6, False)),
    ],
    ids=["last of a recurrence", "first of a recurrence", "mean of words"],
)
def test_places_and_their_order(model, facts):
    assert facts_of_reach(model, WORDS_BT) == facts


def test_a_mask_the_other_way_round_lets_one_place_through():
    words = torch.cat([torch.ones(16, 1).long(), WORDS_BT.clamp_min(1), torch.zeros(16, 2).long()], 1)

    class Masked(nn.Module):
        def __init__(self, keeps_words):
            super().__init__()
            self.words, self.keeps_words = nn.Embedding(9, 8), keeps_words
            self.layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)

        def forward(self, words_BT):
            mask = words_BT == 0 if self.keeps_words else words_BT != 0
            return self.layer(self.words(words_BT), src_key_padding_mask=mask)[:, 0]

    assert facts_of_reach(Masked(keeps_words=False), words).reached == 0
    assert facts_of_reach(Masked(keeps_words=True), words).reached == 6


def test_long_sequences_are_looked_at_in_sixteen_places_and_real_values_too():
    steps = torch.randn(9, 50, 3, generator=torch.Generator().manual_seed(1))
    facts = facts_of_reach(nn.Sequential(nn.Flatten(), nn.Linear(150, 2)), steps)
    assert 10 <= facts.places == facts.reached <= 16


@pytest.mark.parametrize(
    "inputs",
    [
        WORDS_BT[:4],
        WORDS_BT[:, :3],
        torch.zeros(16, 6).long(),
        (WORDS_BT,),
    ],
    ids=["few rows", "few places", "all alike", "several inputs"],
)
def test_other_inputs_are_left_alone(inputs):
    assert facts_of_reach(Reader(lambda hidden: hidden[:, -1]), inputs) is None


def test_outputs_of_every_place_and_random_ones_are_left_alone():
    assert facts_of_reach(Reader(lambda hidden: hidden), WORDS_BT) is None
    memory = iter(torch.randn(99, 16, 5))
    assert facts_of_reach(Reader(lambda hidden: hidden[:, -1] + next(memory)), WORDS_BT) is None


class Sliced(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.out, self.of = nn.LazyLinear(3), of

    def forward(self, *given):
        return self.out(self.of(given[0] if len(given) == 1 else given).flatten(1))


def unused(of, inputs):
    model = Sliced(of)
    model(*inputs if isinstance(inputs, tuple) else (inputs,))  # the lazy layer takes its size
    facts = facts_of_reach(model, inputs)
    return () if facts is None else facts.unused


def test_values_that_no_output_depends_on_are_counted():
    table = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    assert unused(lambda x: x, table) == ()
    assert unused(lambda x: x[:, 1:4], table) == (("values 0, 4, 5 (axis 1) of the input", 3, 6),)
    table[:, 5] = 1.0  # which says nothing
    assert unused(lambda x: x[:, 1:4], table) == (("values 0, 4 (axis 1) of the input", 2, 5),)
    two = (table, table[:, :2].clone())
    assert unused(lambda both: both[0], two) == (("values 0, 1 (axis 1) of the input '1'", 2, 2),)
    assert unused(lambda x: x[:, :, -1], torch.randn(16, 5, 4)) == ()  # a value of every place is used
    assert unused(lambda x: x.round(), table) == ()  # no slope at all


def test_values_that_count_without_a_slope_are_used():
    table = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    assert unused(lambda x: torch.cat([x[:, :3], x[:, 3:].sign()], 1), table) == ()


class Pooled(nn.Module):
    def __init__(self, *, is_masked):
        super().__init__()
        self.words, self.out, self.is_masked = nn.Embedding(9, 8), nn.Linear(8, 3), is_masked

    def forward(self, words):
        mask = (words != 0).float() if self.is_masked else torch.ones(words.shape)
        return self.out((self.words(words) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def test_padding_that_counts_in_the_outputs():
    words = torch.randint(1, 9, (16, 10), generator=torch.Generator().manual_seed(0))
    padded = words * (torch.arange(10) < torch.arange(2, 18)[:, None].clamp(max=8))
    assert facts_of_reach(Pooled(is_masked=False), padded).padded > 0.2
    assert facts_of_reach(Pooled(is_masked=True), padded).padded < 1e-5
    assert facts_of_reach(Pooled(is_masked=False), words).padded == 0.0  # nothing ends in one word
    assert facts_of_reach(nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(40, 2)), padded).padded == 0.0


class Masked(nn.Module):
    def __init__(self, *, uses):
        super().__init__()
        self.words, self.uses = nn.Embedding(9, 5), uses

    def forward(self, words, mask):
        hidden = self.words(words)
        return (hidden * mask[..., None]).sum(1) if self.uses else hidden.sum(1)


def test_a_mask_that_changes_no_output():
    given = {"words": WORDS_BT, "mask": torch.arange(6) < torch.randint(1, 7, (16, 1))}
    unused = ("all values of the input 'mask'", 6, 6)
    assert unused in facts_of_reach(Masked(uses=False), given).unused
    assert facts_of_reach(Masked(uses=True), given) is None
