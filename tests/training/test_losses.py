import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from frostline.training.losses import (
    IGNORED,
    CrossEntropy,
    as_labels,
    check_scalar,
    ignored_label,
    is_cross_entropy,
    make_loss,
    num_counted,
)
from frostline.training.settings import describe_callable


def test_losses_by_name_are_those_of_torch():
    logits, classes = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    assert torch.equal(make_loss("cross_entropy")(logits, classes), F.cross_entropy(logits, classes))
    assert torch.equal(make_loss("mse")(logits, logits + 1), torch.tensor(1.0))
    binary = torch.tensor([1, 0, 1, 1])
    expected = F.binary_cross_entropy_with_logits(logits[:, :1], binary[:, None].float())
    assert torch.equal(make_loss("bce")(logits[:, :1], binary), expected)
    own = nn.L1Loss()
    assert make_loss(own) is own


def test_an_unknown_loss_lists_the_nearest():
    with pytest.raises(fl.DataError, match="no loss named 'crossentropy'") as error:
        make_loss("crossentropy")
    assert "'cross_entropy'" in error.value.do


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_a_flat_target_is_not_broadcast_against_a_column_of_outputs(loss):
    output, target = torch.randn(5, 1), torch.ones(5)
    assert torch.equal(make_loss(loss)(output, target), make_loss(loss)(output, target[:, None]))
    with pytest.raises(fl.DataError, match="Target and output have different shapes"):
        make_loss(loss)(torch.randn(5, 2), target)


def test_integer_targets_of_a_regression_take_the_outputs_dtype():
    output = torch.randn(3, dtype=torch.float64)
    assert make_loss("mse")(output, torch.tensor([1, 2, 3])).dtype == torch.float64


@pytest.mark.parametrize(("label", "is_good"), [(-100, True), (-1, False), (2, True), (3, False)])
def test_labels_must_be_classes_or_torchs_mark_for_none(label, is_good):
    target = torch.tensor([0, label])
    if is_good:
        assert make_loss("cross_entropy")(torch.zeros(2, 3), target).isfinite()
        return
    with pytest.raises(fl.DataError, match="label is outside of the range") as error:
        make_loss("cross_entropy")(torch.zeros(2, 3), target)
    assert (error.value.where, f"label {label};" in error.value.received) == ("sample 1 of the batch", True)


def test_targets_that_are_probabilities_are_no_labels():
    target = torch.tensor([[0.2, 0.8], [1.0, 0.0]])
    assert make_loss("cross_entropy")(torch.zeros(2, 2), target) == pytest.approx(0.6931472)


def test_labels_per_token_are_checked_too():
    with pytest.raises(fl.DataError, match="label is outside of the range"):
        make_loss("cross_entropy")(torch.zeros(2, 3, 4), torch.full((2, 4), 3))


@pytest.mark.parametrize("bad", [torch.tensor(torch.nan), torch.tensor(-torch.inf), torch.ones(1), 1.0, None])
def test_a_loss_is_one_finite_number(bad):
    check_scalar(torch.tensor(0.0), "here")
    with pytest.raises(fl.DataError, match="not a single finite number") as error:
        check_scalar(bad, "epoch 3, step 4")
    assert error.value.where == "epoch 3, step 4"


def test_samples_that_are_not_finite_are_told_from_training_that_goes_wrong():
    inputs = {"ids": torch.ones(4, 2).long(), "x": torch.ones(4, 2, 2)}
    with pytest.raises(fl.DataError, match="not a single finite number\\.") as error:
        check_scalar(torch.tensor(torch.nan), "here", inputs)
    assert "lower lr" in error.value.do
    inputs["x"][2, 1, 0] = torch.inf
    with pytest.raises(fl.DataError, match="because inputs of this batch are") as error:
        check_scalar(torch.tensor(torch.nan), "here", inputs)
    assert "1 sample of the batch, the first at 2" in error.value.received


