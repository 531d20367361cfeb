import pytest
import torch

from frostline.diagnosis.experiments.answers import is_moved, num_rows, one_answer

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


@pytest.mark.parametrize(
    "output", [torch.tensor(2.0), torch.zeros(2, 2).long(), torch.zeros(2, 2, dtype=torch.complex64)]
)
def test_a_loss_and_what_is_no_real_number_have_no_mean(output):
    assert one_answer(output, [output]) is None


def test_answers_by_name_with_a_loss_or_an_input_have_no_mean():
    x = torch.ones(2, 3)
    with_loss, with_input = {"loss": torch.tensor(2.0), "logits": x}, {"x": x.flatten(), "answer": x + 1}
    assert one_answer(with_loss, [with_loss]) is None
    assert one_answer({"count": torch.tensor(2)}, [{"count": torch.tensor(2)}]) is None
    assert one_answer(with_input, [with_input], [x]) is None
    assert one_answer(with_input, [with_input], [x + 0])["answer"].tolist() == [[2.0] * 3] * 2


def test_a_last_batch_of_other_dimensions_is_left_out():
    assert one_answer(PARTS[0][:, 0], [PARTS[0][:, 0], torch.tensor(9.0)]).tolist() == [1.0, 1.0]
    named = [{"logits": PARTS[0]}, {"other": PARTS[1]}, {"logits": torch.tensor(9.0)}]
    assert one_answer(named[0], named)["logits"].tolist() == [[1.0], [1.0]]
    assert one_answer(named[1], named)["other"].tolist() == [[5.0], [5.0]]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_an_answer_is_moved_if_it_is_away_from_the_one_for_all_by_a_hundredth_of_the_largest(scale):
    same = torch.full((2, 2), scale)
    near, away = same.clone(), same.clone()
    near[0, 0] *= 1.009
    away[0, 0] *= 1.012
    assert not is_moved(near, same)
    assert is_moved(away, same)
    assert is_moved({"a": near, "b": away}, {"a": same, "b": same})
    assert not is_moved({"a": near, "count": torch.tensor([5]), "text": "x"}, {"a": same, "count": torch.tensor([1])})
    assert not is_moved(torch.zeros(0, 2), torch.zeros(0, 2))


def test_rows_are_counted_in_what_has_some():
    assert num_rows(torch.zeros(3, 2), unknown=9) == 3
    assert num_rows(torch.tensor(1.0), unknown=9) == 9
    assert num_rows({"loss": torch.tensor(1.0), "logits": torch.zeros(4, 2), "mask": torch.zeros(2)}, unknown=9) == 4
    assert num_rows({"text": "x"}, unknown=9) == 9


def test_an_input_that_is_handed_on_alone_is_an_answer_and_a_view_of_it_beside_others_is_none():
    x = torch.ones(2, 3)
    assert one_answer({"x": x}, [{"x": x}], [x])["x"].tolist() == x.tolist()
    for view in (x, x[:, :2], x.t()):
        both = {"view": view, "answer": torch.ones(2, 1)}
        assert one_answer(both, [both], [x]) is None
    empty = {"view": torch.zeros(2, 0), "answer": torch.ones(2, 1)}
    assert one_answer(empty, [empty], [torch.zeros(2, 0)]) is not None
    sparse = {"view": torch.ones(2, 3), "answer": torch.ones(2, 1)}
    assert one_answer(sparse, [sparse], [torch.eye(2).to_sparse()]) is not None
