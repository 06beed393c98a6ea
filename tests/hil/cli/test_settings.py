"""Settings from ``path=value``: nested, typed, refused with path, limits and what there is."""

from __future__ import annotations

import pytest

from hil.cli.settings import build_settings, describe_settings, parse_value
from hil.errors import ParamError
from hil.params import Params
from tests.hil.cli.circling import Settings


def test_nothing_set_gives_the_defaults() -> None:
    assert build_settings(Settings, [], "circling") == Settings()


def test_nested_values_leave_their_neighbours_alone() -> None:
    built = build_settings(Settings, ["source.n_frames=5", "label=hall"], "circling")
    # depth is 3 by the default of the whole group, 1 by that of the field: the group's counts
    assert (built.source.n_frames, built.source.error_m, built.group.depth, built.label) == (5, 0.25, 3, "hall")
    assert build_settings(Settings, ['group.free={"a": 1}'], "circling").group.depth == 3


def test_a_group_is_set_as_json_too() -> None:
    assert build_settings(Settings, ['group={"depth": 9}'], "circling").group.depth == 9


def test_free_maps_are_reached_into() -> None:
    built = build_settings(Settings, ["group.free.a.b=[1, 2]", "group.free.c=text"], "circling")
    assert built.group.free == {"a": {"b": [1, 2]}, "c": "text"}


def test_text_that_looks_like_a_number_stays_text_where_text_is_wanted() -> None:
    assert build_settings(Settings, ["label=5"], "circling").label == "5"
    assert build_settings(Settings, ["label=null"], "circling").label is None


@pytest.mark.parametrize(
    ("assignment", "match"),
    [
        ("source.n_frames=-1", r"circling: source\.n_frames=-1: Expected `int` >= 0"),
        ("group.depth=10", r"group\.depth=10: Expected `int` <= 9"),
        ("source.error_m=wide", r"source\.error_m=wide: Expected `float`, got `str`"),
        ("source.n_frame=3", r"no setting 'source\.n_frame'; did you mean source\.n_frames\? settings: .*group\.depth"),
        ("sauce.n_frames=3", r"no setting 'sauce'"),
        ("label.x=3", r"label is no group of settings: 'label\.x' leads into it"),
        ("label", r"expected path=value, got 'label'"),
    ],
)
def test_refusals(assignment: str, match: str) -> None:
    with pytest.raises(ParamError, match=match):
        build_settings(Settings, [assignment], "circling")


def test_a_setting_without_a_default_is_asked_for() -> None:
    class Needs(Params, frozen=True):
        path: str

    with pytest.raises(ParamError, match="needs the setting 'path': give --set path="):
        build_settings(Needs, [], "needs")
    assert build_settings(Needs, ["path=5"], "needs").path == "5"


def test_every_setting_is_described() -> None:
    described = {s.path: s for s in describe_settings(Settings)}
    assert list(described)[:2] == ["source.n_frames", "source.error_m"]
    depth = described["group.depth"]
    assert (depth.type, depth.limits, depth.default, depth.description) == ("int", ">= 1, <= 9", "3", "how deep")
    assert described["label"].type == "str or null"


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("[1,2]", [1, 2]), ("true", True), ("tcp://a:1", "tcp://a:1")])
def test_values_are_json_or_text(text: str, value: object) -> None:
    assert parse_value(text) == value
