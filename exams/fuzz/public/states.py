"""What a call must leave as it was: the process around it, and the user's model."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

AMBIENTS = ("plain", "no_grad", "inference_mode", "autocast", "float64", "meta device", "deterministic", "anomaly")


@contextmanager
def ambient(label: str) -> Generator[None]:
    """A state of the process that a caller may be in."""
    if label == "plain":
        yield
    elif label == "no_grad":
        with torch.no_grad():
            yield
    elif label == "inference_mode":
        with torch.inference_mode():
            yield
    elif label == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            yield
    elif label == "anomaly":
        with torch.autograd.set_detect_anomaly(True, check_nan=False):
            yield
    elif label == "meta device":
        with torch.device("meta"):
            yield
    elif label == "float64":
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)
    else:
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(False)


@contextmanager
def restored() -> Generator[None]:
    """After a call that broke a law, the next one starts from a sane process all the same."""
    folder, variables, path = os.getcwd(), dict(os.environ), list(sys.path)
    handler = signal.getsignal(signal.SIGTERM)  # the command line sets its own
    try:
        yield
    finally:
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(1)
        signal.signal(signal.SIGTERM, handler)
        os.chdir(folder)
        sys.path[:] = path
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)


def process() -> dict[str, str]:
    """The process around a call, by the name of what is looked at."""
    with torch.device("cpu"):
        drawn = torch.get_rng_state().numpy().tobytes()
    states = {
        "generator of torch": drawn,
        "generator of numpy": str(np.random.get_state()[1:3]).encode() + np.random.get_state()[1].tobytes(),  # type: ignore[index, union-attr]
        "generator of python": repr(random.getstate()).encode(),
    }
    return {
        **{name: hashlib.sha256(state).hexdigest()[:12] for name, state in states.items()},
        "grad mode": str(torch.is_grad_enabled()),
        "inference mode": str(torch.is_inference_mode_enabled()),
        "autocast": str((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))),
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "deterministic": str(
            (
                torch.are_deterministic_algorithms_enabled(),
                torch.backends.cudnn.deterministic,
                torch.backends.cudnn.benchmark,
                torch.backends.cudnn.enabled,
            )
        ),
        "anomaly": str(torch.is_anomaly_enabled()),
        "precision of products": torch.get_float32_matmul_precision(),
        "threads of torch": str(torch.get_num_threads()),
        "threads": str(sorted(t.name for t in threading.enumerate() if t.is_alive() and not t.daemon)),
        "saved tensors": str(torch._C._autograd._saved_tensors_hooks_is_enabled()),
        "global hooks": str(
            [
                len(table)
                for table in (
                    nn.modules.module._global_forward_hooks,
                    nn.modules.module._global_forward_pre_hooks,
                    nn.modules.module._global_backward_hooks,
                )
            ]
        ),
        "torch's modes": str((torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack())),
        "folder": os.getcwd(),
        "environment": str(sorted(os.environ.items())),
        "path of imports": str(sys.path),
        # a package that is imported for the first time may add some for warnings of its own
        "filters of warnings": str(sum(one[2].__module__ == "builtins" for one in warnings.filters)),
        "handlers of logs": str([type(handler).__name__ for handler in logging.getLogger().handlers]),
    }


def _bytes(tensor: Tensor) -> str:
    if isinstance(tensor, nn.parameter.UninitializedTensorMixin) or tensor.is_meta:
        return type(tensor).__name__
    try:
        plain = tensor.detach()
        if plain.is_quantized:
            plain = plain.int_repr()
        if plain.layout != torch.strided:
            plain = plain.to_dense()
        raw = plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return f"{tuple(plain.shape)} {plain.dtype} {hashlib.sha256(raw).hexdigest()[:12]}"


_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
    "_forward_hooks_with_kwargs",
)


def model_state(model: Any) -> dict[str, str]:
    """The user's model, by the name of what is looked at."""
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return {}
    with torch.device("cpu"), torch.no_grad():
        return _model_state(model)


def _model_state(model: nn.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        own = vars(module)
        at = f"[{name}]"
        found[f"type {at}"] = f"{type(module).__name__} {id(module)}"
        found[f"mode {at}"] = str(module.training)
        found[f"hooks {at}"] = str([len(own.get(table, ())) for table in _HOOKS])
        found[f"attributes {at}"] = str(sorted(key for key in own if key not in ("training", *_HOOKS)))
        for key, parameter in module._parameters.items():
            if parameter is not None:
                found[f"parameter {at}.{key}"] = f"{id(parameter)} {_bytes(parameter)}"
                found[f"requires_grad {at}.{key}"] = str(parameter.requires_grad)
                grad = parameter.grad if parameter.is_leaf else None
                found[f"gradient {at}.{key}"] = "None" if grad is None else f"{id(grad)} {_bytes(grad)}"
                found[f"tensor hooks {at}.{key}"] = str(len(getattr(parameter, "_backward_hooks", None) or ()))
        for key, buffer in module._buffers.items():
            found[f"buffer {at}.{key}"] = "None" if buffer is None else _bytes(buffer)
    return found


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The names of what differs, by kind."""
    return sorted({name.split(" [")[0] for name in before.keys() | after.keys() if before.get(name) != after.get(name)})


OUTSIDE = "outside"
_EVERYWHERE = ("splitting/calls/listener.py",)  # every operation passes these, so that they tell nothing


def place(error: BaseException) -> str:
    """The innermost line of the library that an error passed."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/src/frostline/" in frame.filename and not frame.filename.endswith(_EVERYWHERE)
    ]
    if not frames:
        return OUTSIDE
    last = frames[-1]
    return f"{last.filename.split('/src/frostline/')[1]}:{last.lineno} {last.name}"
