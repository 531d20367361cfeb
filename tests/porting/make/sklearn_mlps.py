"""Write the skops files that the tests read, and beside each the arrays and outputs of scikit-learn.

Needs skops 0.16.0 and scikit-learn 1.9.1, in an environment of their own:

    python3 -m venv skops && skops/bin/pip install skops==0.16.0 scikit-learn==1.9.1
    skops/bin/python tests/porting/make/sklearn_mlps.py
"""

import warnings
import zipfile
from pathlib import Path

import numpy as np
import skops.io
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = Path(__file__).parents[1] / "files" / "sklearn"


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    inputs = np.random.default_rng(0).normal(size=(60, 4))
    classes = np.digitize(inputs[:, 0], [-0.5, 0.5])
    classifier = MLPClassifier((5, 3), activation="tanh", max_iter=20, random_state=0).fit(inputs, classes)
    regressor = MLPRegressor(hidden_layer_sizes=(5,), max_iter=20, random_state=0).fit(
        inputs.astype(np.float32), inputs[:, 0]
    )
    pipeline = make_pipeline(StandardScaler(), regressor).fit(inputs, inputs[:, 0])
    packed = {"compression": zipfile.ZIP_DEFLATED, "compresslevel": 9}
    for name, model in (("classifier", classifier), ("regressor", regressor), ("pipeline", pipeline)):
        skops.io.dump(model, FOLDER / f"{name}.skops", **packed)
    for name, model in (("classifier", classifier), ("regressor", regressor)):
        outputs = model.predict_proba(inputs) if name == "classifier" else model.predict(inputs)
        arrays = {f"coefs_.{index}": one for index, one in enumerate(model.coefs_)}
        arrays |= {f"intercepts_.{index}": one for index, one in enumerate(model.intercepts_)}
        np.savez(FOLDER / f"{name}.npz", inputs=inputs, outputs=outputs, **arrays)


if __name__ == "__main__":
    main()
