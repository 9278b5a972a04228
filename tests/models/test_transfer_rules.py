"""Options of a transfer that contradict one another, each named by its field."""

from typing import Any

import pytest

from models.config import TransferConfig
from models.errors import ConfigError
from models.transfer_rules import check_options

ACTS_ON_CARRIED = [
    {"freeze": "gradual"},
    {"freeze": "shared"},
    {"probe_first": True},
    {"regularize": "l2_sp"},
    {"interpolate": 0.5},
    {"interpolate": "auto"},
    {"statistics": "target"},
    {"input_rule": "mean"},
]


@pytest.mark.parametrize("fields", ACTS_ON_CARRIED)
def test_what_acts_on_carried_layers_needs_some(fields: dict[str, Any]) -> None:
    check_options(TransferConfig(**fields), carries=True)
    with pytest.raises(ConfigError) as caught:
        check_options(TransferConfig(**fields), carries=False)
    assert caught.value.param == f"transfer.{next(iter(fields))}"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"freeze": "shared", "probe_first": True}, "transfer.probe_first"),
        ({"freeze": "shared", "regularize": "l2_sp"}, "transfer.regularize"),
        ({"freeze": "shared", "interpolate": 0.5}, "transfer.interpolate"),
        ({"thaw_from": "input"}, "transfer.thaw_from"),
        ({"freeze": "shared", "thaw_from": "input"}, "transfer.thaw_from"),
        ({"regularize_strength": 0.5}, "transfer.regularize_strength"),
    ],
)
def test_options_that_would_do_nothing_beside_others(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_options(TransferConfig(**fields), carries=True)
    assert caught.value.param == param
    assert caught.value.hint


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"freeze": "gradual", "thaw_from": "input", "probe_first": True, "statistics": "target"},
        {"freeze": "shared", "statistics": "target", "input_rule": "mean"},
        {"regularize": "l2_sp", "regularize_strength": 0.5, "interpolate": "auto"},
    ],
)
def test_what_goes_together(fields: dict[str, Any]) -> None:
    check_options(TransferConfig(**fields), carries=True)


def test_defaults_and_what_auto_becomes_need_no_layers() -> None:
    for rule in ("auto", "sum", "replicate"):
        check_options(TransferConfig(input_rule=rule), carries=False)
