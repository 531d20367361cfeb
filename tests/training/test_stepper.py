import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.training import DatasetBatches, Settings, make_loss
from frostline.training.fabric import make_fabric
from frostline.training.loop import run_training
from frostline.training.settings import StepOptions

N = 22


def data(count: int = N) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(count, 3, generator=generator), torch.arange(count) % 2)


def run(batch_size: int, *, dataset=None, loss="cross_entropy", epochs: int = 2, counted=None, watch=None, **options):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    more = {"counted": counted} if counted else {}
    settings = Settings(make_loss(loss), {}, epochs, options.pop("clip", None), None, None, None, {}, False,
                        watch=watch, steps=StepOptions(**options), **more)  # fmt: skip
    done = run_training(make_fabric("32-true", 1, None), model, model, optimizer, None,
                        DatasetBatches(dataset or data(), batch_size, shuffle=True), None, settings)  # fmt: skip
    return model, done


@pytest.mark.parametrize("count", [24, N, 17])  # whole groups, a short batch at the end, a short group of short batches
def test_accumulated_batches_are_one_batch_of_all_their_samples(count):
    small, few = run(4, dataset=data(count), accumulation=3)
    large, one = run(12, dataset=data(count))
    torch.testing.assert_close(small.weight, large.weight)
    torch.testing.assert_close(small.bias, large.bias)
    assert [epoch.train_loss for epoch in few.history] == pytest.approx([epoch.train_loss for epoch in one.history])


def test_ignored_labels_do_not_count_in_a_step():
    inputs, labels = data(24).tensors
    labels = labels.clone()
    labels[[1, 2, 3, 7, 8, 20]] = -100
    own = TensorDataset(inputs, labels)

    def counted(target):
        return int((target != -100).sum())

    small, _ = run(2, dataset=own, accumulation=6, counted=counted)
    large, _ = run(12, dataset=own, counted=counted)
    torch.testing.assert_close(small.weight, large.weight)


def test_a_group_is_clipped_once():
    norms = []

    def clip(parameters):
        norms.append(float(fl.remedies.clip_by_norm(0.01)(parameters)))

    small, _ = run(4, epochs=1, accumulation=3, clip=clip)
    seen, norms[:] = list(norms), []
    large, _ = run(12, epochs=1, clip=clip)
    assert len(seen) == 2
    assert seen == pytest.approx(norms)
    torch.testing.assert_close(small.weight, large.weight)


def test_a_monitor_sees_one_step_for_a_group_and_no_accident():
    monitors = []

    def watch(module, optimizer, steps):
        monitors.append(fl.Monitor(module, optimizer, every=1))
        return monitors[-1]

    _, done = run(2, epochs=3, watch=watch, accumulation=3)
    (monitor,) = monitors
    assert len(monitor.evidence.losses) == 4 * 3
    assert monitor.evidence.has_accumulated is False
    sizes = torch.tensor([6.0, 6, 6, 4])
    losses = torch.tensor([loss for _, loss in monitor.evidence.losses])
    assert float((losses[:4] * sizes).sum() / N) == pytest.approx(done.history[0].train_loss)


def test_an_error_names_the_batch_of_a_group():
    inputs, labels = data().tensors
    inputs = inputs.clone()
    inputs[:] = float("nan")
    with pytest.raises(fl.DataError) as error:
        run(4, dataset=TensorDataset(inputs, labels), accumulation=3)
    assert error.value.where == "epoch 1, step 1, batch 1 of 3"
