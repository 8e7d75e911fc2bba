from __future__ import annotations

import pytest

from grid.errors import ConfigurationError
from grid.settings import parse
from substation.settings import SubstationSettings

NAME = {"SUBSTATION_ID": "substation1"}


def test_substation_settings_need_only_the_id() -> None:
    """Everything else has the documented default."""
    found = parse(SubstationSettings, NAME)
    assert (found.port, found.connectors, found.grace_seconds) == (9100, 50, 10)
    assert (found.charge_seconds_min, found.charge_seconds_max) == (2, 5)
    assert (found.rated_power_kw, found.background_power_kw) == (400, 0)


def test_substation_settings_accept_sessions_of_zero_seconds() -> None:
    """Both ends of a session's duration may be 0."""
    values = {"CHARGE_SECONDS_MIN": "0", "CHARGE_SECONDS_MAX": "0"}
    assert parse(SubstationSettings, NAME | values).charge_seconds_max == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"SUBSTATION_ID": ""}, ["SUBSTATION_ID is not set"]),
        ({"SUBSTATION_ID": "a.b"}, ["SUBSTATION_ID='a.b'"]),
        ({"SUBSTATION_ID": "a\n"}, ["SUBSTATION_ID='a\\n'"]),
        ({"SUBSTATION_ID": "x" * 65}, ["SUBSTATION_ID="]),
        (
            {"CHARGE_SECONDS_MIN": "6"},
            ["CHARGE_SECONDS_MIN=6", "above", "CHARGE_SECONDS_MAX=5"],
        ),
        ({"CHARGE_SECONDS_MIN": "-1"}, ["CHARGE_SECONDS_MIN='-1'"]),
        ({"CHARGE_SECONDS_MAX": "inf"}, ["CHARGE_SECONDS_MAX='inf'"]),
        ({"CONNECTORS": "0"}, ["CONNECTORS='0'"]),
        ({"CONNECTORS": "2.5"}, ["CONNECTORS='2.5'"]),
        ({"RATED_POWER_KW": "-1"}, ["RATED_POWER_KW='-1'"]),
        ({"BACKGROUND_POWER_KW": "nan"}, ["BACKGROUND_POWER_KW='nan'"]),
    ],
)
def test_substation_settings_error_names_variable_and_value(
    values: dict[str, str], words: list[str]
) -> None:
    """The substation does not start, and says which variable is wrong, with its value."""
    with pytest.raises(ConfigurationError) as error:
        parse(SubstationSettings, NAME | values)
    assert all(each in str(error.value) for each in words), error.value
