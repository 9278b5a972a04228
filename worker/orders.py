"""What a trainer, ranker or ingester is told: everything it needs, so that it never asks the database, the broker or the environment."""

from pathlib import Path

from models.config import Frozen, JobSpec, LineageEntry, Modality
from models.formula.generator import FormulaConfig
from models.transferability import Kind, TransferabilitySpec


class BaseOrder(Frozen):
    """The trained network to build on."""

    name: str
    model_id: str | None = None
    directory: Path | None = None  # its artifact, for a model of ours
    lineage: tuple[LineageEntry, ...] = ()


class TrainingOrder(Frozen):
    """One start of one job, written to the trainer's standard input."""

    job_id: str
    token: int
    parent_pid: int
    spec: JobSpec
    resolved: JobSpec | None = None  # from an earlier start: a resumed job keeps its values
    dataset_directory: Path
    dataset_sha256: str
    bases: tuple[BaseOrder, ...] = ()  # what base_model names; under auto all that may be built on, the most believed in first
    model_id: str  # the id that the model will have
    preview_model_id: str | None = None  # the id for a first answer; None: none is wanted, or there is one already
    folder: Path  # of this job: checkpoints and prepared items survive a start
    device: str
    threads: int | None = None
    checkpoint_seconds: float
    timm_dir: Path | None = None
    offline: bool = False

    @property
    def staging(self) -> Path:
        """Where this start leaves its artifact; a stale start has another place."""
        return self.folder / f"start-{self.token}"


def preview_folder(folder: Path, token: int) -> Path:
    """Return where one start of the job with this folder leaves the artifact of its first answer."""
    return folder / f"preview-{token}"


class CandidateOrder(Frozen):
    """One source that a ranking judges, beside random weights of its architecture."""

    name: str  # what base_model would say
    kind: Kind
    architecture: str
    directory: Path | None = None  # its artifact, for a model of ours
    sha256: str = ""  # of its weights, where they are known
    has_seen_dataset: bool = False  # some of the clips are among those that it, or what it was built on, was trained on


class SkippedCandidate(Frozen):
    """A source that was asked for and can't be judged."""

    candidate: str
    code: str
    message: str


class RankingOrder(Frozen):
    """One start of one ranking, written to the ranker's standard input."""

    job_id: str
    token: int
    parent_pid: int
    spec: TransferabilitySpec
    dataset_directory: Path
    dataset_blob: str
    candidates: tuple[CandidateOrder, ...]
    skipped: tuple[SkippedCandidate, ...] = ()
    embeddings: Path  # folder of kept vectors, shared by all rankings
    device: str
    threads: int | None = None
    timm_dir: Path | None = None
    offline: bool = False


class PackingOrder(Frozen):
    """One start of making one packed dataset."""

    job_id: str
    token: int
    parent_pid: int
    folder: Path  # of this job
    processes: int | None = None  # that make items; None: one a processor

    @property
    def staging(self) -> Path:
        """Where this start leaves the packed dataset; a stale start has another place."""
        return self.folder / f"start-{self.token}"


class GenerateOrder(PackingOrder):
    """One start of drawing one dataset, written to the generator's standard input."""

    config: FormulaConfig


class IngestOrder(PackingOrder):
    """One start of reading one archive, written to the ingester's standard input. Sizes in bytes, times in seconds."""

    archive: Path
    upload_format: str
    modality: Modality | None = None  # None: found from the files
    parent_directory: Path | None = None  # the packed dataset to extend
    sample_rate: int  # Hz of stored sounds
    image_side: int  # pixels of stored pictures' shorter side
    max_members: int
    max_expanded_bytes: int
    max_member_bytes: int
    max_archive_ratio: float
    max_sound_bytes: int
    max_sound_seconds: float
    max_image_bytes: int
    max_image_pixels: int
    max_image_side: int
