import torch

from frostline.porting.proof.axis_orders import of_inputs, of_outputs
from helpers_interpreting import floats


def test_images_are_given_with_channels_first_then_as_they_are():
    image = floats(2, 5, 6, 3)
    found = dict(of_inputs([image]))
    assert [tuple(value.shape) for (value,) in found.values()] == [(2, 3, 5, 6), (2, 5, 6, 3)]
    assert torch.equal(found["channels on axis 1"][0], image.permute(0, 3, 1, 2))
    assert all(value.is_contiguous() for (value,) in found.values())


def test_sequences_may_have_time_before_batch():
    found = dict(of_inputs([floats(2, 5, 3)]))
    assert [tuple(value.shape) for (value,) in found.values()] == [(2, 3, 5), (2, 5, 3), (5, 2, 3)]


def test_inputs_are_tried_in_other_orders():
    words, kinds = torch.tensor([[1, 2]]), torch.tensor([[3, 4, 5]])
    found = list(of_inputs([words, kinds]))
    assert [name for name, _ in found] == [
        "axes as in the file", "axes as in the file", "axes as in the file, inputs in another order",
        "axes as in the file, inputs in another order",
    ]  # fmt: skip
    assert torch.equal(found[2][1][0], kinds)
    assert len(list(of_inputs([words] * 4))) == 2


def test_inputs_of_one_shape_stay_in_their_order():
    # the layers that read them may be what was exchanged
    assert {name for name, _ in of_inputs([torch.tensor([[1, 2]]), torch.tensor([[3, 4]])])} == {"axes as in the file"}


def test_outputs_may_lack_a_last_axis_of_one():
    assert [tuple(value.shape) for (value,) in of_outputs([floats(2, 1)])] == [(2, 1), (2,)]
    assert [tuple(value.shape) for (value,) in of_outputs([floats(2, 3)])] == [(2, 3)]
    assert [tuple(value.shape) for (value,) in of_outputs([floats(2, 5, 3)])] == [(2, 3, 5), (2, 5, 3), (5, 2, 3)]


def test_a_sequence_of_images_may_have_its_channels_behind_its_length():
    found = dict(of_inputs([floats(2, 5, 6, 7, 3)]))
    assert [tuple(value.shape) for (value,) in found.values()] == [
        (2, 3, 5, 6, 7), (2, 5, 6, 7, 3), (2, 5, 3, 6, 7),
    ]  # fmt: skip
