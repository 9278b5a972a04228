"""From raw rows to tables: means over seeds with their intervals, gains pair by pair, and how soon scratch's end is reached."""

import datetime as dt
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.machine import machine

Row = dict[str, Any]
_LIBRARIES = ("torch", "numpy", "onnxruntime", "scikit-learn")
# Student's t at 97.5 % by degrees of freedom.
_T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def curve_report(archive: str, rows: Sequence[Row]) -> str:
    """Return the learning curve of one archive in markdown."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    clips = sorted({row["clips"] for row in rows}, key=lambda value: value or math.inf)
    table = [[_clips(value), *(_mean(_of(rows, arm, value)) for arm in arms)] for value in clips]
    gains = [[_clips(value), *(_gain(rows, arm, value) for arm in arms if arm != "scratch")] for value in clips]
    taught = [arm for arm in arms if _has_course(rows, arm) and arm != "scratch"]
    speed = [[_clips(value), *(_speed(rows, arm, value) for arm in taught)] for value in clips]
    measured = rows[0]["n"] if rows else 0
    return "\n".join(
        [
            f"# {archive}: accuracy over clips a word, {dt.datetime.now(dt.UTC):%Y-%m-%d}",
            "",
            machine(_LIBRARIES),
            "",
            f"Accuracy on {measured} clips of speakers that no run has heard, %: mean over seeds, ± half of the 95 % interval.",
            "",
            *markdown(["clips a word", *arms], table),
            "",
            "Share of scratch's error that is gone, seed by seed (same clips, same measured items); 50 % is half the error:",
            "",
            *markdown(["clips a word", *(arm for arm in arms if arm != "scratch")], gains),
            "",
            "Steps after which an arm stays at or above the accuracy that scratch ends with, as a share of scratch's steps:",
            "",
            *markdown(["clips a word", *taught], speed),
            "",
        ]
    )


def speakers_report(archive: str, rows: Sequence[Row]) -> str:
    """Return the table of speakers left out in turn, in markdown."""
    arms, speakers = list(dict.fromkeys(row["arm"] for row in rows)), sorted({row["speaker"] for row in rows})
    whole = {arm: statistics.mean(row["accuracy"] for row in rows if row["arm"] == arm) for arm in arms}
    error = 1 - whole.get("scratch", math.nan)
    lines = [
        [
            arm,
            *(_spoken(rows, arm, speaker) for speaker in speakers),
            f"{100 * whole[arm]:.1f}",
            "–" if arm == "scratch" else f"{100 * (1 - (1 - whole[arm]) / error):+.0f} %",
        ]
        for arm in arms
    ]
    seeds = len({row["seed"] for row in rows})
    return "\n".join(
        [
            f"# {archive}: a speaker left out, {dt.datetime.now(dt.UTC):%Y-%m-%d}",
            "",
            machine(_LIBRARIES),
            "",
            f"Accuracy on all clips of a speaker, %, trained on those of the {len(speakers) - 1} others; {seeds} seed{'s' * (seeds > 1)}.",
            "",
            *markdown(["arm", *(f"speaker {speaker}" for speaker in speakers), "mean", "scratch's error that is gone"], lines),
            "",
        ]
    )


def regret_report(rows: Sequence[Row], measured: Mapping[tuple[Any, ...], Mapping[str, float]]) -> str:
    """Return what `auto` chose in each case and lost by it, in markdown; `measured` is case (with the arm auto) → arm → accuracy."""
    useless = {_case(row): row["chosen"] for row in rows if row["arm"] != "auto"}
    raced = [(row, measured[(row["archive"], "auto", *_case(row)[1:])]) for row in rows if row["arm"] == "auto"]
    lost = [100 * (max(arms.values()) - arms[row["chosen"]]) for row, arms in raced]
    lines = [
        [
            row["archive"] if row["speaker"] is None else f"{row['archive']}, without speaker {row['speaker']}",
            *(_clips(row["clips"]), str(row["seed"]), *(f"{100 * arms[arm]:.1f}" for arm in ("scratch", "bundled"))),
            *(row["chosen"], f"{points:.1f}", useless.get(_case(row), "–")),
        ]
        for (row, arms), points in zip(raced, lost, strict=True)
    ]
    refused = sum(chosen == "scratch" for chosen in useless.values())
    summary = (
        f"Points of accuracy lost against the better arm: {statistics.mean(lost):.2f} in the mean of {len(lost)} cases, "
        f"{np.percentile(lost, 95):.1f} at the 95th percentile. Beside a source that has learnt random labels, scratch was chosen "
        f"{refused} times of {len(useless)}."
    )
    columns = ["set", "clips a word", "seed", "scratch", "bundled", "auto chose", "lost", "beside a useless source"]
    title = f"# What auto loses by choosing, {dt.datetime.now(dt.UTC):%Y-%m-%d}"
    return "\n".join([title, "", machine(_LIBRARIES), "", summary, "", *markdown(columns, lines), ""])


def reject_report(rows: Sequence[Row]) -> str:
    """Return what rejecting cost and kept out, in markdown."""
    shares = ("accuracy", "answered_right", "answered_wrong", "lost", "accepted_noise", "accepted_words")
    told = [{**row, "lost": row["accuracy"] - row["answered_right"]} for row in sorted(rows, key=lambda row: row["seed"])]
    lines = [[str(row["seed"]), *(f"{100 * row[name]:.1f}" for name in shares)] for row in told]
    lines.append(["mean", *(f"{100 * statistics.mean(row[name] for row in told):.1f}" for name in shares)])
    counts, asked = rows[0]["n"], rows[0]["asked"]
    columns = ["seed", "right if all are answered", "answered, right", "wrong", "lost", "noise accepted", "unheard words accepted"]
    said = (
        f"Of {counts['known']} clips of ten words by validation speakers, {counts['words']} of the ten other words by the same speakers, "
        f"and {counts['noise']} of noise, tones, hum, clicks and near-silence, %. A seed draws the words that are learnt."
    )
    return "\n".join(
        [
            f"# Rejecting what is none of ten words, {100 * asked:g} % asked, {dt.datetime.now(dt.UTC):%Y-%m-%d}",
            "",
            machine(_LIBRARIES),
            "",
            said,
            "",
            *markdown(columns, lines),
            "",
        ]
    )


def _case(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("archive", "clips", "seed", "speaker"))


def _spoken(rows: Sequence[Row], arm: str, speaker: int) -> str:
    found = [row["accuracy"] for row in rows if (row["arm"], row["speaker"]) == (arm, speaker)]
    return f"{100 * statistics.mean(found):.1f}" if found else "–"


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table's lines."""
    return [f"| {' | '.join(map(str, row))} |" for row in (columns, ["---"] * len(columns), *rows)]


