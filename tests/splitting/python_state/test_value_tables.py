"""Places of values as tables: entries are read, set and deleted there."""

import contextvars
from collections import OrderedDict

import pytest

from frostline.splitting.python_state.value_tables import ClassTable, ContextTable, HeldEntries, ShownTable, SizeTable


class Base:
    depth = 1

    def method(self):
        return self.depth


class Derived(Base):
    width = 2


def test_the_table_of_a_class_follows_the_class():
    class Own:
        count = 1

    table = ClassTable(Own)
    table["count"] = 5
    assert (Own.count, table["count"]) == (5, 5)
    del table["count"]
    assert not hasattr(Own, "count")
    assert "count" not in table


def test_what_an_object_shows_of_a_class_leaves_out_methods_and_what_it_hides():
    own = Derived()
    table = ShownTable(own, Base)
    assert "depth" in table
    assert "method" not in table
    assert len(table) == len(list(table))
    own.depth = 3
    assert "depth" not in ShownTable(own, Base)


def test_a_context_variable_is_a_table_of_one_entry_where_it_is_set():
    variable = contextvars.ContextVar("variable")
    table = ContextTable(variable)
    assert (len(table), list(table)) == (0, [])
    with pytest.raises(KeyError):
        table["get"]
    table["get"] = 4
    assert (variable.get(), dict(table)) == (4, {"get": 4})


def test_the_size_of_a_container_follows_it():
    held = [1, 2]
    table = SizeTable(held)
    held.append(3)
    assert (table[0], len(table)) == (3, 1)


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_entries_of_a_dict_are_read_and_filled_past_what_its_class_does(kind):
    class Builds(kind):
        def __getitem__(self, key):
            raise AssertionError(key)

        __setitem__ = __missing__ = __iter__ = __getitem__

    table = HeldEntries(Builds())
    table.fill([("one", 1), ("two", 2)])
    table["three"] = 3
    assert (dict(table.items()), len(table)) == ({"one": 1, "two": 2, "three": 3}, 3)
    with pytest.raises(KeyError):
        table["four"]
    del table["one"]
    table.fill([("five", 5), ("two", 2)])
    assert [*table.items()] == [("five", 5), ("two", 2)]
