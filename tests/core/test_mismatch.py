import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.mismatch import told_mismatch

LINEAR = nn.Linear(4, 2)
CONV = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
WORDS = nn.Sequential(nn.Embedding(5, 4), nn.Flatten())
COLOURS = torch.randint(0, 255, (2, 8, 8, 3), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("model", "inputs", "told", "mended"),
    [
        (LINEAR, torch.ones(2, 4).double(), "inputs.to(torch.float32)", lambda x: x.to(torch.float32)),
        (LINEAR, torch.ones(2, 4).half(), "inputs.to(torch.float32)", lambda x: x.to(torch.float32)),
        (LINEAR, torch.ones(2, 4).long(), "inputs.to(torch.float32)", lambda x: x.to(torch.float32)),
        (nn.Linear(4, 2).double(), torch.ones(2, 4), "inputs.to(torch.float64)", lambda x: x.to(torch.float64)),
        (CONV, COLOURS.movedim(3, 1), "inputs.to(torch.float32) / 255", lambda x: x.to(torch.float32) / 255),
        (CONV, COLOURS / 255, "permute(2, 0, 1)", lambda x: torch.stack([image.permute(2, 0, 1) for image in x])),
        (CONV, COLOURS, "/ 255; put the channels first",
         lambda x: torch.stack([image.permute(2, 0, 1) for image in x.to(torch.float32) / 255])),
        (WORDS, torch.ones(2, 3), "inputs.long()", lambda x: x.long()),
    ],
)  # fmt: skip
def test_the_remedy_is_told_and_works(model, inputs, told, mended):
    with (
        pytest.raises(fl.DataError, match="cannot take these inputs") as error,
        told_mismatch(model, inputs),
    ):
        model(inputs)
    assert told in error.value.do
    assert isinstance(error.value.__cause__, RuntimeError)
    assert model(mended(inputs)).isfinite().all()


def test_other_errors_and_errors_of_ours_with_such_a_cause():
    with pytest.raises(RuntimeError, match="cannot be multiplied"), told_mismatch(LINEAR, torch.ones(2, 5)):
        LINEAR(torch.ones(2, 5))
    with pytest.raises(KeyError), told_mismatch(LINEAR, torch.ones(2, 4).double()):
        raise KeyError("same")
    with pytest.raises(fl.CacheError), told_mismatch(LINEAR, torch.ones(2, 4).double()):
        raise fl.CacheError(what="a", where="b", received="c", do="d")


@pytest.mark.parametrize("is_cached", [True, False])
def test_items_of_numpy_in_double_precision_are_named_by_fit(tmp_path, is_cached):
    items = [(np.ones(4), at % 2) for at in range(8)]
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    fl.freeze(model, through="0")
    with pytest.raises(fl.DataError, match="cannot take these inputs") as error:
        fl.fit(model, items, cache=tmp_path if is_cached else False, progress=False)
    assert "torch.float32" in error.value.do
    fl.fit(model, [(x.astype(np.float32), y) for x, y in items], epochs=1, cache=False, progress=False)


CONVERTED = "convert them to the dtype of the weights: inputs.to(torch.float32)"


@pytest.mark.parametrize(
    ("model", "inputs", "do"),
    [
        (CONV, torch.ones(2, 3, 8, 4).double(), CONVERTED),
        (nn.Conv1d(5, 2, 3), torch.ones(2, 5, 3).double(),
         CONVERTED),
        (LINEAR, torch.ones(4, dtype=torch.uint8), CONVERTED),
        (LINEAR, torch.ones(2, 4, dtype=torch.uint8),
         CONVERTED),
        (CONV, torch.ones(2, 8, 8, 3), "put the channels first: image.permute(2, 0, 1)"),
        (nn.Conv2d(5, 2, 3), torch.ones(2, 8, 8, 5), "put the channels first: image.permute(2, 0, 1)"),
    ],
    ids="wide-image sequence vector bytes channels-last five-channels".split(),
)  # fmt: skip
def test_no_more_is_told_than_what_is_wrong(model, inputs, do):
    with pytest.raises(fl.DataError) as error, told_mismatch(model, inputs):
        model(inputs)
    assert error.value.do == f"{do} in the dataset, and so in an example of it."


def test_of_an_error_of_ours_the_cause_is_told():
    said = RuntimeError("mat1 and mat2 must have the same dtype\nand more")
    with pytest.raises(fl.DataError) as error, told_mismatch(LINEAR, torch.ones(2, 4).double()):
        raise fl.SplitError(what="a", where="b", received="c", do="d") from said
    assert error.value.__cause__ is said
    assert error.value.received == "float64 (2, 4); mat1 and mat2 must have the same dtype"


def test_models_without_or_with_several_dtypes_name_none():
    for model in (nn.Identity(), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2).double())):
        with pytest.raises(RuntimeError, match="same dtype"), told_mismatch(model, torch.ones(2, 4).half()):
            raise RuntimeError("the same dtype")


