import importlib

import pytest
from PIL import Image
from torch.utils.data import Subset

from frostline.core.stages import stages_of
from frostline.data import ImageFolder, Part
from frostline.data.classes import Renumbered
from helpers_vision import import_torchvision


class Offering:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.from_source(self.source(index), index)

    def source(self, index):
        return [index]

    def from_source(self, source, index):
        return [*source, "made"], index


class Overriding(Offering):
    def __getitem__(self, index):
        return "another", index


class Renamed(Offering):
    pass


def through_stages(dataset, index):
    source, from_source = stages_of(dataset)
    return from_source(source(index), index)


@pytest.mark.parametrize("dataset", [Offering(), Renamed(), Subset(Offering(), [2, 0]), Part(Offering(), [2, 0])])
def test_both_stages_give_the_item(dataset):
    assert through_stages(dataset, 1) == dataset[1]


@pytest.mark.parametrize("dataset", [Overriding(), Subset(Overriding(), [0]), Part(Overriding(), [0]), [1, 2]])
def test_stages_that_may_leave_something_out_do_not_count(dataset):
    assert stages_of(dataset) is None


def test_stages_are_offered_as_functions():
    class Odd(Offering):
        source = None

        def __getitem__(self, index):
            return index

        from_source = "text"

    assert stages_of(Odd()) is None


@pytest.fixture
def photos(tmp_path):
    for label, name in enumerate(("cats", "dogs")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 8), (50 * label, 10, 99)).save(tmp_path / name / "1.png")
    return tmp_path


def test_images_are_decoded_in_the_first_stage(photos):
    images = ImageFolder(photos)
    source, _ = stages_of(images)
    assert source(1).size == (9, 8)
    inputs, label = through_stages(Renumbered(images, [5, 7], ("a",) * 8), 1)
    assert (inputs == images[1][0]).all()
    assert label == 7


def test_folders_of_torchvision_are_known(photos):
    import_torchvision()
    folder = importlib.import_module("torchvision.datasets").ImageFolder

    class Own(folder):
        def __getitem__(self, index):
            return super().__getitem__(index)[0], 3

    images = folder(str(photos), transform=lambda image: image.size, target_transform=lambda label: label + 1)
    assert through_stages(images, 1) == images[1] == ((9, 8), 2)
    assert stages_of(Own(str(photos))) is None
