"""Every test starts from the same seed, on one thread, with a property-test profile that repeats itself.

Several threads are slower on small networks. No test sees a GPU, on which `fit` would leave its models, unless it is
asked for: `make test-gpu` runs those that need one.
"""

import os
import random

import numpy as np
import pytest
import torch
from hypothesis import settings

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
settings.register_profile("frostline", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("frostline")
torch.set_num_threads(1)  # small networks are slower on several


@pytest.fixture(autouse=True)
def _fixed_seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def arrays(tmp_path):
    """A file of 40 images of five classes, for the commands: the brighter, the higher the class."""
    path, labels = tmp_path / "digits.npz", np.arange(40) % 5
    images = np.random.default_rng(0).normal(size=(40, 1, 32, 32)) * 0.1 + 0.4 * labels[:, None, None, None]
    np.savez(path, x=images.astype(np.float32), y=labels)
    return path
