"""Before anything is timed: all servers must give the same answers."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from load import Row
from prepare import CLIPS, ROOT, clip
from servers import Running

TOLERANCE = 1e-3
_LEAST_DIFFERENCE = 0.05  # between two clips' answers: less would prove nothing about the servers


def check_answers(found: Sequence[Running], work: Path) -> list[Row]:
    """Compare every server's five likeliest labels with the engine's, clip by clip. Ends the program where one differs."""
    expected = _reference(work)
    apart = max(abs(expected[0][label] - expected[1][label]) for label in expected[0])
    if apart < _LEAST_DIFFERENCE:
        raise SystemExit(f"the model answers its clips alike (within {apart:.3f}): the check would prove nothing")
    rows = []
    for one in found:
        one.wake()
        difference = max(_difference(one, number, expected[number]) for number in range(CLIPS))
        one.freeze()
        rows.append({"server": one.server.name, "run": 0, "difference": difference})
        print(f"  {one.server.name}: within {difference:.1e} of the engine", file=sys.stderr)
    wrong = [str(row["server"]) for row in rows if not row["difference"] < TOLERANCE]
    if wrong:
        raise SystemExit(f"other answers than the engine's: {', '.join(wrong)}")
    return rows


def _difference(one: Running, number: int, expected: dict[str, float]) -> float:
    status, body = one.answer(clip(number))
    if status != 200:
        return float("inf")
    answer = json.loads(body)
    top = (answer[0] if isinstance(answer, list) else answer)["top_k"]  # BentoML answers a batch of one with a list of one
    likeliest = sorted(expected.values())[-len(top) :]
    missed = abs(sum(likeliest) - sum(entry["probability"] for entry in top)) / len(top)
    return max(missed, *(abs(entry["probability"] - expected[entry["label"]]) for entry in top))


def _reference(work: Path) -> list[dict[str, float]]:
    """Return label → probability for each clip, computed in a process of its own as this one has no engine."""
    code = (
        "import sys, json; from pathlib import Path; from models.engine import Engine; from models.audio import decode_audio\n"
        "engine = Engine.load(Path(sys.argv[1]))\n"
        "answers = [engine.predict(decode_audio(Path(name).read_bytes())).probabilities for name in sys.argv[2:]]\n"
        "print(json.dumps([dict(zip(engine.labels, map(float, answer))) for answer in answers]))\n"
    )
    paths = [work / f"clip-{number}.wav" for number in range(CLIPS)]
    for number, path in enumerate(paths):
        path.write_bytes(clip(number))
    done = subprocess.run([sys.executable, "-c", code, work / "artifact", *paths], check=True, capture_output=True, cwd=ROOT)
    answers: list[dict[str, float]] = json.loads(done.stdout)
    return answers
