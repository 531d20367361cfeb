import csv
import json
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.recipes.monitoring import tell
from helpers_fit import D, data, fit, mlp


def rows(folder, version=0):
    with (folder / "logs" / f"version_{version}" / "metrics.csv").open() as lines:
        return list(csv.DictReader(lines))


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_records_go_to_the_folder_and_gradients_to_the_logs(tmp_path):
    fit(mlp(), freeze="2", epochs=5, batch_size=16, out=tmp_path)
    assert steps(tmp_path / "health.jsonl") == [0, 10]
    logged = rows(tmp_path)
    assert [(row["epoch"], row["step"]) for row in logged if row["train_loss"]] == [
        (str(at), str(3 * at)) for at in range(1, 6)
    ]
    layers = [(row["step"], float(row["7/gradient_norm"])) for row in logged if row["7/gradient_norm"]]
    assert [step for step, _ in layers] == ["0", "10"]
    records = [json.loads(line) for line in (tmp_path / "health.jsonl").read_text().splitlines()]
    written = [sample["gradient_norm"] for record in records for sample in record["layers"] if sample["layer"] == "7"]
    assert [norm for _, norm in layers] == pytest.approx(written)


def test_without_a_monitor_the_logs_hold_epochs_only(tmp_path):
    fit(mlp(), freeze="2", epochs=2, batch_size=16, out=tmp_path, monitor=False)
    assert [set(row) for row in rows(tmp_path)] == [{"epoch", "train_loss", "lr", "elapsed_s", "step"}] * 2
    assert not list(tmp_path.glob("health*"))


def test_a_resumed_run_loses_nothing_and_goes_on_counting_in_the_logs(tmp_path):
    model = mlp()
    options = {"freeze": "2", "batch_size": 16, "out": tmp_path, "resume": tmp_path}
    fit(model, epochs=4, **options)
    before = (tmp_path / "health.jsonl").read_text()
    fit(model, epochs=8, **options)
    assert (tmp_path / "health.jsonl").read_text().startswith(before)
    assert steps(tmp_path / "health.jsonl") == [0, 10, 12, 22]  # counted from the beginning of the run
    assert len(rows(tmp_path)) == 4 + 2
    assert [row["step"] for row in rows(tmp_path, 1) if row["7/gradient_norm"]] == ["12", "22"]
    assert [row["step"] for row in rows(tmp_path, 1) if row["train_loss"]] == ["15", "18", "21", "24"]


def test_steps_that_a_resumed_run_does_again_are_in_the_file_once(tmp_path):
    calls = 0

    def clip(parameters):
        nonlocal calls
        calls += 1
        if calls == 12:  # in the fourth epoch of three steps
            raise KeyboardInterrupt

    options = {"freeze": "2", "batch_size": 16, "out": tmp_path, "epochs": 10}
    with pytest.raises(KeyboardInterrupt):
        fit(mlp(), clip=clip, **options)
    assert steps(tmp_path / "health.jsonl") == [0, 10]
    with (tmp_path / "health.jsonl").open("ab") as file:
        file.write(b'{"step": 2')  # the process was killed while it wrote
    fit(mlp(), clip=clip, resume=tmp_path, **options)
    assert steps(tmp_path / "health.jsonl") == [0, 9, 19, 29]  # the fourth epoch was done again


def test_all_phases_write_one_file(tmp_path):
    fit(mlp(), freeze="5", thaw={3: "3", 5: None}, epochs=6, batch_size=16, out=tmp_path)
    assert [path.name for path in tmp_path.glob("health*")] == ["health.jsonl"]
    found = steps(tmp_path / "health.jsonl")
    assert found == sorted(set(found))
    assert found[:3] == [0, 6, 12]  # the first steps of the phases


@pytest.mark.parametrize("cache", [True, False])
def test_layers_that_thaw_later_are_no_strangers_in_the_optimizer(tmp_path, cache):
    model = mlp()
    fl.freeze(model, through="5")
    own = torch.optim.SGD([p for name, p in model.named_parameters() if name != "7.bias"], lr=0.01)
    result = fit(
        model, data(400), thaw={3: None}, epochs=4, batch_size=16, optimizer=own, cache=tmp_path if cache else False
    )
    found = {finding.code: finding.outcome for finding in result.findings}
    assert found["FL405"] == "tip"


def test_a_finished_run_that_is_resumed_is_not_judged_and_writes_no_records(tmp_path, capsys):
    model = mlp()
    for _ in range(2):
        result = fit(model, freeze="2", epochs=1, out=tmp_path, resume=tmp_path)
        capsys.readouterr()
    assert result.findings == ()
    assert [path.name for path in tmp_path.glob("health*")] == ["health.jsonl"]


def test_numbers_are_kept_where_a_run_breaks_off(tmp_path):
    calls = 0

    def breaking(output, target):
        nonlocal calls
        calls += 1
        return nn.functional.cross_entropy(output, target) * (math.nan if calls == 5 else 1.0)

    with pytest.raises(fl.DataError, match="not a single finite"):
        fit(mlp(), freeze="2", epochs=5, batch_size=16, out=tmp_path, loss=breaking)
    assert steps(tmp_path / "health.jsonl") == [0]
    assert [row["step"] for row in rows(tmp_path) if row["7/gradient_norm"]] == ["0"]


def test_a_loss_of_ones_own_is_called_once_a_step():
    calls = []

    def counting(output, target):
        calls.append(len(target))
        return nn.functional.cross_entropy(output, target)

    fit(mlp(), epochs=2, batch_size=16, loss=counting)
    assert calls == [16] * 6


