"""Features at one frost line of a run, as a fill at a higher line takes them."""

import torch

import frostline as fl
from frostline.caching import Proofs
from frostline.recipes.stored_line import StoredLine
from helpers_fit import N, data, mlp


def stored_at(model, through, folder):
    fl.freeze(model, through=through)
    cache, split = fl.FeatureCache(folder), fl.split(model, data().tensors[0][:4])
    frozen = frozenset(name for name, own in model.named_parameters() if not own.requires_grad)
    return StoredLine(frozen, split.head, {"fit(train)": cache.fill(split, data(), progress=False)}), Proofs(cache.root)


def test_rows_are_told_by_their_tensor(tmp_path):
    line, _ = stored_at(mlp().eval(), "2", tmp_path)
    assert str(line) == f"rows at 2: 0 reused, {N} computed"


def test_only_a_higher_line_is_computed_from_stored_features(tmp_path):
    model = mlp()
    line, proofs = stored_at(model, "2", tmp_path)
    fl.freeze(model, through="3")
    higher = frozenset(name for name, own in model.named_parameters() if not own.requires_grad)
    assert line.earlier("fit(train)", line.frozen, proofs).middle is None
    middle = line.earlier("fit(train)", higher, proofs).middle()
    features, _ = next(iter(line.data["fit(train)"].loader(4)))
    (rows,) = middle.extract(features)
    with torch.no_grad():
        expected = model.eval()[:4](data().tensors[0][:4])
    torch.testing.assert_close(rows, expected)
