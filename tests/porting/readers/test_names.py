import pytest

from frostline.porting.readers.names import by_numbers, role_by_name, unit_and_leaf


def test_numbers_are_numbers():
    names = ["conv2d_10", "conv2d", "conv2d_2", "conv2d_1/kernel", "2/a", "10/a", "²/a"]
    assert sorted(names, key=by_numbers) == ["2/a", "10/a", "conv2d", "conv2d_1/kernel", "conv2d_2", "conv2d_10", "²/a"]


def test_a_name_is_a_layer_and_a_leaf():
    assert unit_and_leaf("a/b/kernel") == ("a/b", "kernel")
    assert unit_and_leaf("kernel") == ("", "kernel")


NAMES = {
    "conv/kernel", "conv/kernel/Adam", "conv/kernel/Adam_1", "conv/Adam", "conv/kernel/ExponentialMovingAverage",
    "mean", "mean/biased", "mean/local_step", "global_step", "optimizer/beta1_power_1", "training/Adam/conv/m",
    "a/seed_generator_state", "save_counter", "layer/decay", "decay",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("conv/kernel", (3,), None), ("conv/kernel/Adam", (3,), "optimizer slot"),
        ("conv/kernel/Adam_1", (3,), "optimizer slot"), ("conv/Adam", (3,), None),  # a layer of that name
        ("conv/kernel/ExponentialMovingAverage", (3,), "moving average"), ("mean/biased", (3,), "counter"),
        ("mean/local_step", (), "counter"), ("global_step", (), "counter"), ("optimizer/beta1_power_1", (), "counter"),
        ("training/Adam/conv/m", (3,), "optimizer slot"), ("a/seed_generator_state", (2,), "random state"),
        ("save_counter", (), "counter"), ("decay", (), "counter"),
        ("layer/decay", (64,), None),  # a weight: counters have no axes
    ],
)  # fmt: skip
def test_what_is_no_weight(name, shape, role):
    assert role_by_name(name, shape, NAMES) == role
