"""`python -m app.openapi` writes the frozen contract, openapi.json, anew: run it when the contract changes on purpose."""

import json
from pathlib import Path

from app.main import create_api
from worker.settings import get_settings

CONTRACT = Path(__file__).parent.parent / "openapi.json"


def contract() -> str:
    """Return the OpenAPI document as it is frozen."""
    return json.dumps(create_api(get_settings()).openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    """Write openapi.json at the repository's root."""
    CONTRACT.write_text(contract(), encoding="utf-8")


if __name__ == "__main__":
    main()
