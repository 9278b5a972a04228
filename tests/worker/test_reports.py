"""One JSON object a line, whatever libraries print."""

import io
import json
import subprocess
import sys

import pytest

from worker.reports import Reporter


def test_a_report_is_one_line_and_is_there_at_once() -> None:
    class Stream(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    stream = Stream()
    Reporter(stream)("message", message="two\nlines", level="info")
    assert stream.flushed.count("\n") == 1
    assert json.loads(stream.flushed) == {"kind": "message", "message": "two\nlines", "level": "info"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_no_json(value: float) -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="JSON"):
        Reporter(stream)("metrics", loss=value)
    assert stream.getvalue() == ""


def test_what_else_is_printed_goes_to_standard_error() -> None:
    code = """
import os, sys
from worker.reports import claim_stdout
report = claim_stdout()
print("a library prints")
os.system("echo a program prints")
os.write(1, b"a C library prints\\n")
report("progress", step=1)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert ended.stdout == '{"kind": "progress", "step": 1}\n'
    assert ended.stderr.count("prints") == 3


def test_a_supervisor_that_is_gone_ends_the_child() -> None:
    code = "from worker.reports import claim_stdout\nreport = claim_stdout()\nwhile True: report('progress', step=1)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(10) != 0
