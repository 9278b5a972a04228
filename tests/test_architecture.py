"""The walls of the house: what may stand where, how long it may get, and what must never be. Imports are import-linter's part."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("app", "worker", "models")
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if "migrations/versions" not in path.as_posix() and path.name != "client_types.py"  # which is written by a program
)
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
MAX_WITH_DOCSTRING = 60


def tree_of(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), module)


def functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree_of(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1 if ast.get_docstring(node) else 0


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_short(module: str) -> None:
    lines = (ROOT / module).read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_FILE_LINES, f"{module} has {lines} lines"
    for node in functions(module):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        assert length <= MAX_WITH_DOCSTRING, f"{module}:{node.name} has {length} lines"
        assert length - docstring_lines(node) <= MAX_FUNCTION_LINES, f"{module}:{node.name} has {length} lines"


@pytest.mark.parametrize("room", ROOMS)
def test_package_files_stay_empty(room: str) -> None:
    assert [path for path in (ROOT / room).rglob("__init__.py") if path.read_text().strip()] == []


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"\bimport pickle\b|torch\.load\(|allow_pickle=True", ()),
        (r"\.extractall\(", ()),
        (r"(?<![\w.])print\(", ()),
        (r"\bHTTPException\b|\bstatus_code\b", ("app/",)),
        (r"os\.environ|os\.getenv", ("worker/settings.py", "app/environment.py", "worker/processes.py")),  # the last sets, for a library
        (
            r"except Exception|except BaseException|except:",
            ("app/gate.py", "app/hearing.py", "app/readiness.py", "worker/datasets.py", "worker/keeper.py", "worker/supervisor.py"),
        ),
        (r"\bimport_module\((?!\")|__import__\(", ()),
        (r"shell=True|os\.system\(", ()),
    ],
)
def test_what_must_never_be(pattern: str, allowed: tuple[str, ...]) -> None:
    found = [module for module in MODULES if re.search(pattern, (ROOT / module).read_text(encoding="utf-8"))]
    assert [module for module in found if not module.startswith(allowed or ("nowhere",))] == []


def test_public_tensor_functions_tell_shapes() -> None:
    silent = []
    for module in MODULES:
        if not module.startswith("models/"):
            continue
        for node in functions(module):
            annotations = [argument.annotation for argument in node.args.args if argument.annotation] + (
                [node.returns] if node.returns else []
            )
            mentions = any(
                re.search(r"\b(Tensor|ndarray|NDArray|Waveform|Pixels)\b", ast.unparse(annotation)) for annotation in annotations
            )
            plain_return = node.name.startswith("_") or "Mapping" in "".join(ast.unparse(annotation) for annotation in annotations)
            documented = ast.get_docstring(node) or ""
            if mentions and not plain_return and not re.search(r"shape|\(batch|\(n,|\(n_|\(\)|state_dict|tensors|\bstate\b", documented):
                silent.append(f"{module}:{node.name}")
    assert silent == []


def test_modules_import_without_side_effects_on_the_way() -> None:
    """Statements at module level are definitions: no call stands alone but the guarded main()."""
    loud = []
    for module in MODULES:
        for node in tree_of(module).body:
            calls = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            if calls and module != "worker/migrations/env.py":  # Alembic runs that file, nobody imports it
                loud.append(f"{module}:{node.lineno}: {ast.unparse(node)}")
    assert loud == []


def test_every_registry_covers_its_names() -> None:
    from models.config import OptimizerName, ScheduleName
    from models.optimizers import OPTIMIZERS
    from models.schedules import SCHEDULES

    assert set(get_args(OptimizerName)) == set(OPTIMIZERS)
    assert set(get_args(ScheduleName)) == set(SCHEDULES)


def test_every_field_of_a_job_is_read_somewhere() -> None:
    """An option that does nothing is worse than none."""
    from models.config import AugmentationConfig, FeatureConfig, Hyperparameters, JobSpec, TransferConfig

    source = "\n".join((ROOT / module).read_text(encoding="utf-8") for module in MODULES if module != "models/config.py")
    for config in (JobSpec, TransferConfig, Hyperparameters, FeatureConfig, AugmentationConfig):
        unread = [name for name in config.model_fields if not re.search(rf"\.{name}\b", source)]
        assert unread == [], f"{config.__name__}: {unread}"
