"""Write MATLAB files with networks as MatConvNet saves them, with scipy: MatConvNet itself needs MATLAB.

The fields are those that `vl_simplenn_tidy` and `dagnn.DagNN.saveobj` write. Needs scipy 1.17 and numpy:

    python tests/porting/make/matlab_networks.py
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

FOLDER = Path(__file__).parents[1] / "files" / "matconvnet"


def cell(*values: Any) -> np.ndarray:
    """A cell of one row."""
    made = np.empty((1, len(values)), object)
    made[0, :] = values
    return made


def structures(rows: list[dict[str, Any]]) -> np.ndarray:
    """An array of structures."""
    made = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for index, row in enumerate(rows):
        made[0, index] = tuple(row.values())
    return made


def main() -> None:
    """Write a chain and a graph of the same weights, and the weights."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    filters, biases = rng.normal(size=(3, 3, 2, 4)).astype("f4"), rng.normal(size=(1, 4)).astype("f4")
    gamma, beta = rng.normal(size=(4, 1)).astype("f4"), rng.normal(size=(4, 1)).astype("f4")
    moments = rng.uniform(1, 2, size=(4, 2)).astype("f4")
    chain = cell(
        {
            "name": "conv1",
            "type": "conv",
            "weights": cell(filters, biases),
            "stride": np.array([[2.0, 1.0]]),
            "pad": 1.0,
        },
        {"name": "bn1", "type": "bnorm", "weights": cell(gamma, beta, moments), "epsilon": 1e-4},
        {"name": "relu1", "type": "relu"},
    )
    savemat(FOLDER / "chain.mat", {"layers": chain, "meta": {"classes": cell("a", "b")}}, do_compression=True)
    values = {"conv1f": filters, "conv1b": biases, "bn1f": gamma, "bn1b": beta, "bn1m": moments}
    layers = structures([
        {"name": "conv1", "type": "dagnn.Conv", "inputs": cell("input"), "outputs": cell("x1"),
         "params": cell("conv1f", "conv1b"), "block": {"size": np.array([[3.0, 3.0, 2.0, 4.0]]), "hasBias": True}},
        {"name": "bn1", "type": "dagnn.BatchNorm", "inputs": cell("x1"), "outputs": cell("x2"),
         "params": cell("bn1f", "bn1b", "bn1m"), "block": {"numChannels": 4.0, "epsilon": 1e-4}},
    ])  # fmt: skip
    params = structures([{"name": name, "value": value, "learningRate": 1.0} for name, value in values.items()])
    savemat(FOLDER / "graph.mat", {"layers": layers, "params": params, "vars": structures([{"name": "x1"}])})
    np.savez(FOLDER / "weights.npz", **values)


if __name__ == "__main__":
    main()
