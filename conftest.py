"""Examples in docstrings run in a folder of their own: what they write does not stay."""

import pytest
from _pytest.doctest import DoctestItem


@pytest.fixture(autouse=True)
def _own_folder_of_examples(request: pytest.FixtureRequest) -> None:
    if isinstance(request.node, DoctestItem):
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
