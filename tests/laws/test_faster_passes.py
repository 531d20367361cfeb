"""`fit(frozen_pass=...)`: the losses of the plain pass but for rounding, and what makes no sense is refused."""

import pytest

import frostline as fl
from helpers_passes import images, network


def losses(folder, **options):
    model = network()
    fl.freeze(model, through="5")
    result = fl.fit(model, images(), epochs=2, batch_size=8, cache=folder, monitor=False, progress=False, **options)
    return [epoch.train_loss for epoch in result.history]


def test_a_run_with_a_faster_pass_has_the_losses_of_the_plain_one_but_for_rounding(tmp_path):
    plain = losses(tmp_path)
    assert losses(tmp_path, frozen_pass=["fold", "bf16"]) == pytest.approx(plain, rel=2e-2)
    assert losses(tmp_path, frozen_pass="fold") == pytest.approx(plain, rel=1e-4)
    assert len(fl.FeatureCache(tmp_path).entries()) == 3


def test_a_run_without_a_cache_has_no_frozen_pass(tmp_path):
    with pytest.raises(fl.DataError, match="no frozen pass to make faster") as error:
        losses(False, frozen_pass="bf16")
    assert error.value.received == "'bf16' with cache=False"
