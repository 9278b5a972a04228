"""What is refused when a job is posted."""

from typing import Any

import pytest

from models.config import JobSpec
from models.errors import ConfigError
from worker.registry import BaseModel
from worker.transfer_checks import check_transfer

TRAINED = BaseModel("mdl_1", "mdl_1", "resnet_tiny", has_weights=True, layers=("stem", "layer1", "layer2"))
UNTRAINED = BaseModel("resnet_tiny", None, "resnet_tiny", has_weights=False, layers=("stem", "layer1"))
TIMM = BaseModel("timm/resnet18", None, "timm/resnet18", has_weights=True, layers=())


def spec(**transfer: Any) -> JobSpec:
    return JobSpec.model_validate({"dataset": "ds_1", "transfer": transfer})


@pytest.mark.parametrize(
    ("base", "transfer", "param"),
    [
        (None, {"mode": "full"}, "transfer.mode"),
        (UNTRAINED, {"mode": "partial"}, "transfer.mode"),
        (UNTRAINED, {"until": "stem"}, "transfer.mode"),
        (None, {"freeze": "gradual"}, "transfer.freeze"),
        (TRAINED, {"mode": "none", "freeze": "gradual"}, "transfer.freeze"),
        (UNTRAINED, {"probe_first": True}, "transfer.probe_first"),
        (TRAINED, {"mode": "none", "regularize": "l2_sp"}, "transfer.regularize"),
        (TRAINED, {"mode": "none", "interpolate": 0.5}, "transfer.interpolate"),
        (None, {"statistics": "target"}, "transfer.statistics"),
        (TRAINED, {"thaw_from": "input"}, "transfer.thaw_from"),
        (TRAINED, {"freeze": "shared", "interpolate": "auto"}, "transfer.interpolate"),
        (TRAINED, {"mode": "full", "until": "stem"}, "transfer.until"),
        (TRAINED, {"until": "layer9"}, "transfer.until"),
    ],
)
def test_refused(base: BaseModel | None, transfer: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_transfer(spec(**transfer), base)
    assert (caught.value.code, caught.value.param) == ("config_invalid", param)


@pytest.mark.parametrize(
    ("base", "transfer"),
    [
        (None, {}),
        (UNTRAINED, {"mode": "none"}),
        (TRAINED, {"mode": "full", "freeze": "gradual", "thaw_from": "input", "probe_first": True}),
        (TRAINED, {"regularize": "l2_sp", "regularize_strength": 0.1, "interpolate": "auto", "until": "layer1"}),
        (TIMM, {"mode": "partial", "until": "layer9", "statistics": "target"}),  # only the trainer knows timm's layers
    ],
)
def test_taken(base: BaseModel | None, transfer: dict[str, Any]) -> None:
    check_transfer(spec(**transfer), base)
