from hypothesis import given
from hypothesis import strategies as st

from frostline.porting.graphs.axes import (
    BROKEN,
    CHANNELS,
    JOINED,
    PLACE,
    UNKNOWN,
    Factor,
    Origin,
    cut_as,
    is_last,
    is_odd,
    merged,
    of_role,
    reshaped,
    resolved,
    role_over,
    size_of,
    whole,
)


def maps(*sizes, unit=""):
    """The axes of (batch, channels, height, width)."""
    roles = (PLACE, CHANNELS, PLACE, PLACE)
    return tuple(
        whole(Origin(size, role, (0, axis), unit)) for axis, (size, role) in enumerate(zip(sizes, roles, strict=True))
    )


def roles(axis, cuts=None):
    return [[(part.size, part.role) for part in piece] for piece in resolved(axis, cuts or {})]


def test_a_flatten_and_back_is_the_same():
    axes = maps(2, 6, 4, 4)
    flat = reshaped(axes, (2, 96))
    assert roles(flat[1]) == [[(6, CHANNELS), (4, PLACE), (4, PLACE)]]
    assert reshaped(flat, (2, 6, 4, 4)) == axes
    assert reshaped(reshaped(axes, (2, 3, 2, 4, 4)), (2, 6, 16))[1] == axes[1]


