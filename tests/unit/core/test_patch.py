"""Merge patches: the smallest one that turns one object into another."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initpipeline.core.patch import merge_patch

# API objects hold no null, because in a merge patch null removes a field.
values: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=2), children, max_size=3)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=2), values, max_size=4)


def applied(target: Any, patch: Any) -> Any:
    """Applies a merge patch as RFC 7386, section 2, defines it."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = applied(result.get(key), value)
    return result


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        pytest.param({"a": 1}, {"a": 1}, {}, id="nothing changed"),
        pytest.param({}, {"a": 1}, {"a": 1}, id="added"),
        pytest.param({"a": 1}, {"a": 2}, {"a": 2}, id="changed"),
        pytest.param({"a": 1}, {}, {"a": None}, id="removed"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}, {"a": {"b": 3}}, id="deep"),
        pytest.param({"a": {"b": 1}}, {"a": {}}, {"a": {"b": None}}, id="removed deep"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, {"a": [1]}, id="a list is replaced whole"),
        pytest.param({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}, id="an object becomes a list"),
        pytest.param({"a": [1]}, {"a": {"b": 1}}, {"a": {"b": 1}}, id="a list becomes an object"),
    ],
)
def test_merge_patch_has_only_the_differences(old: Any, new: Any, patch: Any) -> None:
    assert merge_patch(old, new) == patch


@given(old=objects, new=objects)
def test_patch_applied_to_old_object_gives_new_object(old: Any, new: Any) -> None:
    assert applied(old, merge_patch(old, new)) == new


@given(same=objects)
def test_patch_of_equal_objects_is_empty(same: Any) -> None:
    assert merge_patch(same, dict(same)) == {}
