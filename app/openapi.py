"""`python -m app.openapi` writes the frozen contract anew, openapi.json and the client's types: run it when it changes on purpose."""

import json
from pathlib import Path

from app.main import create_api
from app.typed_dicts import module_of
from worker.settings import get_settings

CONTRACT = Path(__file__).parent.parent / "openapi.json"
TYPES = Path(__file__).with_name("client_types.py")


def contract() -> str:
    """Return the OpenAPI document as it is frozen."""
    return json.dumps(create_api(get_settings()).openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    """Write openapi.json at the repository's root, and app/client_types.py from it."""
    document = contract()
    CONTRACT.write_text(document, encoding="utf-8")
    TYPES.write_text(module_of(json.loads(document)), encoding="utf-8")


if __name__ == "__main__":
    main()
