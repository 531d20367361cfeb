import pytest
import torch

from helpers_fit import data, fit, mlp


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int8"])
def test_what_rounding_changes_in_the_loss_is_printed_and_in_the_result(tmp_path, capsys, kind):
    options = {"freeze": "2", "epochs": 3, "batch_size": 16, "val": data(20), "cache": tmp_path}
    exact = fit(mlp(), **options)
    assert exact.cache.losses is None
    rounded = fit(mlp(), storage=kind, **options)
    one, other = rounded.cache.losses
    assert one != other
    assert one == pytest.approx(other, rel=0.05)
    assert rounded.cache.storage == kind
    assert 0 < rounded.cache.error < 5e-3
    told = capsys.readouterr().err
    assert f"cache: loss of the head on the first 32 samples: {one:.6g} over exact features, {other:.6g}" in told
    assert [epoch.train_loss for epoch in rounded.history] == pytest.approx(
        [epoch.train_loss for epoch in exact.history], rel=0.05
    )
    again = fit(mlp(), storage=kind, **options)
    assert again.cache.computed == 0
    assert [epoch.train_loss for epoch in again.history] == [epoch.train_loss for epoch in rounded.history]


def test_measuring_the_loss_moves_nothing(tmp_path):
    """Dropout and running statistics of the head train as over the same rows without the measurement."""
    model, other = mlp(), mlp()
    fit(model, freeze="2", epochs=1, cache=tmp_path, storage="float16")
    fit(other, freeze="2", epochs=1, cache=tmp_path)
    assert model[5].num_batches_tracked == other[5].num_batches_tracked
    assert torch.allclose(model[7].weight, other[7].weight, atol=1e-3)
