"""The frozen contract: what clients were promised changes on purpose or not at all."""

import json
from typing import Any

from app.openapi import CONTRACT, contract


def test_the_contract_is_the_frozen_one() -> None:
    frozen, current = (_flat(json.loads(text)) for text in (CONTRACT.read_text(encoding="utf-8"), contract()))
    changed = {where: (frozen.get(where), current.get(where)) for where in frozen | current if frozen.get(where) != current.get(where)}
    assert changed == {}, "`python -m app.openapi` freezes a contract that was changed on purpose"
    assert CONTRACT.read_text(encoding="utf-8") == contract()


def test_it_does_not_depend_on_the_settings(monkeypatch: Any) -> None:
    from worker.settings import get_settings

    before = contract()
    monkeypatch.setenv("SYNESTHESIA_MAX_JSON_BYTES", "1000")
    monkeypatch.setenv("SYNESTHESIA_API_KEY", "a-key-that-nobody-may-read")
    get_settings.cache_clear()
    try:
        assert contract() == before
    finally:
        get_settings.cache_clear()


def _flat(value: Any, where: str = "") -> dict[str, Any]:
    """JSON pointer → leaf, so that a failure shows what has changed and nothing else."""
    if isinstance(value, dict) and value:
        return {pointer: leaf for name, inner in value.items() for pointer, leaf in _flat(inner, f"{where}/{name}").items()}
    if isinstance(value, list) and value:
        return {pointer: leaf for index, inner in enumerate(value) for pointer, leaf in _flat(inner, f"{where}/{index}").items()}
    return {where: value}
