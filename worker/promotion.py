"""Whether a model may be given a name: only one that still answers as it did when it was made.

Golden clips, models/golden.py, are replayed before an alias moves, and what differs refuses the move. Here, by whoever publishes a model,
as files are not to be read within the transaction that names it; in app/, by whoever is asked to move an alias.
"""

from pathlib import Path
from typing import Any

from models.config import ModelManifest
from models.engine import Engine
from models.errors import ArtifactError
from models.golden import GoldenReport, replay_stored
from worker.errors import ConflictError

REFUSAL = "promotion_refused"  # key in a model's evaluation: why no alias moves to it by itself


def refusal(folder: Path, manifest: ModelManifest) -> str | None:
    """Return why a model whose artifact is in `folder` gets no name, None where it answers as it should or has no golden clips."""
    if manifest.golden is None:
        return None
    try:
        report = replay_stored(Engine.load(folder), folder)
    except (ArtifactError, OSError) as error:
        return f"its artifact can't be used: {error}"
    return None if report is None or report.passed else report.sentence()


def kept_refusal(why: str | None) -> dict[str, Any]:
    """Return what is added to a model's evaluation, so that those who move aliases later know without its files."""
    return {REFUSAL: why} if why else {}


def require_passed(model_id: str, report: GoldenReport | None) -> None:
    """Raise ConflictError (promotion_refused) where a replay found other answers than the model gave when it was made."""
    if report is not None and not report.passed:
        raise ConflictError(
            f"model {model_id} does not answer as when it was made: {report.sentence()}", code="promotion_refused", param="model",
            hint="go back to the libraries that it was made with, or train it again with those of today; the alias stays where it is",
        )  # fmt: skip
