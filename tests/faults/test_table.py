"""The table itself: every proof is there, and what does not run does not count."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.page import as_page, in_readme, merged, read
from tests.faults.report import Recorder, covers, judge, line_of, main
from tests.faults.rows import Row
from tests.faults.table import ROWS
from tests.rig import ROOT

ROW = Row("name", "fault", "how", "what", ("tests/a.py::test_one", "tests/b.py"))
A, B = "tests/a.py::test_one[x]", "tests/b.py::test_two"


def test_every_proof_is_a_test() -> None:
    """Read, not collected: that takes as long as importing all there is, and `make faults` fails where a proof does not run."""
    missing = [proof for row in ROWS for proof in row.proofs if not written(proof)]
    assert missing == []


def written(proof: str) -> bool:
    path, _, name = proof.partition("[")[0].partition("::")
    tree = ast.parse((ROOT / path).read_text())
    tests = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return name in tests if name else bool(tests)


@pytest.mark.slow
def test_every_proof_can_be_collected() -> None:
    files = sorted({proof.partition("::")[0] for row in ROWS for proof in row.proofs})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", *files]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120).stdout.splitlines()
    nodes = [line.partition("@")[0] for line in collected if "::" in line]
    missing = [proof for row in ROWS for proof in row.proofs if not any(covers(proof, node) for node in nodes)]
    assert missing == [], collected[-5:]


def test_rows_have_names_of_their_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(row.proofs for row in ROWS)


@pytest.mark.parametrize(
    ("outcomes", "survived", "words"),
    [
        ({A: "passed", B: "passed"}, True, "2 tests passed"),
        ({A: "passed", B: "failed"}, False, "test_two failed"),
        ({A: "skipped", B: "passed"}, False, "test_one[x] skipped"),
        ({A: "passed"}, False, "tests/b.py did not run"),
        ({}, False, "test_one did not run"),
    ],
)
def test_a_row_survives_only_by_tests_that_passed(outcomes: dict[str, str], survived: bool, words: str) -> None:
    found = judge(ROW, Recorder(outcomes, dict.fromkeys(outcomes, 0.5)))
    assert found.survived == survived
    assert words in found.words
    assert ("| yes |" in as_page([line_of(found)])) == survived


def test_one_name_is_not_the_beginning_of_another() -> None:
    assert covers("tests/a.py::test_one", "tests/a.py::test_one[x]")
    assert not covers("tests/a.py::test_one", "tests/a.py::test_one_more")
    assert not covers("tests/a.py", "tests/a.pyx::test_one")


def test_a_failure_after_the_end_of_a_test_counts() -> None:
    recorder = Recorder()
    for when, outcome in (("setup", "passed"), ("call", "passed"), ("teardown", "failed")):
        recorder.pytest_runtest_logreport(pytest.TestReport(A, ("", 0, ""), {}, outcome, None, when, duration=0.1))  # type: ignore[arg-type] - literals
    assert recorder.outcomes == {A: "failed"}


_BROKEN = """
import sys
from tests.faults import report
from tests.faults.rows import Row

report.ROWS = tuple(Row(name, "a fault", "injected", "survived", (f"test_rows.py::test_{name}",)) for name in ("good", "bad"))
sys.exit(report.main(sys.argv[1:]))
"""


def run_report(*command: str, cwd: Path = ROOT) -> tuple[int, str]:
    """Run the program as `make faults` does; return its exit status and what it said."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_program_runs_a_row_and_shows_it() -> None:
    status, said = run_report("-m", "tests.faults.report", "no-broker-binary")
    assert status == 0, said
    assert "a machine without Redis and Valkey" in said
    assert "1 test passed" in said


def test_it_fails_where_one_row_does(tmp_path: Path) -> None:
    (tmp_path / "test_rows.py").write_text("def test_good(): pass\ndef test_bad(): assert False\n")
    status, said = run_report("-c", _BROKEN, "good", "bad", cwd=tmp_path)
    assert status == 1, said
    assert "1 test passed" in said
    assert "test_bad failed" in said


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["no-such-row"])
    assert ended.value.code == 2


def test_a_run_of_some_rows_replaces_their_lines() -> None:
    rows = [Row(name, f"fault {name}", "how", "what", ("tests/a.py",)) for name in "abc"]
    failed, passed = (
        [line_of(judge(row, Recorder({"tests/a.py::t": end}, {"tests/a.py::t": 0.1}))) for row in rows] for end in ("failed", "passed")
    )
    kept = read(as_page(failed))
    assert kept == failed
    lines = merged(kept, passed[1:2], ["fault c", "fault b", "fault d"])
    assert [(line.fault, line.survived) for line in lines] == [("fault c", "**no**"), ("fault b", "yes")]
    place = "# T\n<!-- faults: written by make faults -->\nold\n<!-- end of faults -->\nmore\n"
    written = in_readme(place, lines)
    assert "old" not in written
    assert "1 of 2 faults survived" in written
    assert in_readme(written, lines) == written
