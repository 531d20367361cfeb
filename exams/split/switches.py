"""What people switch on around a model: adapters, checkpoints, compilation, half precision, a loss that it returns."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import frostline as fl

from .cases import Case

if TYPE_CHECKING:
    from collections.abc import Callable

_WIDTH, _WORDS, _PLACES = 32, 64, 12


def cases() -> list[Case]:
    """One case for each switch and model."""
    return [
        *(_case("PEFT LoRA", name, partial(_with_lora, make), freeze=_keep) for name, make in _TEXT.items()),
        *(_case("gradient checkpointing", name, partial(_with_checkpoints, make, is_reentrant=False))
          for name, make in _TEXT.items()),
        _case("gradient checkpointing, reentrant", "bert", partial(_with_checkpoints, _bert, is_reentrant=True)),
        replace(_images("torch.utils.checkpoint", "residual network", Checkpointed)),
        *(_images("torch.compile", name, partial(_compiled, make)) for name, make in _IMAGES.items()),
        _case("torch.compile", "bert", partial(_compiled, _bert)),
        _images("torch.compile of a block", "residual network", _compiled_block),
        *(_images("bfloat16 weights", name, partial(_halved, make), dtype=torch.bfloat16)
          for name, make in _IMAGES.items()),
        _case("bfloat16 weights", "bert", partial(_halved, _bert)),
        *(replace(_images("autocast", name, make), is_autocast=True) for name, make in _IMAGES.items()),
        *(replace(_case("autocast", name, make), is_autocast=True) for name, make in _TEXT.items()),
        _images("autocast inside of forward", "residual network", Autocasting),
        *(_case("returns a loss", name, make, has_labels=True) for name, make in _TEXT.items()),
        _images("returns a dict of losses", "residual network", Losses, has_labels=True),
    ]  # fmt: skip


def _case(switch: str, name: str, build: Callable[[], nn.Module], *, has_labels: bool = False,
          freeze: Callable[[nn.Module], None] | None = None) -> Case:  # fmt: skip
    def example(count: int, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(5, _WORDS - 4, (count, _PLACES), generator=generator)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if has_labels:
            inputs["labels"] = torch.randint(0, 3, (count,), generator=generator)
        return inputs

    return Case("switches", f"{switch}: {name}", name, _seeded(build), example, freeze)


def _images(switch: str, name: str, build: Callable[[], nn.Module], *, has_labels: bool = False,
            dtype: torch.dtype = torch.float32) -> Case:  # fmt: skip
    def example(count: int, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(count, 3, 32, 32, generator=generator).to(dtype)
        return (images, torch.randint(0, 5, (count,), generator=generator)) if has_labels else images

    return Case("switches", f"{switch}: {name}", name, _seeded(build), example)


def _seeded(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def built() -> nn.Module:
        torch.manual_seed(0)
        return build()

    return built


def _keep(model: nn.Module) -> None:
    """The adapter freezes by itself; layers that stay frozen are put into inference mode."""
    fl.freeze(model, parameters=[own for own in model.parameters() if not own.requires_grad])


# Models


def _bert() -> nn.Module:
    import transformers

    config = transformers.BertConfig(
        vocab_size=_WORDS, hidden_size=_WIDTH, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48,
        num_labels=3, pad_token_id=0,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def _llama() -> nn.Module:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=_WORDS, hidden_size=_WIDTH, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, num_labels=3, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForSequenceClassification(config)


def _gpt2() -> nn.Module:
    import transformers

    config = transformers.GPT2Config(
        vocab_size=_WORDS, n_embd=_WIDTH, n_layer=4, n_head=4, n_positions=64, num_labels=3, pad_token_id=0
    )
    return transformers.GPT2ForSequenceClassification(config)


def _resnet() -> nn.Module:
    import timm

    return timm.create_model("resnet18", num_classes=5)


def _vit() -> nn.Module:
    import timm

    return timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32, depth=6, drop_path_rate=0.1)


_TEXT = {"bert": _bert, "llama": _llama, "gpt2": _gpt2}
_IMAGES = {"resnet18": _resnet, "vit_tiny": _vit}


# Switches


def _with_lora(make: Callable[[], nn.Module]) -> nn.Module:
    import peft

    return peft.get_peft_model(make(), peft.LoraConfig(
        task_type="SEQ_CLS", r=4, lora_dropout=0.1, layers_to_transform=[2, 3],
        target_modules=None,
    ))  # fmt: skip


def _with_checkpoints(make: Callable[[], nn.Module], *, is_reentrant: bool) -> nn.Module:
    model = make()
    model.gradient_checkpointing_enable({"use_reentrant": is_reentrant})
    return model.train()


def _compiled(make: Callable[[], nn.Module]) -> nn.Module:
    return torch.compile(make(), backend="aot_eager")


def _compiled_block() -> nn.Module:
    model = Residual()
    model.blocks[2].compile(backend="aot_eager")
    return model


def _halved(make: Callable[[], nn.Module]) -> nn.Module:
    return make().to(torch.bfloat16)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.drop(self.norm(self.conv(x_BCHW)).relu())


class Residual(nn.Module):
    """Four blocks and an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=4)
        self.blocks = nn.ModuleList(_Block(16) for _ in range(4))
        self.head = nn.Linear(16, 5)

    def features(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.stem(x_BCHW)
        for block in self.blocks:
            x_BCHW = self.run(block, x_BCHW)
        return x_BCHW.mean((2, 3))

    def run(self, block: nn.Module, x_BCHW: Tensor) -> Tensor:
        return block(x_BCHW)

    def forward(self, x_BCHW: Tensor) -> Any:
        return self.head(self.features(x_BCHW))


class Checkpointed(Residual):
    """Each block is a checkpoint."""

    def run(self, block: nn.Module, x_BCHW: Tensor) -> Tensor:
        return checkpoint(block, x_BCHW, use_reentrant=False)


class Autocasting(Residual):
    """Blocks run in bfloat16, the output layer in float32."""

    def forward(self, x_BCHW: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            features_BC = self.features(x_BCHW)
        return self.head(features_BC.float())


class Losses(Residual):
    """Returns its losses by name, as detectors do."""

    def forward(self, x_BCHW: Tensor, target_B: Tensor) -> Any:  # type: ignore[override]
        features_BC = self.features(x_BCHW)
        logits_BK = self.head(features_BC)
        return {"loss_class": nn.functional.cross_entropy(logits_BK, target_B),
                "loss_size": 1e-2 * features_BC.square().mean(), "logits": logits_BK}  # fmt: skip
