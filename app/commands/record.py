"""`synesthesia record LABEL…`: clips from the microphone, one folder a label, for `datasets create` and `train`."""

import array
import math
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from app.commands.options import JsonFlag
from app.commands.output import details_of, emit, err, plain

_QUIET_DECIBELS = -45.0  # peaks below this are a silent room
_FULL = 32767
_EXTRA_SECONDS = 10.0  # beyond the clip's own time, until a recorder that does not end is ended
_RECORDERS: dict[str, Callable[[Path, float, int], list[str]]] = {
    "arecord": lambda path, seconds, rate: [
        "arecord", "-q", "-t", "wav", "-f", "S16_LE", "-c", "1", "-r", str(rate), "--samples", str(round(seconds * rate)), str(path),
    ],
    "ffmpeg": lambda path, seconds, rate: [
        "ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-f", "alsa", "-i", "default", "-t", f"{seconds:g}",
        "-ac", "1", "-ar", str(rate), "-c:a", "pcm_s16le", str(path),
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Recorder:
    """Makes one clip: 16-bit mono WAV at `path`. Raises OSError where it can't."""

    name: str
    take: Callable[[Path], None]


def record(
    labels: Annotated[list[str], typer.Argument(help="What is said: a folder each.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write, or to add to.", file_okay=False)] = Path("recordings"),
    clips: Annotated[int, typer.Option(min=1, max=1000, help="Of each label.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.2, max=30.0, help="Length of a clip.")] = 1.5,
    rate: Annotated[int, typer.Option(min=8000, max=48000, help="Samples a second.")] = 16000,
    from_files: Annotated[
        list[Path] | None, typer.Option("--from-files", help="WAV files, in turn, instead of a microphone.", exists=True, dir_okay=False)
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Record clips from the microphone, label by label, into a folder that `datasets create` takes.

    Enter begins a clip, `r` takes the one before again, `q` ends. Clips that are silent or clipped are pointed out.
    """
    for label in labels:
        _check_label(label)
    recorder = _from_files(from_files) if from_files else find_recorder(seconds, rate)
    made: dict[str, int] = {}
    with _typed(silent=bool(from_files)) as ask:
        for label in labels:
            made[label] = _record_label(output / label, label, clips, recorder, ask)
            if made[label] < clips:
                break
    emit({"folder": str(output), "clips": made}, as_json=as_json, table=details_of({"folder": output, "clips": made}))
    if not as_json:
        err.print(plain(f"to learn from them: synesthesia train {output}"), soft_wrap=True)


def find_recorder(seconds: float, rate: int) -> Recorder:
    """Return what records on this machine. Raises OSError where nothing does."""
    for name, command in _RECORDERS.items():
        if shutil.which(name):
            return Recorder(name, lambda path, command=command: _run(command(path, seconds, rate), seconds))  # type: ignore[misc]  # bound now
    raise OSError(f"nothing here records: install one of {', '.join(_RECORDERS)} (ALSA's tools or FFmpeg), or record in the browser, at /")


def peak_decibels(path: Path) -> float:
    """Return the highest level of a 16-bit WAV file, 0 being the most that fits. Raises OSError for a file of another kind."""
    try:
        with wave.open(str(path), "rb") as source:
            if source.getsampwidth() != 2:
                raise OSError(f"{path} is not 16-bit")
            samples = array.array("h", source.readframes(source.getnframes()))
    except (wave.Error, EOFError) as error:
        raise OSError(f"{path} is no WAV file: {error}") from error
    if sys.byteorder == "big":
        samples.byteswap()
    peak = max((abs(sample) for sample in samples), default=0)
    return 20.0 * math.log10(max(peak, 1) / _FULL)


def _record_label(folder: Path, label: str, clips: int, recorder: Recorder, ask: Callable[[str], str]) -> int:
    """Record the clips of one label; return how many were made before `q`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (name for name in (folder / f"{number:04d}.wav" for number in count(1)) if not name.exists())
    made: list[Path] = []
    while len(made) < clips:
        answer = ask(f"{label!r}, clip {len(made) + 1} of {clips}: Enter records{', r: the last one again' if made else ''}, q: end  ")
        if answer == "q":
            break
        if answer == "r" and made:
            made.pop().unlink()
            continue
        path = next(names)
        _take(recorder, path)
        made.append(path)
    return len(made)


def _take(recorder: Recorder, path: Path) -> None:
    """Record a clip that appears only when it is whole, and say where it is of no use."""
    draft = path.with_suffix(".part")
    try:
        recorder.take(draft)
        level = peak_decibels(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    if level < _QUIET_DECIBELS:
        err.print(plain(f"  that was silent (peak {level:.0f} dB): is the microphone on? r takes it again"))
    elif level > -0.1:
        err.print(plain("  that was too loud: it is clipped; r takes it again"))


def _run(command: list[str], seconds: float) -> None:
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _EXTRA_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} did not end; is there a microphone?") from error
    if outcome.returncode:
        reason = (outcome.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise OSError(f"no microphone could be opened with {command[0]}: {reason}")


def _from_files(files: list[Path]) -> Recorder:
    left = iter(files)

    def take(path: Path) -> None:
        source = next(left, None)
        if source is None:
            raise OSError("there are fewer files than clips to be made")
        shutil.copyfile(source, path)

    return Recorder("files", take)


@contextmanager
def _typed(*, silent: bool) -> Iterator[Callable[[str], str]]:
    """Give what asks a person; with files for a microphone nobody is asked."""
    yield (
        (lambda _: "")
        if silent
        else (lambda question: str(typer.prompt(question, default="", show_default=False, prompt_suffix="", err=True)).strip())
    )


def _check_label(label: str) -> None:
    """Raise BadParameter for a label that can't be a folder's name."""
    if not label.strip() or label.startswith(".") or any(character in label for character in "/\\\0") or not label.isprintable():
        raise typer.BadParameter(f"{label!r} can't be a folder's name: no slash, no dot at its beginning, nothing that does not print")
