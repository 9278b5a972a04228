"""Clips from a microphone, here from files and from recorders that are scripts: what becomes of each, and what is said."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from app.commands import record as recording
from app.media import folder_files
from tests.app.commands.conftest import Run
from tests.conftest import tone, wav_bytes


@pytest.fixture
def clips(tmp_path: Path) -> list[str]:
    paths = []
    for number in range(4):
        path = tmp_path / f"clip{number}.wav"
        path.write_bytes(wav_bytes(tone(300 + 100 * number, 0.2)))
        paths.append(str(path))
    return paths


def from_files(clips: list[str]) -> list[str]:
    return [word for clip in clips for word in ("--from-files", clip)]


def test_a_folder_a_label_comes_out(run: Run, clips: list[str], tmp_path: Path) -> None:
    out = tmp_path / "words"
    outcome = run("record", "yes", "nö", "-o", str(out), "--clips", "2", "--json", *from_files(clips))
    assert (outcome.status, outcome.err) == (0, "")
    assert json.loads(outcome.out) == {"folder": str(out), "clips": {"yes": 2, "nö": 2}}
    names = [path.relative_to(out).as_posix() for path in folder_files(out)]
    assert names == ["nö/0001.wav", "nö/0002.wav", "yes/0001.wav", "yes/0002.wav"]
    assert (out / "nö" / "0002.wav").read_bytes() == Path(clips[3]).read_bytes()


def test_a_folder_is_added_to(run: Run, clips: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        assert run("record", "yes", "-o", str(tmp_path / "w"), "--clips", "2", *from_files(clips)).status == 0
    assert len(list((tmp_path / "w" / "yes").iterdir())) == 4


def test_too_few_files_end_it(run: Run, clips: list[str], tmp_path: Path) -> None:
    outcome = run("record", "yes", "-o", str(tmp_path / "w"), *from_files(clips))
    assert outcome.status == 1
    assert "fewer files" in outcome.err
    assert len(list((tmp_path / "w" / "yes").iterdir())) == 4


@pytest.mark.parametrize(("level", "said"), [(0.0, "silent"), (1.2, "clipped"), (0.3, "to learn from them")])
def test_bad_levels_are_pointed_out(run: Run, tmp_path: Path, level: float, said: str) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(np.clip(tone(440, 0.2, level=level), -1, 1)))
    outcome = run("record", "yes", "-o", str(tmp_path / "w"), "--clips", "1", "--from-files", str(tmp_path / "a.wav"))
    assert said in outcome.err


def test_what_is_no_sound_is_not_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    outcome = run("record", "yes", "-o", str(tmp_path / "w"), "--clips", "1", "--from-files", str(tmp_path / "a.wav"))
    assert (outcome.status, "no WAV file" in outcome.err) == (1, True)
    assert list((tmp_path / "w" / "yes").iterdir()) == []


@pytest.mark.parametrize("label", ["../x", "a/b", ".hidden", " ", "a\x00b", "a\u202eb"])
def test_labels_that_are_no_folder(run: Run, label: str) -> None:
    assert run("record", label).status == 2


def test_people_are_asked_and_may_take_one_again(run: Run, clips: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["", "r", "", "", "q"])
    monkeypatch.setattr(recording.typer, "prompt", lambda *_, **__: next(answers))
    program(tmp_path / "bin" / "arecord", f'for last; do :; done; cp "{clips[0]}" "$last"', monkeypatch)
    outcome = run("record", "yes", "no", "-o", str(tmp_path / "w"), "--clips", "2", "--json")
    assert json.loads(outcome.out)["clips"] == {"yes": 2, "no": 0}
    assert len(list((tmp_path / "w" / "yes").iterdir())) == 2


def program(path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a shell script where commands are looked for first."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def test_without_a_microphone_it_says_so(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.typer, "prompt", lambda *_, **__: "")
    program(tmp_path / "bin" / "arecord", "echo 'audio open error: No such file or directory' >&2; exit 1", monkeypatch)
    outcome = run("record", "yes", "-o", str(tmp_path / "w"))
    assert (outcome.status, outcome.out) == (1, "")
    assert sentence(outcome.err) == "error no microphone could be opened with arecord: audio open error: No such file or directory"
    assert list((tmp_path / "w" / "yes").iterdir()) == []


def sentence(err: str) -> str:
    """What is said, which is one sentence however many lines it takes on this terminal."""
    said = " ".join(err.split())
    assert "Traceback" not in said
    return said


def test_the_last_line_of_many_tells_the_reason(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.typer, "prompt", lambda *_, **__: "")
    monkeypatch.setattr(recording.shutil, "which", lambda name: name if name == "ffmpeg" else None)
    program(
        tmp_path / "bin" / "ffmpeg", "echo 'ALSA lib conf.c: evaluating' >&2; echo 'default: Input/output error' >&2; exit 5", monkeypatch
    )
    outcome = run("record", "yes", "-o", str(tmp_path / "w"))
    assert (outcome.status, outcome.out) == (1, "")
    assert sentence(outcome.err) == "error no microphone could be opened with ffmpeg: default: Input/output error"


def test_a_recorder_that_hangs_is_ended(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.typer, "prompt", lambda *_, **__: "")
    monkeypatch.setattr(recording, "_EXTRA_SECONDS", 0.1)
    program(tmp_path / "bin" / "arecord", "exec sleep 60", monkeypatch)
    outcome = run("record", "yes", "-o", str(tmp_path / "w"), "--seconds", "0.2")
    assert (outcome.status, sentence(outcome.err)) == (1, "error arecord did not end; is there a microphone?")


def test_without_a_recorder_it_says_what_to_install(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = run("record", "yes", "-o", str(tmp_path / "w"))
    assert outcome.status == 1
    assert "install one of arecord, ffmpeg" in outcome.err
