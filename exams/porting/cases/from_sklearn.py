"""Multi-layer perceptrons of scikit-learn, trained for a few steps and saved by skops.

Run by `exams.porting.build` in the environment `sklearn`: python from_sklearn.py FOLDER [CASE ...]
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import skops.io
from golden import Folder, chosen, images, seeded
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

NETWORKS = {  # the estimator, and how many inputs and outputs it has
    "mlp_regressor": (MLPRegressor(hidden_layer_sizes=(8, 8), activation="relu", max_iter=20, random_state=0), 8, 8),
    "mlp_classifier": (MLPClassifier(hidden_layer_sizes=(12, 6), activation="tanh", max_iter=20, random_state=0), 5, 4),
    "mlp_binary": (MLPClassifier(hidden_layer_sizes=(7,), activation="logistic", max_iter=20, random_state=0), 6, 2),
}


def main() -> None:
    """Train, run and save each."""
    path, table = chosen(NETWORKS)
    folder = Folder(path, "sklearn", ("scikit-learn", "skops", "numpy"))
    for name, (network, ins, outs) in table.items():
        random = seeded(name)
        inputs = images(random, 64, ins)
        is_classifier = isinstance(network, MLPClassifier)
        targets = random.integers(0, outs, 64) if is_classifier else images(random, 64, outs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(inputs, targets)
        outputs = network.predict_proba(inputs[:3]) if is_classifier else network.predict(inputs[:3])
        outputs = outputs[:, 1:] if outs == 2 else outputs
        arrays = {f"{index}/coef": value for index, value in enumerate(network.coefs_)}
        arrays |= {f"{index}/intercept": value for index, value in enumerate(network.intercepts_)}
        folder.put(
            name,
            arrays=arrays,
            inputs=[inputs[:3]],
            outputs=[outputs.astype(np.float32)],
            save={"model.skops": lambda at, network=network: skops.io.dump(network, at)},
        )


if __name__ == "__main__":
    sys.exit(main())
