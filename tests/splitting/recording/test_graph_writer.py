import pytest
import torch

import frostline as fl
from frostline.splitting.recording.graph_writer import check_sizes, copied


def test_a_size_that_follows_the_values_of_a_batch_is_refused():
    check_sizes(torch.ones(2, 3), (2, 3))
    with pytest.raises(fl.SplitError, match="in the trainable part depends on the values of this batch") as error:
        check_sizes(torch.ones(2, 3), (2, 4))
    assert error.value.received == "shape (2, 3), expected (2, 4)"


def test_a_copy_is_written_into_and_not_what_is_stored():
    stored = torch.zeros(3)
    copied(stored).add_(1)
    assert not stored.any()
