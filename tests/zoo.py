"""Models to split: builders with example inputs, and for each a cut at a stage border and one inside a block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from helpers_vision import import_torchvision


@dataclass(frozen=True)
class Case:
    """A model and where to cut it."""

    name: str
    build: Callable[[], nn.Module]
    example: Callable[[int], Any]
    border: str
    inside: str


def _timm(name: str, border: str, inside: str, size: int = 64, **options: Any) -> Case:
    def build() -> nn.Module:
        import_torchvision()
        import timm

        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False, num_classes=5, **options)

    def example(count: int) -> torch.Tensor:
        return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))

    return Case(name, build, example, border, inside)


def _text(name: str, border: str, inside: str, kind: str, has_mask: bool = True, **options: Any) -> Case:
    def build() -> nn.Module:
        import_torchvision()
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, f"{kind.split(':')[0]}Config")(**options)
        return getattr(transformers, kind.split(":")[1])(config)

    def example(count: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(5, 60, (count, 16), generator=generator)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if name == "t5":
            inputs["decoder_input_ids"] = ids[:, :5].clone()
        return inputs if has_mask else {"input_ids": ids}

    return Case(name, build, example, border, inside)


_SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
          "intermediate_size": 48, "num_labels": 3, "pad_token_id": 0}  # fmt: skip


def _vit() -> Case:
    def build() -> nn.Module:
        import_torchvision()
        import transformers

        torch.manual_seed(0)
        config = transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48, image_size=32,
            patch_size=8, num_labels=3,
        )  # fmt: skip
        return transformers.ViTForImageClassification(config)

    def example(count: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))}

    return Case("vit", build, example, "~layers.1", "~layers.2.attention")


CASES = [
    _timm("resnet18", "layer3", "layer3.0.bn1"),
    _timm("convnext_atto", "stages.2", "stages.2.blocks.1.conv_dw"),
    _timm("vit_tiny_patch16_224", "blocks.5", "blocks.5.attn", img_size=64),
    _timm("mobilenetv3_small_100", "blocks.3", "blocks.3.1.conv_pw"),
    _timm("densenet121", "features.transition2", "features.denseblock3.denselayer4.conv1"),
    _timm("swin_tiny_patch4_window7_224", "layers.1", "layers.2.blocks.1.attn", 224),
    _timm("efficientnet_b0", "blocks.3", "blocks.3.1.conv_pw"),
    _timm("halonet26t", "stages.2", "stages.2.1.conv1_1x1", 256),
    _timm("resnest14d", "layer2", "layer3.0.conv1"),
    _timm("mvitv2_tiny", "stages.1", "stages.2.blocks.1.attn", 224),
    _text("bert", "bert.encoder.layer.1", "bert.encoder.layer.2.attention",
          "Bert:BertForSequenceClassification", **_SMALL),
    _text("distilbert", "distilbert.transformer.layer.1", "distilbert.transformer.layer.2.attention",
          "DistilBert:DistilBertForSequenceClassification", vocab_size=64, dim=32, n_layers=4, n_heads=4,
          hidden_dim=48, num_labels=3),
    _text("mpnet", "mpnet.encoder.layer.1", "mpnet.encoder.layer.2.attention",
          "MPNet:MPNetForSequenceClassification", **_SMALL),
    _text("gpt2", "transformer.h.1", "transformer.h.2.attn", "GPT2:GPT2ForSequenceClassification",
          vocab_size=64, n_embd=32, n_layer=4, n_head=4, n_positions=64, num_labels=3, pad_token_id=0),
    _text("llama", "model.layers.1", "model.layers.2.self_attn", "Llama:LlamaForSequenceClassification",
          num_key_value_heads=2, **_SMALL),
    _text("t5", "encoder.block.1", "encoder.block.2.layer.0", "T5:T5ForConditionalGeneration", vocab_size=64,
          d_model=32, d_kv=8, d_ff=48, num_layers=4, num_heads=4, decoder_start_token_id=0,
          tie_word_embeddings=False),
    _vit(),
    _text("mamba", "backbone.layers.1", "backbone.layers.2.norm", "Mamba:MambaForCausalLM", has_mask=False,
          vocab_size=64, hidden_size=32, num_hidden_layers=4, state_size=4, tie_word_embeddings=False),
    _text("longformer", "longformer.encoder.layer.1", "longformer.encoder.layer.2.attention",
          "Longformer:LongformerForSequenceClassification", attention_window=8, **_SMALL),
]  # fmt: skip


def layer(model: nn.Module, name: str) -> str:
    """The full name of a cut; `~` stands for whatever comes before, which differs between versions."""
    if not name.startswith("~"):
        return name
    return next(full for full, _ in model.named_modules() if full.endswith(f".{name[1:]}"))


def frozen_model(case: Case, cut: str) -> tuple[nn.Module, str]:
    """The model, frozen through the cut."""
    import frostline as fl

    model = case.build()
    name = layer(model, cut)
    fl.freeze(model, through=name)
    return model, name
