"""README and docs, held against the code: what they name has to exist, and what exists has to be named."""

import re
from pathlib import Path
from typing import get_args

from models.catalog import architectures
from models.config import OptimizerName, TransferConfig
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README, TRANSFER, CURL = ((ROOT / page).read_text() for page in ("README.md", "docs/transfer.md", "docs/guides/curl.md"))


def test_documents_link_to_what_exists() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} → {target}"


def test_the_page_on_transfer_names_every_choice() -> None:
    rows = re.findall(r"^\| `([^`]+)`", TRANSFER, re.MULTILINE)
    modes, freezes = (get_args(TransferConfig.model_fields[field].annotation) for field in ("mode", "freeze"))
    assert set(get_args(OptimizerName)) <= set(rows)
    assert set(architectures()) <= set(rows)
    assert {f"mode: {mode}" for mode in modes} | {f"freeze: {freeze}" for freeze in freezes} <= set(rows)


def test_curl_calls_only_what_the_service_has() -> None:
    from app.main import create_api

    paths = create_api(Settings()).openapi()["paths"]
    patterns = [re.compile(re.sub(r"\{\w+\}", r"[^/?\"\\s]+", path) + r'(?=[?"\s]|$)') for path in paths]
    called = re.findall(r'(?:\$URL|wait_for )"?(/[^"\s]*)', CURL)
    called += re.findall(r"http://127\.0\.0\.1:8000(/[^'\s]+)", README)
    assert len(called) >= 11
    for address in called:
        assert any(pattern.match(address) for pattern in patterns), address


def test_make_has_the_commands_that_the_readme_names() -> None:
    named = set(re.findall(r"`make ([a-z-]+)", README))
    assert {"demo", "test", "serve", "lint"} <= named
    for target in sorted(named):
        text = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{target}:", text, re.MULTILINE), target