FLAT = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 32 * 32, 2))


class Positions(nn.Module):
    """A vision transformer's check, as timm writes it, and positions that fit one size alone."""

    def __init__(self, checks):
        super().__init__()
        self.patches, self.positions, self.checks = nn.Conv2d(1, 4, 16, 16), nn.Parameter(torch.zeros(1, 49, 4)), checks

    def forward(self, x):
        assert not self.checks or x.shape[-1] == 112, f"Input height ({x.shape[-1]}) doesn't match model (112)."
        return (self.patches(x).flatten(2).transpose(1, 2) + self.positions).mean(1)


@pytest.mark.parametrize(("model", "shape", "size"), [
    (FLAT, (2, 3, 40, 40), 32), (FLAT, (2, 3, 28, 60), 32),
    (Positions(True), (2, 1, 96, 96), 112), (Positions(False), (2, 1, 96, 96), 112),
    (nn.Sequential(nn.Conv2d(1, 2, 31), nn.Flatten(), nn.Linear(8, 2)), (2, 1, 20, 20), 32),
])  # fmt: skip
def test_images_of_another_size_name_both_sizes(model, shape, size):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.eval()
    with (
        pytest.raises(fl.DataError, match=f"does not take images of {shape[2]} x {shape[3]} pixels") as error,
        told_mismatch(model, torch.zeros(shape)),
    ):
        model(torch.zeros(shape))
    assert f"{size} x {size} pixels are taken" in error.value.received
    assert f"--size {size}" in error.value.do
    assert f"frostline.data.CenterCrop({size})" in error.value.do
    assert not model.training
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_size_that_is_not_found_is_left_open():
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 2))
    with (
        pytest.raises(fl.DataError, match="does not take images of 8 x 8") as error,
        told_mismatch(model, torch.zeros(2, 3, 8, 8)),
    ):
        model(torch.zeros(2, 3, 8, 8))
    assert "none of the usual sizes" in error.value.received
    assert "--size N" in error.value.do


@pytest.mark.parametrize("is_cached", [True, False])
def test_keys_that_the_model_does_not_take_are_named_together(tmp_path, is_cached):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, image):
            return self.high(self.low(image))

    items = [{"image": torch.ones(4) * at, "label": at % 2, "path": f"{at}.png", "id": at} for at in range(8)]
    model = Named()
    fl.freeze(model, through="low")
    options = {"cache": tmp_path if is_cached else False, "progress": False, "epochs": 1}
    with pytest.raises(fl.DataError, match="keys that Named does not take") as error:
        fl.fit(model, items, **options)
    assert error.value.received == "path, id; its forward takes image"
    fl.fit(model, [{key: own for key, own in item.items() if key in ("image", "label")} for item in items], **options)


class Decoder(nn.Module):
    """Makes its decoder's inputs from labels, as T5 and BART do."""

    def __init__(self):
        super().__init__()
        self.low, self.high = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x, labels=None):
        if labels is None:
            raise ValueError("specify labels")
        logits = self.high(self.low(x))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_model_that_needs_the_labels_of_its_items_is_told_how_to_get_them(tmp_path, is_cached):
    items = [{"x": torch.ones(4) * at, "labels": at % 2} for at in range(8)]
    model = Decoder()
    fl.freeze(model, through="low")
    options = {"cache": tmp_path if is_cached else False, "progress": False, "epochs": 1}
    options["loss"] = lambda output, target: output["loss"]
    with pytest.raises(fl.DataError, match="Their labels are the target") as error:
        fl.fit(model, items, **options)
    assert "({**inputs, 'labels': labels}, labels)" in error.value.do
    fl.fit(model, [(item, item["labels"]) for item in items], **options)


def test_complex_inputs_of_a_complex_network_are_not_told_to_become_real():
    model = nn.Sequential(nn.Linear(4, 4, dtype=torch.cfloat), nn.Linear(4, 2))
    with pytest.raises(RuntimeError, match="dtype"), told_mismatch(model, torch.ones(2, 4, dtype=torch.cfloat)):
        model(torch.ones(2, 4, dtype=torch.cfloat))


@pytest.mark.parametrize("is_cached", [True, False])
def test_lists_of_numbers_are_told_to_become_tensors(tmp_path, is_cached):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Embedding(9, 4), nn.Linear(4, 2)

        def forward(self, ids):
            return self.high(self.low(ids).mean(1))

    model = Tokens()
    fl.freeze(model, through="low")
    options = {"cache": tmp_path if is_cached else False, "progress": False, "epochs": 1}
    items = [{"ids": [1, 2, at], "label": at % 2} for at in range(8)]
    with pytest.raises(fl.DataError, match="hold lists of numbers") as error:
        fl.fit(model, items, **options)
    assert "with_format('torch')" in error.value.do
    fl.fit(model, [{**item, "ids": torch.tensor(item["ids"])} for item in items], **options)
