import gzip
import hashlib
import re
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.routes.page import FOLDER, MEDIA_TYPES, accepts_html
from tests.app.conftest import check_problem
from worker.settings import Settings

ROOT = FOLDER.parent.parent
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
MODULES = [name for name in FILES if name.endswith((".js", ".mjs"))]
OWN_MODULES = [name for name in MODULES if name.startswith("js/")]
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Accept-Encoding": "gzip, deflate, br"}
MAX_WEIGHT = 150_000  # bytes, compressed, of all that a reader's browser can ask for
MAX_LINES = 300


def test_a_browser_gets_the_page(client: TestClient) -> None:
    response = client.get("/", headers=BROWSER)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.text == (FOLDER / "index.html").read_text(encoding="utf-8")
    assert "Accept" in response.headers["vary"].split(", ")
    assert client.head("/", headers=BROWSER).status_code == 200


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER["Accept"], True),
        ("*/*", True),
        ("text/*;q=0.5", True),
        ("TEXT/HTML; level=1", True),
        ("text/html;q=0, */*", False),
        ("text/html; q=0.0", False),
        ("text/html;q=0.001", True),
        ("application/json", False),
        ("application/json, text/plain", False),
        ("", False),
    ],
)
def test_who_takes_html(client: TestClient, accept: str, html: bool) -> None:
    assert accepts_html(accept) is html
    response = client.get("/", headers={"Accept": accept}, follow_redirects=False)
    assert response.status_code == (200 if html else 307)
    assert html or response.headers["location"] == "/docs"


@pytest.mark.parametrize("name", FILES)
def test_every_file_comes_with_its_type_and_under_the_policy(client: TestClient, name: str) -> None:
    response = client.get(f"/static/{name}", headers={"Accept-Encoding": "identity"})
    assert response.content == (FOLDER / name).read_bytes()
    assert response.headers["content-type"] == MEDIA_TYPES[Path(name).suffix]
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert not {"'unsafe-inline'", "'unsafe-eval'", "data:", "*", "https:"} & set(" ".join(policy.values()).split())
    assert response.headers["referrer-policy"] == "no-referrer"


def test_what_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/static/js/main.js", headers={"Accept-Encoding": "identity"})
    packed = client.get("/static/js/main.js", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == first.content
    assert first.headers["etag"] != packed.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    for answer, encoding in ((first, "identity"), (packed, "gzip")):
        for known in (answer.headers["etag"], f'"x", W/{answer.headers["etag"]}'):
            again = client.get("/static/js/main.js", headers={"Accept-Encoding": encoding, "If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])
            assert "content-security-policy" in again.headers
    other = client.get("/static/js/main.js", headers={"Accept-Encoding": "gzip", "If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path", ["", "nothing.js", "../../LICENSE", "%2e%2e/%2e%2e/LICENSE", "js", "js/", "/etc/passwd", "js/../../../LICENSE", "%00"]
)
def test_nothing_else_lies_there(client: TestClient, path: str) -> None:
    check_problem(client.get(f"/static/{path}"), 404, "route_not_found")


def test_the_page_needs_no_key_and_what_it_shows_does(change_setting: Callable[..., Settings]) -> None:
    from app.main import create_app

    with TestClient(create_app(change_setting(api_key="syn_0123456789abcdef"))) as client:
        assert client.get("/", headers=BROWSER).status_code == 200
        assert client.get("/static/js/main.js").status_code == 200
        check_problem(client.get("/datasets"), 401, "unauthorized")
        check_problem(client.get("/static"), 401, "unauthorized")
        check_problem(client.get("/staticx/js/main.js"), 401, "unauthorized")


def test_the_whole_page_is_light() -> None:
    weights = {name: len(gzip.compress((FOLDER / name).read_bytes(), 9)) for name in FILES if not name.endswith((".txt", ".md"))}
    assert sum(weights.values()) <= MAX_WEIGHT, weights


def imports_of(name: str) -> list[str]:
    """What a module loads, as it is written there."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return re.findall(r'^(?:import|export)\b[^"\n]*?from ?"([^"]+)"', text, re.MULTILINE) + re.findall(
        r'(?:\bimport\(|new URL\()"([^"]+)"(?=\)|, import\.meta)', text
    )


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_only_what_is_there(name: str) -> None:
    for target in imports_of(name):
        assert target.startswith(("./", "../")), f"{name} imports {target} by a bare name or from elsewhere"
        assert ((FOLDER / name).parent / target).resolve().relative_to(FOLDER).as_posix() in FILES, f"{name} → {target}"


def test_every_module_is_reached_and_called_for_at_once() -> None:
    """Without the list in the document a browser would learn of the modules one import after another."""
    reached: set[str] = set()
    pending = ["js/main.js"]
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += [((FOLDER / name).parent / target).resolve().relative_to(FOLDER).as_posix() for target in imports_of(name)]
    assert set(MODULES) == reached
    listed = re.findall(r'rel="modulepreload" href="/static/([^"]+)"', (FOLDER / "index.html").read_text(encoding="utf-8"))
    late = {"js/worklet.js", "vendor/uPlot.esm.js"}  # with the first sound, with the first plot
    assert sorted([*listed, "js/main.js", *late]) == MODULES


class Markup(HTMLParser):
    """Collects what a policy without inline script would stop, and what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.inline += [f"{tag} {name}" for name in given if name.startswith("on") or name == "style"]
        if tag in ("script", "link"):
            source = given.get("src") or given.get("href")
            self.loads += [source] if source else []
            self.inline += [] if source else [tag]
        self.inline += [tag] if tag == "style" else []


def test_the_document_has_nothing_inline_and_loads_only_its_own(client: TestClient) -> None:
    markup = Markup()
    markup.feed((FOLDER / "index.html").read_text(encoding="utf-8"))
    assert markup.inline == []
    assert len(markup.loads) >= 4
    for address in markup.loads:
        assert address.startswith("/static/")
        assert client.get(address).status_code == 200


@pytest.mark.parametrize("name", OWN_MODULES)
def test_text_becomes_only_text(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|javascript:|localStorage", text)
    assert not re.search(r"https?://", text), "the page asks no other host"
    assert text.count("\n") <= MAX_LINES


def test_vendored_files_are_those_that_were_published() -> None:
    folder = FOLDER / "vendor"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    listed = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", readme, re.MULTILINE)}
    assert set(listed) == {path.name for path in folder.iterdir()} - {"README.md"}
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    as_published = (folder / "hooks.mjs").read_bytes().replace(b'from"./preact.mjs"', b'from"preact"')
    assert hashlib.sha256(as_published).hexdigest() in readme


def test_the_wheel_takes_whole_folders() -> None:
    """The builder takes every file below a package but those that git ignores or that are excluded."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "app" in wheel["packages"]
    assert set(wheel) == {"packages"}