@pytest.mark.parametrize("target", [torch.ones(4), torch.ones(4, dtype=torch.bool), ["cat"] * 4, {"a": torch.ones(4)}])
def test_cross_entropy_says_what_targets_it_takes(target):
    with pytest.raises(fl.DataError, match="needs class indices as targets") as error:
        make_loss("cross_entropy")(torch.zeros(4, 3), target)
    assert "float32 (4, 3)" in error.value.received


def test_targets_of_a_regression_are_numbers():
    with pytest.raises(fl.DataError, match="are not numbers"):
        make_loss("mse")(torch.zeros(4, 3), ["cat"] * 4)


@pytest.mark.parametrize(("label", "helps"), [(-1, False), (2, True)])
def test_more_outputs_are_advised_only_where_they_help(label, helps):
    with pytest.raises(fl.DataError, match="outside of the range") as error:
        make_loss("cross_entropy")(torch.zeros(3, 2), torch.tensor([0, 1, label]))
    assert ("replace_head" in error.value.do) == helps


@pytest.mark.parametrize("labels", [torch.tensor([[2], [0]]), torch.tensor([[0, 0, 1], [1, 0, 0]]),
                                    torch.tensor([[0.0, 0, 1], [1, 0, 0]])])  # fmt: skip
def test_columns_and_one_hot_rows_are_the_labels_that_they_stand_for(labels):
    logits = torch.tensor([[0.0, 1, 2], [2, 0, 1]])
    expected = F.cross_entropy(logits, torch.tensor([2, 0]))
    assert torch.allclose(make_loss("cross_entropy")(logits, labels), expected)


def test_classes_on_the_last_axis_are_named_and_the_remedy_works():
    logits, labels = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    with pytest.raises(fl.DataError, match="one class index for each place") as error:
        make_loss("cross_entropy")(logits, labels)
    assert "output.flatten(0, -2), target.flatten()" in error.value.do


def test_text_labels_are_told_how_to_be_numbered():
    with pytest.raises(fl.DataError, match="class indices") as error:
        make_loss("cross_entropy")(torch.zeros(2, 3), ["cat", "dog"])
    assert "names.index(label)" in error.value.do


def test_a_batch_counts_its_labels_without_the_ignored_ones():
    labels = torch.tensor([0, -100, 2])
    assert num_counted("cross_entropy", labels) == 2
    assert num_counted("mse", labels) == 3
    assert num_counted(nn.CrossEntropyLoss(ignore_index=2), labels) == 2
    assert num_counted(nn.MSELoss(), labels.float()) == 3


def test_rows_that_only_sum_to_one_are_no_one_hot_rows():
    with pytest.raises(fl.DataError, match="one class index for each place"):
        make_loss("cross_entropy")(torch.zeros(2, 2), torch.tensor([[2, -1], [1, 0]]))
    with pytest.raises(fl.DataError, match="one class index for each place"):
        make_loss("cross_entropy")(torch.zeros(2, 2), torch.tensor([[1, 1], [1, 0]]))


def test_identifiers_are_no_classes_for_which_more_outputs_would_help():
    with pytest.raises(fl.DataError, match="outside of the range") as error:
        make_loss("cross_entropy")(torch.zeros(3, 2), torch.tensor([0, 1, 123_456_789]))
    assert "replace_head" not in error.value.do
    assert error.value.received == "label 123456789; the output has 2 classes (0 to 1)"


@pytest.mark.parametrize(
    ("loss", "received", "do"),
    [(torch.ones(2), "shape (2,)", "return a scalar from the loss"), (torch.tensor(torch.inf), "inf", "lower lr"),
     (3.0, "float", "return a scalar tensor from the loss")],
)  # fmt: skip
def test_what_was_wrong_with_a_loss_is_told(loss, received, do):
    with pytest.raises(fl.DataError) as error:
        check_scalar(loss, "here", torch.ones(2, 2))
    assert error.value.received == received
    assert error.value.do.startswith(do)


def test_whole_numbers_and_shared_tensors_among_the_inputs_are_not_looked_at():
    inputs = {"ids": torch.arange(2), "scale": torch.tensor(torch.nan)}
    with pytest.raises(fl.DataError, match="finite number\\.") as error:
        check_scalar(torch.tensor(torch.nan), "here", inputs)
    assert "lower lr" in error.value.do


