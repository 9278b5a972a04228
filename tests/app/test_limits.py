import inspect

from app import batches, body, filebody, inference, jsonbody, listening, predictors, streaming, uploads
from app.limits import limits_in_force
from worker.settings import Settings


def test_every_limit_of_the_settings_is_shown() -> None:
    shown = limits_in_force(Settings())
    assert {name for name in Settings.model_fields if name.startswith(("max_", "min_"))} <= shown.keys()
    assert shown["max_json_bytes"] == 256 * 1024


def test_every_limit_of_the_modules_is_shown() -> None:
    values = set(limits_in_force(Settings()).values())
    for module in (batches, body, filebody, inference, jsonbody, listening, predictors, streaming, uploads):
        own = {
            name: value for name, value in vars(module).items() if name.startswith("MAX_") and f"\n{name} = " in inspect.getsource(module)
        }
        hidden = {"MAX_BOUNDARY", "MAX_INTEGER_DIGITS", "MAX_WAITING_BYTES"}  # of formats, and of what nobody meets alone
        assert {name for name, value in own.items() if value not in values} <= hidden, module.__name__


def test_limits_are_plain_numbers_and_null_where_there_is_none() -> None:
    shown = limits_in_force(Settings())
    assert {name for name, value in shown.items() if not isinstance(value, int | float)} == {"owner_predictions_a_second"}
    assert limits_in_force(Settings(owner_predictions_a_second=5))["owner_predictions_a_second"] == 5
