import pytest

import frostline as fl
from frostline.recipes.schedules import as_schedule

GOOD = [
    (fl.ThawSchedule({5: "low", 3: "high"}), ((3, "high"), (5, "low")), False),
    (fl.ThawSchedule(["high", None], every=2), ((3, "high"), (5, None)), False),
    (fl.ThawSchedule("plateau"), (), True),
    (fl.ThawSchedule("plateau", layers=["high", "low"]), ((None, "high"), (None, "low")), True),
    (fl.FreezeSchedule(), (), True),
    (fl.FreezeSchedule({4: "low"}), ((4, "low"),), False),
    (fl.FreezeSchedule(layers=["low"]), ((None, "low"),), True),
]


@pytest.mark.parametrize(("schedule", "moves", "is_by_rule"), GOOD)
def test_moves_are_in_the_order_of_the_epochs(schedule, moves, is_by_rule):
    assert schedule.moves == moves
    assert schedule.is_by_rule is is_by_rule


def test_a_schedule_is_one_text_for_what_a_resumed_run_must_have():
    assert str(fl.ThawSchedule({3: "high", 5: None}, factor=2)) == (
        "thaw high from epoch 3, the whole model from epoch 5, factor 2, warm-up 0.5"
    )
    assert str(fl.ThawSchedule("plateau", keep_statistics=True)) == (
        "thaw plateau, patience 2, factor 2.6, warm-up 0.5, statistics kept"
    )
    assert str(fl.FreezeSchedule()) == "freeze converged, rate 0.2, patience 1"


WRONG = {
    "another rule": lambda: fl.ThawSchedule("converged"),
    "a number": lambda: fl.ThawSchedule(3),
    "no layers": lambda: fl.ThawSchedule([]),
    "no epochs": lambda: fl.ThawSchedule({}),
    "layers that are no names": lambda: fl.ThawSchedule({3: 4}),
    "epochs that are no numbers": lambda: fl.ThawSchedule({"3": "high"}),
    "the first epoch": lambda: fl.ThawSchedule({1: "high"}),
    "layers without the rule": lambda: fl.ThawSchedule({3: "high"}, layers=["high"]),
    "no layers of the rule": lambda: fl.ThawSchedule("plateau", layers=[]),
    "a factor of nothing": lambda: fl.ThawSchedule("plateau", factor=0),
    "a warm-up into the past": lambda: fl.ThawSchedule("plateau", warmup=-1),
    "no patience": lambda: fl.ThawSchedule("plateau", patience=0),
    "every none": lambda: fl.ThawSchedule(["high"], every=0),
    "statistics": lambda: fl.ThawSchedule(["high"], keep_statistics="yes"),
    "a list to freeze": lambda: fl.FreezeSchedule(["low"]),
    "everything frozen": lambda: fl.FreezeSchedule({3: None}),
    "a rate of nothing": lambda: fl.FreezeSchedule(rate=0),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_schedule_is_refused_with_a_remedy(name):
    with pytest.raises(fl.DataError) as error:
        WRONG[name]()
    assert error.value.where.startswith(("ThawSchedule", "FreezeSchedule"))
    assert error.value.do


def test_the_refusals_in_words():
    with pytest.raises(fl.DataError, match="This is no schedule"):
        fl.ThawSchedule("slowly")
    with pytest.raises(fl.DataError, match="Layers are listed for 'plateau' only"):
        fl.ThawSchedule({3: "high"}, layers=["high"])
    with pytest.raises(fl.DataError, match="moves before an epoch that is a whole number of 2 or more"):
        fl.FreezeSchedule({1: "low"})
    with pytest.raises(fl.DataError, match="freezes the whole model leaves nothing to train"):
        fl.FreezeSchedule({2: None})


def test_fit_takes_names_mappings_lists_and_schedules():
    assert as_schedule("layer1", None) == ("layer1", None)
    assert as_schedule(None, {3: "high"}) == (None, fl.ThawSchedule({3: "high"}))
    assert as_schedule("low", "plateau") == ("low", fl.ThawSchedule("plateau"))
    assert as_schedule("converged", None) == (None, fl.FreezeSchedule())
    assert as_schedule({4: "low"}, None) == (None, fl.FreezeSchedule({4: "low"}))
    with pytest.raises(fl.DataError, match="moves up or down, not both"):
        as_schedule("converged", "plateau")