@pytest.mark.parametrize(
    ("dtype", "trains", "words"),
    [(torch.float16, True, "bf16-true"), (torch.float16, False, "lower"), (torch.float32, True, "lower")],
)
def test_the_advice_for_float16_is_for_what_trains_in_it(dtype, trains, words):
    module = nn.Linear(2, 2).to(dtype).requires_grad_(trains)
    with pytest.raises(fl.DataError) as error:
        check_scalar(torch.tensor(torch.nan), "here", torch.ones(2), module=module)
    assert words in error.value.do


def test_ignored_labels_of_other_losses_and_of_single_numbers():
    assert num_counted("bce", torch.tensor([-100, 1])) == 2
    assert num_counted("cross_entropy", torch.tensor([[0, -100], [1, 1]])) == 3
    assert num_counted("cross_entropy", torch.zeros(4, 3)) == 4
    assert num_counted("cross_entropy", {"a": torch.zeros(5)}) == 5


def test_one_hot_booleans_are_the_labels_that_they_stand_for():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    found = make_loss("cross_entropy")(logits, F.one_hot(labels, 3).bool())
    assert torch.allclose(found, F.cross_entropy(logits, labels))


@pytest.mark.parametrize("target", [torch.tensor([0, 1, 2]), torch.tensor([1, -1, 1]), torch.tensor([[1.5], [0], [1]])])
def test_binary_cross_entropy_takes_probabilities_alone(target):
    assert make_loss("bce")(torch.zeros(3, 1), torch.tensor([0, 1, 0.5])).isfinite()
    with pytest.raises(fl.DataError, match="no probability"):
        make_loss("bce")(torch.zeros(3, 1), target)


def test_a_single_output_is_no_choice_among_classes():
    with pytest.raises(fl.DataError, match="always 0") as error:
        make_loss("cross_entropy")(torch.zeros(3, 1), torch.zeros(3).long())
    assert "loss='bce'" in error.value.do


def test_targets_and_weights_that_are_not_finite_are_told_from_a_rate_that_is_too_high():
    layer, nan = nn.Linear(2, 1), torch.tensor(torch.nan)
    with pytest.raises(fl.DataError, match="because targets of this batch are") as error:
        check_scalar(nan, "here", torch.ones(3, 2), target=torch.tensor([1, torch.inf, 0]), module=layer)
    assert "1 targets of the batch, the first at 1" in error.value.received
    with pytest.raises(fl.DataError, match="because inputs of this batch are"):
        check_scalar(nan, "here", torch.tensor([1, torch.nan, 0]))
    layer.bias.data.fill_(torch.nan)
    with pytest.raises(fl.DataError, match="because weights of the model are") as error:
        check_scalar(nan, "here", target=torch.ones(3), module=layer, is_first=True)
    assert "bias" in error.value.received
    with pytest.raises(fl.DataError, match="not a single finite number\\."):
        check_scalar(nan, "here", target=torch.ones(3), module=layer)


def test_other_shapes_of_targets_are_told_which_is_wanted():
    with pytest.raises(fl.DataError, match="one class index for each place") as error:
        make_loss("cross_entropy")(torch.zeros(2, 5, 7), torch.zeros(2, 3).long())
    assert error.value.do.startswith("return integers of shape (7,) from 0 to 4 as the target of an item")
    with pytest.raises(fl.DataError, match="one class index for each place") as error:
        make_loss("cross_entropy")(torch.zeros(8, 2), torch.zeros(8, 1, 1).long())
    assert error.value.do.startswith("return one integer from 0 to 1 as the target of an item")


def test_the_label_that_a_loss_leaves_out_is_its_own():
    own = nn.CrossEntropyLoss(ignore_index=255)
    assert ignored_label(own) == ignored_label(partial(F.cross_entropy, ignore_index=255)) == 255
    assert (ignored_label("cross_entropy"), ignored_label("mse"), ignored_label(F.mse_loss)) == (-100, None, None)
    assert num_counted(partial(F.cross_entropy, ignore_index=255), torch.tensor([0, 255, 1])) == 2


