"""Write the files of MXNet that the tests read, and beside each the arrays as MXNet sees them.

Needs mxnet 1.9.1 and numpy < 1.24, in an environment of their own:

    python3 -m venv mxnet && mxnet/bin/pip install mxnet==1.9.1 'numpy<1.24'
    mxnet/bin/python tests/porting/make/mxnet_params.py
"""

from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

FOLDER = Path(__file__).parents[1] / "files" / "mxnet"


def saved(name: str, arrays: dict[str, mx.nd.NDArray]) -> None:
    """One file, and its arrays."""
    mx.nd.save(str(FOLDER / name), arrays)
    np.savez(FOLDER / f"{name.removesuffix('.params')}.npz", **{key: one.asnumpy() for key, one in arrays.items()})


def symbols() -> None:
    """A network of symbols, one of whose BatchNorms has a gamma that is stored and not used."""
    data = mx.sym.Variable("data")
    body = mx.sym.Convolution(data, num_filter=4, kernel=(3, 3), no_bias=True, name="stage1_conv0")
    body = mx.sym.BatchNorm(body, name="stage1_bn0")
    body = mx.sym.Activation(body, act_type="relu", name="relu0")
    body = mx.sym.BatchNorm(body, fix_gamma=False, eps=2e-5, name="stage1_bn1")
    body = mx.sym.FullyConnected(mx.sym.Flatten(body, name="flatten"), num_hidden=2, name="fc")
    shapes, _, aux_shapes = body.infer_shape(data=(1, 3, 5, 5))
    arguments = {
        name: mx.nd.random.normal(shape=shape)
        for name, shape in zip(body.list_arguments(), shapes, strict=True)
        if name != "data"
    }
    statistics = {
        name: mx.nd.random.uniform(shape=shape) + 0.5
        for name, shape in zip(body.list_auxiliary_states(), aux_shapes, strict=True)
    }
    arrays = {name: one.asnumpy() for name, one in {**arguments, **statistics}.items()}
    mx.model.save_checkpoint(str(FOLDER / "net"), 3, body, arguments, statistics)
    inputs = mx.nd.random.normal(shape=(2, 3, 5, 5))
    module = body.bind(mx.cpu(), {**arguments, "data": inputs}, aux_states=statistics)
    (outputs,) = module.forward(is_train=False)
    np.savez(FOLDER / "net.npz", **arrays, inputs=inputs.asnumpy(), outputs=outputs.asnumpy())


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    mx.random.seed(0)
    symbols()
    model = nn.HybridSequential(prefix="")
    model.add(nn.Conv2D(4, 3), nn.BatchNorm(), nn.Dense(2))
    model.initialize(mx.init.Normal(1))
    model.hybridize()
    model(mx.nd.random.normal(shape=(2, 3, 5, 5)))
    model.save_parameters(str(FOLDER / "gluon.params"))
    names = model._collect_params_with_prefix()
    np.savez(FOLDER / "gluon.npz", **{name: one.data().asnumpy() for name, one in names.items()})
    kinds = ("float64", "float16", "uint8", "int32", "int8", "int64")
    saved("dtypes.params", {kind: mx.nd.array([0, 1, 2], dtype=kind) for kind in kinds})
    mx.nd.save(str(FOLDER / "unnamed.params"), [mx.nd.ones((2, 3))])
    mx.nd.save(str(FOLDER / "sparse.params"), {"a": mx.nd.ones((2, 3)).tostype("csr")})


if __name__ == "__main__":
    main()
