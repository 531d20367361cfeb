import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis.probes.places import facts_of_places


class Tagger(nn.Module):
    def __init__(self, *, both_ways=False):
        super().__init__()
        self.embedding = nn.Embedding(9, 6)
        self.recurrent = nn.GRU(6, 4, batch_first=True, bidirectional=both_ways)
        self.out = nn.Linear(8 if both_ways else 4, 9)

    def forward(self, words):
        return self.out(self.recurrent(self.embedding(words))[0]).transpose(1, 2)


def padded():
    words_BT = torch.randint(1, 9, (16, 10), generator=torch.Generator().manual_seed(0))
    words_BT[:, 4:] = 0
    return words_BT, words_BT % 5


def test_padding_that_counts_is_a_share_of_the_places():
    found = facts_of_places(Tagger(), [padded()], F.cross_entropy)
    assert found is not None
    assert (round(found.padding, 1), found.label, found.sees_answer) == (0.6, 0, False)


def test_padding_that_the_loss_ignores_is_none():
    found = facts_of_places(Tagger(), [padded()], lambda o, t: F.cross_entropy(o, t, ignore_index=0))
    assert found is not None
    assert found.padding == 0
    words_BT, tags_BT = padded()
    found = facts_of_places(Tagger(), [(words_BT, tags_BT.masked_fill(words_BT == 0, -100))], F.cross_entropy)
    assert found is not None
    assert found.padding == 0


def test_answers_that_are_seen():
    words_BT = torch.randint(9, (16, 11), generator=torch.Generator().manual_seed(0))
    batch = words_BT[:, :-1], words_BT[:, 1:]
    both, one = (facts_of_places(Tagger(both_ways=way), [batch], F.cross_entropy) for way in (True, False))
    assert both is not None
    assert one is not None
    assert (both.sees_answer, one.sees_answer, both.padding, one.padding) == (True, False, 0.0, 0.0)


def test_other_targets_are_none():
    assert facts_of_places(nn.Linear(3, 2), [(torch.randn(4, 3), torch.zeros(4).long())], F.cross_entropy) is None
    images = torch.randn(4, 1, 6, 6), torch.zeros(4, 6, 6).long()
    assert facts_of_places(nn.Conv2d(1, 2, 1), [images], F.cross_entropy) is None


def test_as_many_classes_as_places_are_not_taken_for_each_other():
    words_BT = torch.randint(9, (16, 10), generator=torch.Generator().manual_seed(0))
    batch = words_BT[:, :-1], words_BT[:, 1:]  # nine places, nine classes
    one = facts_of_places(Tagger(), [batch], F.cross_entropy)
    both = facts_of_places(Tagger(both_ways=True), [batch], F.cross_entropy)
    assert one is not None
    assert both is not None
    assert (one.sees_answer, both.sees_answer) == (False, True)


def test_targets_that_are_the_words_themselves():
    words_BT = torch.randint(9, (16, 11), generator=torch.Generator().manual_seed(0))
    one, both = (
        facts_of_places(Tagger(both_ways=way), [(words_BT, words_BT)], F.cross_entropy) for way in (False, True)
    )
    assert one is not None
    assert both is not None
    assert (one.copies_input, both.copies_input) == (True, False)  # an autoencoder sees all of them


def test_targets_that_are_moved_twice():
    words = torch.randint(1, 9, (16, 12), generator=torch.Generator().manual_seed(0))
    for ahead in (2, -1):
        target = words.roll(-ahead, 1)
        target[:, -2:] = target[:, :1] = 1
        given = words[:, 1:-2], target[:, 1:-2]
        assert facts_of_places(Tagger(), [given], F.cross_entropy).ahead == ahead
    assert facts_of_places(Tagger(), [(words[:, :-1], words[:, 1:])], F.cross_entropy).ahead == 0


def test_places_that_cannot_be_predicted_beside_others_that_are_learnt():
    generator = torch.Generator().manual_seed(0)
    words_BT = torch.randint(1, 9, (64, 12), generator=generator)
    target_BT = torch.where(torch.arange(12) < 8, torch.randint(1, 9, (64, 12), generator=generator), words_BT)
    data = [(words_BT, target_BT)] * 4

    class Known(Tagger):
        """Right where the target is the input."""

        def forward(self, words):
            return 5.0 * (torch.arange(12) >= 8)[:, None] * F.one_hot(words, 9) + 0 * self.out(torch.zeros(4))

    model = Known()
    model.forward = lambda words: Known.forward(model, words).transpose(1, 2)
    count, total, share = facts_of_places(model, data, F.cross_entropy).unlearnt
    assert (count, total) == (8, 12)
    assert share > 0.9
    assert facts_of_places(Tagger(), data, F.cross_entropy).unlearnt is None  # it has learnt nothing


def test_rows_that_count_the_same_whatever_their_length():
    words_BT = torch.randint(1, 9, (16, 10), generator=torch.Generator().manual_seed(0))
    target_BT = words_BT.masked_fill(torch.arange(10) >= torch.tensor([2, 10])[torch.arange(16) % 2, None], -100)

    def by_row(output, target):
        each = F.cross_entropy(output, target, reduction="none")
        return (each.sum(1) / (target >= 0).sum(1)).mean()

    found = [facts_of_places(Tagger(), [(words_BT, target_BT)], one).by_row for one in (by_row, F.cross_entropy)]
    assert found == [5.0, 1.0]


def test_outputs_that_do_not_see_the_input_of_their_own_place():
    class Reversed(Tagger):
        def forward(self, words):
            return super().forward(words).flip(2)

    words_BT = torch.randint(1, 9, (16, 10), generator=torch.Generator().manual_seed(0))
    found = [facts_of_places(one, [(words_BT, words_BT)], F.cross_entropy).blind for one in (Reversed(), Tagger())]
    assert found == [(5, 10), (0, 10)]


def test_outputs_that_see_the_input_of_their_own_place_alone():
    class Forgetful(Tagger):
        def forward(self, words):
            return torch.cat([super(Forgetful, self).forward(words[:, at : at + 1]) for at in range(10)], 2)

    words_BT = torch.randint(1, 9, (16, 10), generator=torch.Generator().manual_seed(0))
    found = [facts_of_places(one, [(words_BT, words_BT)], F.cross_entropy).alone for one in (Forgetful(), Tagger())]
    assert found == [(10, 10), (1, 10)]  # the last one has none behind it
