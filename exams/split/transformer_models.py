"""Architectures of transformers with small random weights: encoders, decoders, both, images and sound.

`transformer_models.json` names them as transformers does in its classes, and what one sets otherwise than `tiny.py`:
`settings` of its configuration, the class (`model`), or the `size` of inputs in words, pixels or values.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .cases import Case
from .tiny import WORDS, tiny

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

TABLE = Path(__file__).with_name("transformer_models.json")


def cases() -> list[Case]:
    """One case for each architecture."""
    kinds: dict[str, tuple[str, Callable[[int, int, int], dict[str, Tensor]]]] = {
        "encoders": ("ForSequenceClassification", _words),
        "decoders": ("ForCausalLM", _words),
        "encoders and decoders": ("ForConditionalGeneration", _two_texts),
        "images": ("ForImageClassification", _images),
        "sound": ("ForSequenceClassification", _sound),
    }
    table = json.loads(TABLE.read_text())
    return [_case(name, *kinds[kind], **row) for kind, rows in table.items() for name, row in rows.items()]


def _case(
    name: str, usual: str, make: Callable[[int, int, int], dict[str, Tensor]], *, model: str = "",
    size: int = 0, settings: dict[str, Any] | None = None,
) -> Case:  # fmt: skip
    variant = f"{name}{model or usual}"

    def build() -> nn.Module:
        import transformers

        torch.manual_seed(0)
        kind = getattr(transformers, variant)
        return kind(tiny(kind.config_class, settings or {}))

    return Case("transformers", name, variant, build, lambda count, seed: make(count, seed, size))


def _words(count: int, seed: int, size: int) -> dict[str, Tensor]:
    ids = torch.randint(5, WORDS - 4, (count, size or 12), generator=_seeded(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _two_texts(count: int, seed: int, size: int) -> dict[str, Tensor]:
    answer = torch.randint(5, WORDS - 4, (count, 5), generator=_seeded(seed + 100))
    return {**_words(count, seed, size), "decoder_input_ids": answer}


def _images(count: int, seed: int, size: int) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(count, 3, size or 32, size or 32, generator=_seeded(seed))}


def _sound(count: int, seed: int, size: int) -> dict[str, Tensor]:
    return {"input_values": torch.randn(count, size or 1600, generator=_seeded(seed))}


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
