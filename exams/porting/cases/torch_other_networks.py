"""Networks of PyTorch whose weights are shared, packed, grouped, or apart where others pack them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PackedBlock(nn.Module):
    """Query, key and value from one Linear layer, as timm's vision transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8, eps=1e-6), nn.LayerNorm(8, eps=1e-6)
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).view(-1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(((q @ k.transpose(2, 3) * 0.5).softmax(-1) @ v).transpose(1, 2).reshape(-1, 6, 8))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class SeparateBlock(PackedBlock):
    """Three Linear layers for query, key and value."""

    def __init__(self) -> None:
        super().__init__()
        del self.qkv
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = (part(y).view(-1, 6, 2, 4).transpose(1, 2) for part in (self.query, self.key, self.value))
        x = x + self.proj(((q @ k.transpose(2, 3) * 0.5).softmax(-1) @ v).transpose(1, 2).reshape(-1, 6, 8))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Words(nn.Module):
    """A masked language model: the table of words is the matrix of its outputs, too."""

    is_tied = True

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings, self.position_embeddings = nn.Embedding(32, 8), nn.Embedding(6, 8)
        self.layer = nn.ModuleList([SeparateBlock()])
        self.transform, self.norm = nn.Linear(8, 8), nn.LayerNorm(8, eps=1e-12)
        self.decoder = nn.Linear(8, 32)
        if self.is_tied:
            self.decoder.weight = self.word_embeddings.weight

    def forward(self, words: Tensor, places: Tensor) -> Tensor:
        x = self.word_embeddings(words) + self.position_embeddings(places)
        for layer in self.layer:
            x = layer(x)
        return self.decoder(self.norm(F.gelu(self.transform(x))))


class UntiedWords(Words):
    """The same with two matrices of their own."""

    is_tied = False


class Packed(nn.Module):
    """Two blocks and a norm."""

    block = PackedBlock

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(self.block(), self.block())
        self.norm, self.head = nn.LayerNorm(8, eps=1e-6), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(x)).mean(1))


class Separate(Packed):
    """The same of three Linear layers each."""

    block = SeparateBlock


class Grouped(nn.Module):
    """A ResNeXt block: a grouped convolution between two of size one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(8)
        self.conv3, self.bn3 = nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(F.relu(x + self.bn3(self.conv3(y))).mean((2, 3)))


NETWORKS = {  # the network, and the shapes of its inputs; text is given by the size of its vocabulary
    "tied": (Words, (32, 6)),
    "tied_apart": (Words, (32, 6)),
    "untied": (UntiedWords, (32, 6)),
    "packed": (Packed, ((6, 8),)),
    "separate": (Separate, ((6, 8),)),
    "grouped": (Grouped, ((4, 9, 9),)),
}
TIED = ("tied", "tied_apart")
