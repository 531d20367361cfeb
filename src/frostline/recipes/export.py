"""A trained model as one file that runs without this library: `torch.export` or ONNX, compared before it is written.

Legend: B batch, C classes.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from frostline.core.arguments import as_path
from frostline.core.doors import public
from frostline.core.errors import FOREIGN, DataError
from frostline.core.io import make_folder
from frostline.core.new_files import check_new, publish_new
from frostline.recipes.image_steps import steps_of
from frostline.recipes.predict import LoadedRun, batches_of, load
from frostline.remedies import fold_batchnorm
from frostline.training import output_of

Run = Callable[[Tensor], Tensor]

# ONNX Runtime adds in another order than torch: 1e-6 of the largest output on the networks of the tests, 100 times that
# is allowed. A layer that was translated wrongly differs by far more.
_TOLERANCE = 1e-4
_BATCHES = (2, 1, 5)  # samples: what is traced, a single one, and a size that no trace has seen
_INPUT, _OUTPUT, _ABOUT = "inputs", "logits", "frostline"


@dataclass(frozen=True)
class Exported:
    """What was written, and how equal it is to the model.

    Attributes:
        path: Of the file.
        format: `torch.export` or `ONNX`.
        shape: Of one input; the batch axis before it is free.
        folded: BatchNorms that were merged into the layers beside them.
        kept: BatchNorms that stay, each with the reason.
        samples: What both were run on.
        largest_difference: Largest difference between their outputs, as a share of the largest output.
        size_bytes: Of the file.
    """

    path: str
    format: str
    shape: tuple[int, ...]
    folded: tuple[str, ...]
    kept: tuple[str, ...]
    samples: str
    largest_difference: float
    size_bytes: int

    def __str__(self) -> str:
        norms = f"{len(self.folded)} BatchNorms folded" + (f", {len(self.kept)} kept" if self.kept else "")
        return "\n".join([
            f"Exported: {self.path} ({self.format}, {self.size_bytes / 1e6:.1f} MB; {norms})",
            f"Takes:    {_INPUT} (batch, {', '.join(map(str, self.shape))}), prepared as in training; gives {_OUTPUT}",
            f"Compared: batches of 1, 2 and 5 {self.samples}; outputs differ by {self.largest_difference:.1e} of the "
            "largest",
            *(f"          {reason}" for reason in self.kept),
        ])  # fmt: skip


@public("export")
def export(run: LoadedRun | str | Path, path: str | Path, *, data: str | Path | None = None) -> Exported:
    """Write a trained model as a file that runs without frostline, its BatchNorms folded.

    The file takes batches of any size, and gives logits. It also holds, as JSON, the classes and every step of the
    preparation of images (filter, rounding, crop, colours): `.pt2` in the extra file `frostline`, `.onnx` in the
    metadata of this name.

    Args:
        run: What `load` gave, or the folder of a run; its model stays as it is.
        path: Of the new file: `.pt2` for `torch.export`, `.onnx` for ONNX (`pip install 'frostline[export]'`).
        data: Samples to compare the two on, as `predict` takes them. None takes noise in the shape of the inputs.

    Returns:
        The BatchNorms that were folded, and the largest difference of the outputs.

    Raises:
        DataError: If the path is in use, packages are missing, the model cannot be exported, or the exported model
            computes something else: then nothing is written.

    Example:
        >>> fl.export("run", "model.pt2")  # doctest: +SKIP
    """
    place = as_path("export", "path", path)
    writers = {".pt2": ("torch.export", _torch_file), ".onnx": ("ONNX", _onnx_file)}
    if place.suffix not in writers:
        raise DataError(
            what="The format of an exported model follows from the ending of its name.", where="export(path=...)",
            received=str(path), do=f"write {place.stem}.pt2 for torch.export, or {place.stem}.onnx for ONNX.",
        )  # fmt: skip
    check_new(place, "export(path=...)")
    loaded = run if isinstance(run, LoadedRun) else load(run)
    rows, samples = _samples(loaded, data)
    model = copy.deepcopy(loaded.model).cpu().eval()
    name, written = writers[place.suffix]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn of what they will change in themselves
        expected = [_answer(model, rows[:size]).clone() for size in _BATCHES]
        folded, kept = _fold(model, rows[: _BATCHES[0]])
        content, exported = written(_traced(_Logits(model), rows[: _BATCHES[0]]), _about(loaded, rows))
        answers = [exported(rows[:size]) for size in _BATCHES]
    difference = max(map(_difference, expected, answers))
    if not difference <= _TOLERANCE:
        raise DataError(
            what="The exported model does not compute what the model computes; it was not written.",
            where=f"export(path=...), {name}",
            received=f"outputs differ by {difference:.1e} of the largest, allowed {_TOLERANCE:.0e}",
            do="report this model; fl.load(run).model is the model itself.",
        )  # fmt: skip
    make_folder(place.parent)
    if not publish_new(place, [content]):
        check_new(place, "export(path=...)")
    return Exported(str(place), name, tuple(rows.shape[1:]), folded, kept, samples, difference, len(content))


class _Logits(nn.Module):
    """A model whose output is the tensor that a loss takes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, C)."""
        return output_of(self.model(inputs))


def _samples(loaded: LoadedRun, data: str | Path | None) -> tuple[Tensor, str]:
    """Inputs for the largest of the batches, and what they are; fewer samples are repeated."""
    count = max(_BATCHES)
    if data is not None:
        place = as_path("export", "data", data)
        _, inputs = next(batches_of(place, loaded.preprocess, count))
        return torch.cat([inputs] * count)[:count], f"samples of {data}"
    known: Any = loaded.info.get("input")
    try:
        shape, dtype = [int(size) for size in known["shape"]], getattr(torch, known["dtype"])
        noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
        return noise.to(dtype) if dtype.is_floating_point else (noise > 0).to(dtype), "samples of noise"
    except (TypeError, KeyError, ValueError, AttributeError, RuntimeError) as error:
        raise DataError(
            what="The shape of the inputs of this run is not known.", where="model.json: input",
            received=repr(known)[:80], do="pass some samples: export(run, path, data=...), or --data.",
        ) from error  # fmt: skip


def _answer(model: nn.Module, inputs: Tensor) -> Tensor:
    try:
        return output_of(model(inputs))
    except FOREIGN as error:
        raise DataError(
            what="The model does not take these samples.", where="export(data=...)",
            received=f"inputs {tuple(inputs.shape)}; {_first_line(error)}",
            do="pass samples of the shape that the model was trained on, or leave data= (--data) out.",
        ) from error  # fmt: skip


def _fold(model: nn.Module, inputs: Tensor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """BatchNorms that are gone, and those that stay; where folding would change the outputs, all stay."""
    norms = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return (), ()
    try:
        made = fold_batchnorm(model, inputs)
    except DataError as error:
        return (), tuple(f"{name}: {error.received}" for name in norms)
    return made.folded, made.refused


def _traced(model: nn.Module, inputs: Tensor) -> Any:
    batch = torch.export.Dim("batch")
    try:
        return torch.export.export(model.eval(), (inputs,), dynamic_shapes=({0: batch},), strict=False)
    except Exception as error:  # the classes of its errors change from version to version
        raise DataError(
            what="The model cannot be exported for batches of any size.", where=type(model).__name__,
            received=_first_line(error),
            do="write its forward without a fixed batch size, and without Python that reads values of tensors; "
            "torch.export.export(model, (inputs,)) shows the line.",
        ) from error  # fmt: skip


def _torch_file(program: Any, about: str) -> tuple[bytes, Run]:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={_ABOUT: about})
    return file.getvalue(), torch.export.load(io.BytesIO(file.getvalue())).module()


def _onnx_file(program: Any, about: str) -> tuple[bytes, Run]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # pyright: ignore[reportUnusedImport, reportMissingImports] (torch needs it)
    except ImportError as error:
        raise DataError(
            what="Packages that write and run ONNX are not installed.", where="export(path=...)", received=str(error),
            do="pip install 'frostline[export]'; or export to a .pt2 file, which needs no package.",
        ) from error  # fmt: skip
    try:
        made: Any = torch.onnx.export(program, (), dynamo=True, verbose=False, input_names=[_INPUT],
                                      output_names=[_OUTPUT])  # fmt: skip
        proto = made.model_proto
        _name_batch_axis(proto.graph)
        proto.metadata_props.add(key=_ABOUT, value=about)
        content: bytes = proto.SerializeToString()
        options: Any = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of three packages, each with classes of its own
        raise DataError(
            what="The model cannot be converted to ONNX.", where="export(path=...)", received=_first_line(error),
            do="export to a .pt2 file, or replace the operation that ONNX lacks.",
        ) from error  # fmt: skip
    return content, lambda inputs: torch.from_numpy(session.run(None, {_INPUT: inputs.numpy()})[0])


def _name_batch_axis(graph: Any) -> None:
    """The exporter numbers axes of open size (`s31`); here there is one, and a reader wants its meaning."""
    number = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param == number:
                axis.dim_param = "batch"


def _about(loaded: LoadedRun, rows: Tensor) -> str:
    """What the file says of itself, as JSON."""
    are_images = loaded.info.get("data") == "images" or loaded.preprocess is not None
    facts = {"classes": loaded.classes, "images": loaded.info.get("images"), "preparation": repr(loaded.preprocess),
             "steps": steps_of(loaded.preprocess) if are_images else None,
             "input": [None, *rows.shape[1:]], "versions": loaded.info.get("versions")}  # fmt: skip
    return json.dumps(facts)


def _difference(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        return float("nan")
    largest = float(expected.abs().max())
    return float((found - expected).abs().max()) / (largest if largest > 0 else 1.0)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
