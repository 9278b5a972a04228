"""What a trainer or an ingester is told: everything it needs, so that it never asks the database, the broker or the environment."""

from pathlib import Path

from models.config import Frozen, JobSpec, LineageEntry, Modality


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
    base: BaseOrder | None = None
    model_id: str  # the id that the model will have
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


class IngestOrder(Frozen):
    """One start of reading one archive, written to the ingester's standard input. Sizes in bytes, times in seconds."""

    job_id: str
    token: int
    parent_pid: int
    folder: Path  # of this job
    archive: Path
    upload_format: str
    modality: Modality | None = None  # None: found from the files
    parent_directory: Path | None = None  # the packed dataset to extend
    sample_rate: int  # Hz of stored sounds
    image_side: int  # pixels of stored pictures' shorter side
    processes: int | None = None  # that decode; None: one a processor
    max_members: int
    max_expanded_bytes: int
    max_member_bytes: int
    max_archive_ratio: float
    max_sound_bytes: int
    max_sound_seconds: float
    max_image_bytes: int
    max_image_pixels: int
    max_image_side: int

    @property
    def staging(self) -> Path:
        """Where this start leaves the packed dataset; a stale start has another place."""
        return self.folder / f"start-{self.token}"