def digits():
    x, y = (torch.tensor(part) for part in load_digits(return_X_y=True))
    x = x.float()[:640]
    return TensorDataset((x - x.mean(0)) / (x.std(0) + 1), y[:640])


def network(*last: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10), *last)


def dead():
    model = network()
    for at in (0, 2):
        nn.init.constant_(model[at].bias, -10.0)
    return model


SICK = {
    "steps too large": (network, {"lr": 10.0, "optimizer": "sgd"}, "FL401", "the loss rose from", "divide the"),
    "steps too small": (network, {"lr": 1e-7}, "FL402", "a layer's weights by at most", "learning rate by 1,000."),
    "dead": (dead, {}, "FL201", "100% of the units of layer '1' were zero", "Leaky ReLU"),
    "softmax": (lambda: network(nn.Softmax(1)), {}, "FL503", "the model gives values from 0 to 1", "(logits)"),
    "torch loss": (lambda: network(nn.Softmax(1)), {"loss": nn.CrossEntropyLoss()}, "FL503", "0 to 1", "(logits)"),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_a_sick_run_tells_what_where_how_it_is_known_and_what_to_do(name, capsys):
    build, options, code, why, advice = SICK[name]
    result = fit(build(), digits(), epochs=5, progress=True, **options)
    finding = next(found for found in result.findings if found.code == code)
    assert why in finding.why
    assert advice in finding.advice
    told = capsys.readouterr().err
    assert all(part in told for part in (f"{code} {finding.outcome}: {finding.title}", finding.why, finding.advice))
    assert ("frostline.checkup" in told) == any(found.outcome == "issue" for found in result.findings)


def test_steps_that_are_too_large_are_not_called_too_small():
    findings = fit(network(), digits(), epochs=5, lr=10.0, optimizer="sgd").findings
    assert "FL402" not in {finding.code for finding in findings}
    exploding = next(finding for finding in findings if finding.code == "FL102")
    assert "before the first step" in exploding.why
    assert "divide the learning rate" in exploding.advice


def test_a_healthy_run_says_so(capsys):
    result = fit(network(), digits(), epochs=5, progress=True)
    assert result.findings == ()
    text = capsys.readouterr().err
    assert "health: No symptoms found. " in text
    assert "FL404" in text.splitlines()[-1]  # only `checkup` compares with the constant-prediction baseline


def test_tips_are_no_sickness(capsys):
    tip = fl.Finding("FL501", "unscaled input", "input_scale", None, "tip", 5.0, 4.0, "it is wide.", "standardise.")
    tell(fl.Diagnosis((tip,), None, ()))
    assert capsys.readouterr().err.splitlines()[-1].strip() == "No issue was found: training may be fine."


def scaled(factor, model, **options):
    wide = TensorDataset(data().tensors[0] * factor, data().tensors[1])
    found = fit(model, wide, epochs=3, batch_size=8, **options).findings
    return {finding.code: finding for finding in found}


def test_inputs_are_judged_where_their_scale_goes_through_frozen_layers(tmp_path):
    models = [nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, 2)) for _ in range(2)]
    finding = scaled(1000, models[0], freeze="0", cache=tmp_path)["FL501"]
    plain = scaled(1000, models[1], freeze="0", cache=False)["FL501"]
    assert finding.outcome == plain.outcome == "issue"
    assert "the largest feature has a root mean square of" in finding.why
    assert "Pretrained layers" in finding.advice


def test_features_have_no_unit_that_somebody_chose(tmp_path):
    normalising = nn.Sequential(nn.Linear(D, 16), nn.LayerNorm(16), nn.Linear(16, 2))
    assert "FL501" not in scaled(1000, normalising, freeze="1", cache=tmp_path / "a")
    amplifying = nn.Sequential(nn.Linear(D, 16), nn.Linear(16, 2))
    nn.init.normal_(amplifying[0].weight, std=100.0)
    assert "FL501" not in scaled(1, amplifying, freeze="0", cache=tmp_path / "b")


def test_rules_that_a_monitor_cannot_evaluate_are_one_line(capsys):
    open_one = fl.Finding(
        "FL404", "nothing is learnt", "learning_rate", None, "not judged", None, None, "no.", "run it."
    )
    other = fl.Finding(
        "FL406", "no weight changes", "learning_rate", None, "not judged", None, None, "none.", "run it."
    )
    tell(fl.Diagnosis((), None, (), not_judged=(other, open_one)))
    *_, last = capsys.readouterr().err.splitlines()
    assert (
        last.strip()
        == "Not evaluated while training: FL404, FL406. A checkup evaluates them, or states the reason why it cannot."
    )


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(D, D)

    def forward(self, x):
        return torch.relu(self.linear(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("cache", [True, False])
def test_a_scripted_module_is_trained_unwatched(cache, capsys, tmp_path):
    made = nn.Sequential(nn.Linear(D, D), torch.jit.script(Scripted()), nn.Linear(D, 3))
    before = made[1].linear.weight.detach().clone()
    result = fit(made, freeze="0", epochs=1, cache=tmp_path if cache else False, monitor=True)
    assert result.findings == ()
    assert not torch.equal(made[1].linear.weight, before)
    assert "'1' is a scripted module, which takes no hooks" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["mse", "bce", nn.MSELoss()], ids=str)
def test_a_monitor_draws_nothing_from_the_generators_that_a_model_draws_from(loss):
    def losses(**options):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 2))
        items = [(row, (row[:2] > 0).float()) for row in torch.randn(12, 4)]
        fitted = fl.fit(model, items, loss=loss, epochs=2, batch_size=4, cache=False, progress=False, **options)
        return [own.train_loss for own in fitted.history]

    assert losses() == losses(monitor=False)