def _of(rows: Sequence[Row], arm: str, clips: int | None) -> dict[int, Row]:
    return {row["seed"]: row for row in rows if row["arm"] == arm and row["clips"] == clips}


def _clips(value: int | None) -> str:
    return "all" if value is None else str(value)


def _mean(found: dict[int, Row]) -> str:
    values = [100 * row["accuracy"] for row in found.values()]
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.1f} (one seed)"
    return f"{statistics.mean(values):.1f} ± {_half_width(values):.1f}"


def _half_width(values: Sequence[float]) -> float:
    return _T_95.get(len(values) - 1, 1.96) * statistics.stdev(values) / math.sqrt(len(values))


def _gain(rows: Sequence[Row], arm: str, clips: int | None) -> str:
    scratch, found = _of(rows, "scratch", clips), _of(rows, arm, clips)
    seeds = sorted(scratch.keys() & found.keys())
    if not seeds:
        return "–"
    gone = [1 - (1 - found[seed]["accuracy"]) / max(1e-9, 1 - scratch[seed]["accuracy"]) for seed in seeds]
    return f"{100 * statistics.mean(gone):+.0f} %"


def _has_course(rows: Sequence[Row], arm: str) -> bool:
    return any(row["arm"] == arm and row.get("course") for row in rows)


def _speed(rows: Sequence[Row], arm: str, clips: int | None) -> str:
    scratch, found = _of(rows, "scratch", clips), _of(rows, arm, clips)
    shares = [_share(scratch[seed], found[seed]) for seed in sorted(scratch.keys() & found.keys())]
    reached = [share for share in shares if share is not None]
    if not shares:
        return "–"
    return f"{statistics.mean(reached):.2f}" if len(reached) == len(shares) else f"{len(reached)} of {len(shares)} seeds reach it"


def _share(scratch: Row, found: Row) -> float | None:
    """Return the step from which on `found` is at least as good as scratch's last looked-at accuracy, in shares of scratch's steps."""
    goal, first = scratch["course"][-1][1], None
    for step, accuracy in found["course"]:
        first = (first or step) if accuracy >= goal else None
    return None if first is None else first / scratch["steps"]
