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


def run(batch_size: int, *, dataset=None, loss="cross_entropy", epochs: int = 2, counted=None, watch=None,
        scheduler=None, before_step=None, **options):  # fmt: skip
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    if before_step is not None:
        optimizer.register_step_pre_hook(before_step)
    schedule = scheduler(optimizer) if scheduler is not None else None
    more = {"counted": counted} if counted else {}
    settings = Settings(make_loss(loss), {}, epochs, options.pop("clip", None), None, None, None, {}, False,
                        watch=watch, steps=StepOptions(**options), **more)  # fmt: skip
    done = run_training(make_fabric("32-true", 1, None), model, model, optimizer, schedule,
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


def rates_of(**options):
    """The learning rates of all steps."""
    rates = []
    _, done = run(4, before_step=lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]), **options)
    return rates, done


def test_the_rate_rises_before_the_schedule_begins():
    def halved(optimizer):
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    rates, done = rates_of(epochs=2, warmup=0.5, scheduler_interval="step", scheduler=halved)  # 6 steps an epoch
    assert rates == pytest.approx([0.125, 0.25, 0.375, *(0.5 * 0.5**at for at in range(9))])
    assert [epoch.lr for epoch in done.history] == pytest.approx([0.125, 0.5 * 0.5**3])


def test_a_warm_up_scales_a_schedule_per_epoch():
    rates, _ = rates_of(epochs=2, warmup=1.5, scheduler=lambda one: torch.optim.lr_scheduler.ExponentialLR(one, 0.5))
    assert rates == pytest.approx([*(0.05 * at for at in range(1, 7)), *(0.025 * at for at in (7, 8, 9)), *[0.25] * 3])


def test_a_schedule_by_name_ends_with_the_run():
    options = StepOptions(accumulation=2, warmup=0.5, scheduler_interval="step")
    assert options.length(4, options.per_epoch(7)) == 14  # 4 steps in each of 4 epochs, and 2 of the warm-up
    assert StepOptions().length(4, 7) == 4


def test_a_schedule_per_step_waits_where_a_step_is_left_out():
    skipped = []

    def clip(parameters):
        skipped.append(len(skipped) in (0, 3))
        for parameter in parameters if skipped[-1] else ():
            parameter.grad = None
        return type("Clipped", (), {"skipped": skipped[-1]})

    rates, _ = rates_of(epochs=1, clip=clip, scheduler_interval="step",
                        scheduler=lambda one: torch.optim.lr_scheduler.ExponentialLR(one, 0.5))  # fmt: skip
    assert len(skipped) == 6
    assert rates == [0.5, 0.25, 0.125, 0.0625]


def test_no_hook_stays_on_the_optimizer():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    settings = Settings(make_loss("cross_entropy"), {}, 1, None, None, None, None, {}, False)
    run_training(make_fabric("32-true", 1, None), model, model, optimizer, None, DatasetBatches(data(), 4), None,
                 settings)  # fmt: skip
    assert not optimizer._optimizer_step_post_hooks


class Spikes(nn.Module):
    """Gradients of its first batch are beyond float16, once they are scaled."""

    def __init__(self):
        super().__init__()
        self.linear, self.calls = nn.Linear(3, 2), 0

    def forward(self, x):
        self.calls += 1
        return self.linear(x) * (1e4 if self.calls == 1 else 1.0)


def test_a_clip_sees_gradients_without_the_scale_and_the_scale_falls_where_they_overflow(tmp_path):
    torch.manual_seed(0)
    model, norms = Spikes(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def clip(parameters):
        found = fl.remedies.clip_by_norm(0.5)(parameters)
        norms.append((float(found), found.skipped))
        return found

    fabric = make_fabric("16-mixed", 1, None)
    settings = Settings(make_loss("cross_entropy"), {}, 1, clip, None, None, None, {}, False)
    scaler = fabric.strategy.precision.scaler
    before = scaler.get_scale()
    run_training(fabric, model, model, optimizer, None, DatasetBatches(data(), 4), None, settings)
    assert [skipped for _, skipped in norms] == [True, *[False] * 5]
    assert all(0.01 < norm < 10 for norm, _ in norms[1:])  # times 65,536 they would be far above
    assert scaler.get_scale() == before / 2