@pytest.mark.parametrize(
    ("output", "target"),
    [((4, 3, 2), (4,)), ((4, 3, 2), (8,)), ((4, 3), (3,)), ((4, 3), (4, 2)), ((4, 3, 2), (4, 1, 3)),
     ((4, 3, 2), (2, 1, 2))],
)  # fmt: skip
def test_labels_of_no_place_of_the_output_are_told_whatever_their_shape(output, target):
    with pytest.raises(fl.DataError, match="one class index for each place of the output") as error:
        as_labels(torch.zeros(output), torch.zeros(target, dtype=torch.long))
    assert error.value.received == f"targets {target} of a batch, outputs {output}, classes on axis 1"


@pytest.mark.parametrize("odd", ["none", None, 2.5, [1]])
def test_a_mark_that_is_no_label_is_none(odd):
    loss = nn.MSELoss()
    loss.ignore_index = odd
    assert ignored_label(loss) is None


def test_a_column_of_labels_for_every_place_loses_its_axis():
    labels = torch.randint(5, (4, 1, 3))
    assert torch.equal(as_labels(torch.zeros(4, 5, 3), labels), labels[:, 0])
    with pytest.raises(fl.DataError, match="one class index for each place"):
        as_labels(torch.zeros(4, 5, 3), labels[:, :, :2])


def test_weights_of_classes_and_smoothing_are_those_of_torch():
    logits, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, -100, 0])
    weights = torch.tensor([1.0, 2.0, 0.5])
    loss = CrossEntropy(weights, 0.1)
    expected = nn.CrossEntropyLoss(weights, label_smoothing=0.1)(logits, target)
    assert torch.equal(loss(logits, target), expected)
    assert torch.equal(loss({"logits": logits}, target), expected)
    assert ignored_label(loss) == IGNORED
    assert num_counted(loss, target) == 5


def test_other_weights_are_another_loss_for_a_resumed_run():
    texts = {repr(CrossEntropy()), repr(CrossEntropy(torch.ones(3))), repr(CrossEntropy(label_smoothing=0.1))}
    assert len(texts) == 3
    assert (
        describe_callable(CrossEntropy(label_smoothing=0.1)) == "CrossEntropy(class_weights=None, label_smoothing=0.1)"
    )


@pytest.mark.parametrize("loss", ["cross_entropy", CrossEntropy(), nn.CrossEntropyLoss()])
def test_cross_entropy_in_all_forms(loss):
    assert is_cross_entropy(loss)
    assert not is_cross_entropy(nn.MSELoss())


def test_weights_of_a_loss_that_no_optimizer_holds_are_told(tmp_path, capsys):
    """Those of a margin loss: training would go on, and never move them."""

    class Margin(nn.Module):
        def __init__(self):
            super().__init__()
            self.proxies = nn.Parameter(torch.eye(3))

        def forward(self, output, target):
            return nn.functional.cross_entropy(output @ self.proxies, target)

    data = [(torch.randn(4), at % 3) for at in range(9)]
    model, loss = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)), Margin()
    fl.freeze(model, through="0")
    fl.fit(model, data, loss=loss, epochs=1, cache=tmp_path, monitor=False)
    told = capsys.readouterr().err
    assert "loss: Margin has weights of its own, which the optimizer does not hold" in told
    assert "(proxies)" in told
    loss.requires_grad_(False)
    fl.fit(model, data, loss=loss, epochs=1, cache=tmp_path, monitor=False)
    assert "weights of its own" not in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_a_model_that_ends_in_squeeze_takes_a_last_batch_of_one(loss):
    class Squeezed(nn.Linear):
        def forward(self, x_BD):
            return super().forward(x_BD).squeeze()

    items = [(row, float(at % 2)) for at, row in enumerate(torch.randn(9, 4))]
    result = fl.fit(Squeezed(4, 1), items, loss=loss, epochs=1, batch_size=4, cache=False, progress=False)
    assert math.isfinite(result.history[0].train_loss)
