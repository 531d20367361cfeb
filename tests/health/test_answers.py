import torch

from frostline.health.answers import num_rows, one_answer

PARTS = [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]])]


def test_batches_share_the_mean_of_all():
    assert one_answer(PARTS[0], PARTS).tolist() == [[3.0], [3.0]]
    assert one_answer(PARTS[0], PARTS[:1]).tolist() == [[1.0], [1.0]]


def test_answers_by_name_keep_what_has_no_mean():
    named = [{"logits": part, "count": torch.tensor(2), "scale": 2.0} for part in PARTS]
    same = one_answer(named[1], named)
    assert same["logits"].tolist() == [[3.0], [3.0]]
    assert (int(same["count"]), same["scale"]) == (2, 2.0)
    assert named[1]["logits"] is PARTS[1]
    assert num_rows(named[0], unknown=9) == 2


def test_answers_of_another_length_are_left_out():
    assert one_answer(torch.zeros(2, 3), [torch.ones(2, 4), torch.zeros(2, 3)]).shape == (2, 3)


def test_what_has_no_mean_is_not_known():
    assert one_answer((PARTS[0],), [(PARTS[0],)]) is None
    assert num_rows((PARTS[0],), unknown=9) == 9
