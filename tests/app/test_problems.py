"""The published list of codes against what the packages raise, by their syntax trees."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import STATUS_OF_CODE
from app.problems import TITLES

ROOT = Path(__file__).parents[2]
TREES = {path: ast.parse(path.read_text("utf-8")) for room in ("app", "worker", "models") for path in (ROOT / room).rglob("*.py")}
NODES = [(path, node) for path, tree in TREES.items() for node in ast.walk(tree)]
CODE = re.compile(r"[a-z]+(_[a-z0-9]+)*")
ERROR_KEYS = {"code", "message", "param"}  # of the errors of jobs and datasets


def code_position(node: ast.AST) -> tuple[str, int] | None:
    """The name of a function or class that takes a `code`, and where among its positional arguments."""
    if isinstance(node, ast.FunctionDef):
        names = [argument.arg for argument in node.args.args if argument.arg not in ("self", "cls")]
    elif isinstance(node, ast.ClassDef):
        names = [line.target.id for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)]
    else:
        return None
    return (node.name, names.index("code")) if "code" in names else None


TAKERS = dict(found for _, node in NODES if (found := code_position(node)) is not None)


def code_expressions(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "code")
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name in TAKERS:
            yield from node.args[TAKERS[name] : TAKERS[name] + 1]
    elif isinstance(node, ast.Dict):
        entries = {key.value: value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)}
        if entries.keys() >= ERROR_KEYS:
            yield entries["code"]
    elif isinstance(node, ast.ClassDef):
        for line in node.body:
            if isinstance(line, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "code" for target in line.targets):
                yield line.value


def literals(expression: ast.expr) -> Iterator[str]:
    keys = {id(node.slice) for node in ast.walk(expression) if isinstance(node, ast.Subscript)}
    constants = (node for node in ast.walk(expression) if isinstance(node, ast.Constant) and id(node) not in keys)
    return (node.value for node in constants if isinstance(node.value, str) and CODE.fullmatch(node.value))


RAISED: dict[str, str] = {
    code: f"{path.relative_to(ROOT)}:{expression.lineno}"
    for path, node in NODES
    for expression in code_expressions(node)
    if not isinstance(expression, ast.JoinedStr)  # {noun}_not_found: below
    for code in literals(expression)
}


def test_the_walk_sees_every_way_to_name_a_code() -> None:
    assert {"refuse", "_contradiction", "_Change"} <= TAKERS.keys()
    by_keyword, by_class, by_position, by_dictionary = "idempotency_mismatch", "queue_full", "archive_overlap", "time_limit"
    assert {by_keyword, by_class, by_position, by_dictionary, "job_not_pausable", "worker_lost"} <= RAISED.keys()


def test_every_code_that_is_raised_is_published() -> None:
    assert {code: place for code, place in RAISED.items() if code not in TITLES} == {}


def test_every_published_code_is_raised_somewhere() -> None:
    by_the_framework = set(STATUS_OF_CODE)
    assert TITLES.keys() - RAISED.keys() - by_the_framework == set()


@pytest.mark.parametrize("noun", ["dataset", "job", "model", "alias"])
def test_codes_of_absent_names_are_published(noun: str) -> None:
    assert f"{noun}_not_found" in TITLES


@pytest.mark.parametrize(("code", "title"), TITLES.items())
def test_titles_are_short_sentences_for_people(code: str, title: str) -> None:
    assert CODE.fullmatch(code)
    assert title[0].isupper()
    assert title[-1] not in ".!"
    assert len(title) < 80
