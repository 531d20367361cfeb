"""The smallest model of each module of timm, at the smallest size of images that it takes.

python -m exams.split.timm_models    # writes timm_models.json anew
"""

from __future__ import annotations

import json
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .cases import Case

TABLE = Path(__file__).with_name("timm_models.json")
_SIZES = (32, 48, 64, 96, 112, 128, 160, 192, 224, 240, 256, 320, 384, 448, 512)
_LIMIT_S = 90
# Where the smallest variant has a hundred million weights: fewer and narrower blocks of the same kind.
_NARROW: dict[str, dict[str, Any]] = {
    "beit": {"depth": 4, "embed_dim": 96, "num_heads": 3},
    "deepseek_vit": {"depth": 4, "embed_dim": 96, "num_heads": 3},
    "gemma4_vit": {"depth": 4, "embed_dim": 96, "num_heads": 3},
    "qwen3_vit": {"depth": 4, "embed_dim": 96, "num_heads": 3},
    "naflexvit": {"depth": 4, "embed_dim": 96, "num_heads": 3},
    "vision_transformer_sam": {"depth": 4, "embed_dim": 96, "num_heads": 3},
}
_LARGE = ("huge", "giant", "large", "gigantic")


def cases() -> list[Case]:
    """One case for each module, small models first."""
    rows = json.loads(TABLE.read_text())
    return [_case(name, **rows[name]) for name in sorted(rows, key=lambda name: rows[name]["parameters"])]


def _case(name: str, variant: str, size: int, options: dict[str, Any], **_: Any) -> Case:
    def build() -> nn.Module:
        import timm

        torch.manual_seed(0)
        return timm.create_model(variant, pretrained=False, **options)

    def example(count: int, seed: int) -> torch.Tensor:
        return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))

    return Case("timm", name, variant, build, example)


class _OverTimeError(BaseException):
    """Not an Exception, so that no model catches it."""


def _stop(*_: Any) -> None:
    raise _OverTimeError


def smallest(module: str) -> dict[str, Any]:
    """The row of a module: variant, number of parameters, size and options; `why` if no variant runs."""
    why = ""
    counted = sorted(_counted(module))
    for count, name in counted[:3]:
        try:
            return {"variant": name, "parameters": count, **_smallest_size(name, _NARROW.get(module, {}))}
        except (Exception, _OverTimeError) as error:
            why = why or f"{type(error).__name__}: {error}"[:200]
    return {"variant": counted[0][1], "parameters": counted[0][0], "size": 0, "options": {}, "why": why}


def _counted(module: str) -> list[tuple[int, str]]:
    """Parameters of the variants; timm's own test models are no models that people train."""
    import timm

    found: list[tuple[int, str]] = []
    for name in timm.list_models(module=module):
        if not name.startswith("test_") and not (found and any(part in name for part in _LARGE)):
            with torch.device("meta"):
                found.append((sum(own.numel() for own in timm.create_model(name).parameters()), name))
    return found


def _smallest_size(name: str, narrow: dict[str, Any]) -> dict[str, Any]:
    """The first size at which the model gives a finite output for two images.

    Raises:
        RuntimeError: If there is none.
    """
    import timm

    plain, why = None, ""
    for size in _SIZES:
        for more in ({"img_size": size}, {}):
            signal.alarm(_LIMIT_S)
            try:
                if more:
                    model = timm.create_model(name, num_classes=5, **narrow, **more)
                else:
                    model = plain = plain or timm.create_model(name, num_classes=5, **narrow)
                with torch.no_grad():
                    out = model.eval()(torch.randn(2, 3, size, size))
                if out.isfinite().all() and out.shape == (2, 5):
                    return {"size": size, "options": {"num_classes": 5, **narrow, **more}}
            except (Exception, _OverTimeError) as error:
                why = f"{type(error).__name__}: {error}"[:200]
            finally:
                signal.alarm(0)
    raise RuntimeError(why or "no size that it takes")


def main() -> None:
    """Write the table."""
    import timm

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _stop)
    rows = {}
    for module in timm.list_modules():
        rows[module] = smallest(module)
        sys.stdout.write(f"{module} {rows[module]}\n")
        sys.stdout.flush()
        TABLE.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
