import pytest

from app.main import create_api
from app.scopes import allows, changes, needed_scope
from worker.settings import Settings

PATHS = create_api(Settings()).openapi()["paths"]
# Every operation that is more, or less, than its method tells. What is new is a change until somebody says that it leaves nothing behind.
PREDICTIONS = {
    "/predict", "/predict/batch", "/embeddings", "/spectrograms", "/explanations",
    "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer",
}  # fmt: skip
NEEDED = {
    (method.upper(), path): "admin" if path == "/audit" else "read" if method in ("get", "head") or path in PREDICTIONS else "write"
    for path, operations in PATHS.items()
    for method in operations
}


@pytest.mark.parametrize(("operation", "scope"), NEEDED.items(), ids=str)
def test_what_each_operation_needs(operation: tuple[str, str], scope: str) -> None:
    method, path = operation
    assert needed_scope(method, path.replace("{", "").replace("}", "")) == scope
    assert changes(method, path) == (scope == "write")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/audit", "admin"),
        ("HEAD", "/audit", "admin"),
        ("POST", "/audit", "admin"),
        ("WEBSOCKET", "/predict/stream", "read"),
        ("PUT", "/predict", "write"),
        ("DELETE", "/predict", "write"),
        ("POST", "/predict/", "write"),
        ("POST", "/predict\n", "write"),
        ("POST", "/jobs/x/predict", "write"),
        ("POST", "/x/v2/models/a/infer", "write"),
        ("PATCH", "/nowhere", "write"),
        ("INVENTED", "/nowhere", "write"),
        ("get", "/jobs", "write"),
    ],
)
def test_what_looks_like_less_is_a_change(method: str, path: str, scope: str) -> None:
    assert needed_scope(method, path) == scope


def test_each_scope_is_more_than_the_one_before() -> None:
    order = ("read", "write", "admin")
    assert [[allows(held, needed) for needed in order] for held in order] == [[True, False, False], [True, True, False], [True, True, True]]
