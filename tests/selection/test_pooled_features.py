import torch

from frostline.selection.pooled_features import pooled, pooled_input


def test_a_map_gives_its_mean_and_a_grid():
    x = torch.randn(4, 3, 6, 6)
    found, means = pooled(x, 4, is_sequence=False)
    assert found.shape == (4, 3 + 12)
    assert means == 3
    torch.testing.assert_close(found[:, :3], x.mean((2, 3)))
    torch.testing.assert_close(found[:, 3], x[:, 0, :3, :3].mean((1, 2)))


def test_maps_with_the_channels_last_give_the_same():
    x = torch.randn(4, 5, 6, 6)
    torch.testing.assert_close(
        pooled(x.permute(0, 2, 3, 1), 4, is_sequence=False)[0], pooled(x, 4, is_sequence=False)[0]
    )


def test_tokens_give_mean_and_first_also_with_the_batch_second():
    x = torch.randn(4, 7, 5)
    found, means = pooled(x, 4, is_sequence=False)
    torch.testing.assert_close(found, torch.cat([x.mean(1), x[:, 0]], 1))
    assert means == 5
    torch.testing.assert_close(pooled(x.transpose(0, 1), 4, is_sequence=False)[0], found)


def test_sequences_of_convolutions_volumes_vectors_and_numbers():
    x = torch.randn(4, 5, 8)
    torch.testing.assert_close(pooled(x, 4, is_sequence=True)[0][:, :5], x.mean(2))
    assert pooled(torch.randn(4, 2, 3, 3, 3), 4, is_sequence=False)[0].shape == (4, 2)
    assert torch.equal(pooled(x[:, 0], 4, is_sequence=False)[0], x[:, 0])
    assert pooled(torch.randn(4), 4, is_sequence=False)[0].shape == (4, 1)
    assert pooled(torch.randn(4, 6, 1, 1), 4, is_sequence=False)[0].shape == (4, 6)


def test_what_does_not_follow_the_batch_or_is_no_number_is_left_out():
    assert pooled(torch.randn(7, 6), 4, is_sequence=False) is None
    assert pooled(torch.ones(4, 6, dtype=torch.int64), 4, is_sequence=False) is None


def test_inputs_are_a_grid_of_each_channel_and_tokens_are_none():
    assert pooled_input(torch.randn(4, 3, 32, 32)).shape == (4, 3 * 64)
    assert pooled_input(torch.randn(4, 1, 8, 8)).shape == (4, 64)
    assert pooled_input(torch.randn(4, 10)).shape == (4, 10)
    assert pooled_input(torch.randn(4, 9000)).shape == (4, 4096)
    assert pooled_input(torch.ones(4, 9, dtype=torch.int64)) is None
