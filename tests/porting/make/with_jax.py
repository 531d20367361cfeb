"""Write the Flax and Orbax files of `tests/porting/files/{flax,orbax,averages}`.

Needs jax==0.10.2, flax==0.12.8 and orbax-checkpoint==0.12.8 (`pip install jax flax orbax-checkpoint`).
Run: `python tests/porting/make/with_jax.py` from the root of the repository.
Beside each file lies a `.npz` with every array by its path in the tree (bfloat16 as bits).
"""

import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import serialization
from flax.traverse_util import flatten_dict

FILES = Path(__file__).parents[1] / "files"


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, tokens):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=False)(x)
        x = x.reshape(x.shape[0], -1)
        for width in (3,) * 11:
            x = nn.Dense(width)(x)
        x = nn.LayerNorm(name="norm")(x + nn.Embed(5, 3, name="table")(tokens))
        return nn.Dense(2, name="head", param_dtype=jnp.bfloat16)(x)


def variables():
    return Net().init(jax.random.key(0), jnp.ones((1, 4, 4, 2)), jnp.zeros((1,), jnp.int32))


def expected(tree, path):
    flat = flatten_dict(tree, sep="/")
    arrays = {key: np.asarray(value) for key, value in flat.items()}
    arrays = {key: a.view(f"u{a.itemsize}") if a.dtype == jnp.bfloat16 else a for key, a in arrays.items()}
    np.savez_compressed(path, **arrays)


def flax():
    out = FILES / "flax"
    out.mkdir(parents=True)
    whole = variables()
    (out / "variables.msgpack").write_bytes(serialization.to_bytes(whole))
    expected(whole, out / "variables.npz")
    state = {
        "step": 7, "params": whole["params"], "batch_stats": whole["batch_stats"],
        "opt_state": optax.adam(1e-3).init(whole["params"]), "rng": jax.random.key_data(jax.random.key(3)),
        "ema_params": whole["params"]["head"],
    }  # fmt: skip
    (out / "state.msgpack").write_bytes(serialization.to_bytes(state))
    serialization.MAX_CHUNK_SIZE = 64
    rng = np.random.default_rng(0)
    layers = [{"kernel": rng.normal(size=(7, 5)).astype("f4")}, {"kernel": np.zeros((0, 3), "i1")}]
    big = {"layers": layers, "z": 1 + 2j, "scalar": np.float32(2.5), "text": "no weight", "none": None, "flag": True}
    (out / "chunked.msgpack").write_bytes(serialization.to_bytes(big))
    np.savez_compressed(out / "chunked.npz", **{"layers/0/kernel": layers[0]["kernel"]})


def orbax():
    out = FILES / "orbax"
    out.mkdir(parents=True)
    params = variables()
    tree = {
        "params": {k: params["params"][k] for k in ("Conv_0", "Dense_0", "head")},
        "batch_stats": params["batch_stats"],
    }
    tree = {**tree, "step": np.int64(5)}
    for name, ocdbt, zarr3 in (("ocdbt", True, False), ("ocdbt3", True, True), ("folders", False, False)):
        handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)
        with ocp.Checkpointer(handler) as checkpointer:
            checkpointer.save((out / name).absolute(), args=ocp.args.PyTreeSave(tree))
    for note in out.rglob("commit_success.txt"):
        note.write_text("Checkpoint commit was successful")  # it names the folder of the machine
    expected(tree, out / "tree.npz")


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), padding="VALID", name="see")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, name="even")(x)).mean((1, 2))
        return nn.Dense(5, name="say")(x)


def averages():
    """A training state with moving averages of all parameters, and what the network gives with both."""
    out = FILES / "averages"
    out.mkdir(parents=True)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, 6, 7, 2)).astype("f4")
    whole = Classifier().init(jax.random.key(0), inputs)
    other = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f4"), whole["params"])
    stats = {"even": {"mean": rng.normal(size=4).astype("f4"), "var": rng.uniform(0.5, 2, 4).astype("f4")}}
    state = {"step": 7, "params": whole["params"], "batch_stats": stats, "ema_params": other}
    (out / "flax.msgpack").write_bytes(serialization.to_bytes(state))
    outputs = {
        name: np.asarray(Classifier().apply({"params": params, "batch_stats": stats}, inputs))
        for name, params in (("params", whole["params"]), ("ema_params", other))
    }
    np.savez_compressed(out / "flax.npz", inputs=inputs, **outputs)


if __name__ == "__main__":
    for write in (flax, orbax, averages):
        shutil.rmtree(FILES / write.__name__, ignore_errors=True)
        write()