@given(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=5), st.data())
def test_a_reshape_keeps_the_number_of_entries(sizes, data):
    axes = of_role(PLACE, sizes, 0)
    whole_size = size_of(sum(axes, ()))
    count = data.draw(st.sampled_from([size for size in range(1, whole_size + 1) if whole_size % size == 0]))
    made = reshaped(axes, (count, whole_size // count))
    assert made is None or [size_of(axis) for axis in made] == [count, whole_size // count]


def test_a_cut_without_a_seam_cannot_be_followed():
    assert reshaped(maps(2, 6, 3, 3), (2, 4, 27 // 2)) is None
    assert reshaped((whole(Origin(6, JOINED, (0, 0))),), (2, 3)) is None
    assert reshaped(maps(2, 6, 3, 3), (2, 6)) is None


def test_parts_that_lie_as_they_did_are_one():
    origin = Origin(12, CHANNELS, (0, 1))
    assert merged((Factor(origin, 3, 4), Factor(origin, 4, 1))) == whole(origin)
    assert len(merged((Factor(origin, 4, 1), Factor(origin, 3, 4)))) == 2


def test_parts_that_have_shown_what_they_are():
    origin = Origin(48, CHANNELS, (0, 1))
    assert roles(whole(origin), {origin: {(16, 3): CHANNELS, (1, 4): PLACE}}) == [
        [(3, CHANNELS), (4, CHANNELS), (4, PLACE)]
    ]
    assert roles(whole(origin), {origin: {(16, 3): CHANNELS, (8, 4): PLACE}})[0][-1][1] in (BROKEN, CHANNELS)
    assert BROKEN in [part[1] for part in roles(whole(origin), {origin: {(4, 6): PLACE, (8, 2): PLACE}})[0]]


def test_joined_pieces_are_told_apart():
    axes = maps(2, 6, 4, 4)
    joined = Origin(96 + 5, JOINED, (1, 1), parents=(axes[1] + axes[2] + axes[3], whole(Origin(5, CHANNELS, (2, 1)))))
    assert [len(piece) for piece in resolved(whole(joined), {})] == [3, 1]
    assert roles((*whole(joined), *axes[2]))[0][0] == (101, BROKEN)


def test_channels_last_is_places_in_their_order_then_channels():
    _, channels, height, width = maps(2, 6, 4, 3)
    assert is_last(resolved(height + width + channels, {})[0])
    assert not is_last(resolved(channels + height + width, {})[0])
    assert not is_last(resolved(width + height + channels, {})[0])
    assert is_last(resolved(channels, {})[0])
    assert not is_last(resolved(height + whole(Origin(3, UNKNOWN, (1, 1))), {})[0])


def test_what_lies_over_each_other_shows_what_it_is():
    channels, place = whole(Origin(4, CHANNELS, (0, 1)))[0], whole(Origin(4, PLACE, (1, 1)))[0]
    part = Factor(Origin(8, CHANNELS, (2, 1)), 4)
    assert role_over((place, part)) == PLACE
    assert role_over((channels, part)) == CHANNELS
    assert role_over((channels, place)) == UNKNOWN
    assert role_over((part, part)) == UNKNOWN
    assert role_over((place, Factor(Origin(4, BROKEN, (0, 0)), 4))) == BROKEN


def test_values_that_no_network_with_channels_last_has():
    axes = maps(2, 6, 4, 4)
    assert not is_odd(axes, 1, is_sure=True)
    rows = reshaped(axes, (2, 12, 8))
    assert is_odd(rows, 2, is_sure=False)  # channels and places on one axis that is used as places
    assert is_odd(reshaped(axes, (2, 24, 2, 2)), 1, is_sure=True)  # both sides of the new map are of the old width
    features = (axes[0], whole(Origin(96, CHANNELS, (3, 1), "dense")))
    assert not is_odd(reshaped(features, (2, 6, 4, 4)), 1, is_sure=True)


def test_channels_among_the_places_of_a_map_belong_to_no_network_with_channels_last():
    batch, channels, height, width = maps(2, 6, 4, 4)
    assert is_odd((batch, height, width, channels), 1, is_sure=True)
    assert not is_odd((batch, height, channels), 1, is_sure=True)  # a convolution over the channels of rows


def test_what_was_made_of_a_whole_map_lies_as_the_map_does():
    features = Origin(8, CHANNELS, (0, 1), "dense")
    cuts = {features: {(4, 2): CHANNELS, (1, 4): PLACE}}
    rest = Origin(3, CHANNELS, (1, 1))
    joined = Origin(11, CHANNELS, (0, 1), parents=(whole(rest), whole(features)), is_same=True)
    assert roles(whole(joined)) == [[(11, CHANNELS)]]
    assert roles(whole(joined), cuts) == [[(3, CHANNELS)], [(2, CHANNELS), (4, PLACE)]]
    shorter = Origin(6, CHANNELS, (0, 1), parents=(whole(features),), is_same=True)
    assert roles(whole(shorter), cuts) == [[(6, BROKEN)]]
    assert roles(whole(Origin(3, CHANNELS, (0, 1), parents=(whole(shorter),), is_same=True)), cuts) == [[(3, BROKEN)]]
    rows = Origin(5, UNKNOWN, (0, 1), parents=((Factor(features, 4, 1),),), is_same=True)
    assert roles(whole(rows), cuts) == [[(5, UNKNOWN)]]  # one side of the map alone, in another size


def test_what_the_parts_of_a_part_have_shown_counts():
    origin = Origin(12, CHANNELS, (0, 1))
    apart = {(4, 3): CHANNELS, (2, 2): PLACE, (1, 2): PLACE}
    assert roles(whole(origin), {origin: {**apart, (1, 4): UNKNOWN}}) == roles(whole(origin), {origin: apart})
    assert roles(whole(origin), {origin: {(1, 4): UNKNOWN, (1, 2): PLACE}}) == [[(6, UNKNOWN), (2, PLACE)]]
    assert BROKEN in str(roles(whole(origin), {origin: {(1, 4): CHANNELS, (1, 2): PLACE, (2, 2): PLACE}}))


def test_an_axis_of_one_operation_is_cut_as_another_one():
    origin, other = Origin(12, CHANNELS, (0, 1)), Origin(3, PLACE, (1, 1))
    assert [(one.size, one.stride) for one in cut_as(whole(origin), [3, 4])] == [(3, 4), (4, 1)]
    assert cut_as((*whole(origin), *whole(other)), [36]) == (*whole(origin), *whole(other))
