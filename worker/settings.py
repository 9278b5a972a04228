"""Every setting, typed, in one class; the only module that reads the environment. `.env.example` lists them for people."""

import functools
import socket
from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 2**20
GIB = 2**30


class Settings(BaseSettings):
    """Read once per process; sizes in bytes, times in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="SYNESTHESIA_", frozen=True, populate_by_name=True)

    # Where things are. Nothing set: SQLite, files and a Valkey server of its own below data_dir.
    data_dir: Path = Path("data")
    database_url: str | None = Field(None, validation_alias=AliasChoices("database_url", "DATABASE_URL"))
    redis_url: str | None = Field(None, validation_alias=AliasChoices("redis_url", "REDIS_URL"))
    blob_url: str | None = Field(None, validation_alias=AliasChoices("blob_url", "BLOB_URL"), description="file:// or s3://")

    # Who may call.
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: SecretStr | None = Field(None, description="a key with admin scope; needed beyond loopback")
    auth: Literal["auto", "keys", "off"] = "auto"
    auth_failures_a_minute: int = Field(10, ge=1, description="wrong keys from one address; what comes beyond is not looked up")

    # What one owner may have at once; administrators, and an open service, have no quota.
    max_owner_jobs: int = Field(100, ge=0, description="queued or paused")
    max_owner_datasets: int = Field(1000, ge=0)
    max_owner_bytes: int = Field(100 * GIB, ge=0, description="of datasets, as they came, and models")
    owner_predictions_a_second: float | None = Field(None, gt=0, description="in all API processes of a machine together; none unless set")

    # Who is told of the end of jobs.
    webhook_url: str | None = Field(None, description="told of the end of every job")
    webhook_secret: SecretStr | None = Field(None, description="messages are signed with it; whsec_<base64>, or any text")
    webhook_private: bool = Field(False, description="whether messages may go to addresses that are not public")

    # Where training runs.
    device: Literal["auto", "cpu", "cuda"] = "auto"
    hf_hub_offline: bool = Field(False, validation_alias=AliasChoices("hf_hub_offline", "HF_HUB_OFFLINE"))
    timm_dir: Path | None = Field(None, description="a folder of <name>.safetensors, looked up before the hub")
    threads: int | None = Field(None, description="CPU threads of a trainer; default: all cores")

    # Limits of what is accepted, shown at GET /limits. Each bounds what one request can cost in memory, disk or time.
    max_json_bytes: int = 256 * 1024
    max_sound_bytes: int = 25 * MIB
    max_sound_seconds: float = 60.0
    max_batch_bytes: int = Field(512 * MIB, description="of the body of one batch")
    max_inference_bytes: int = Field(16 * MIB, description="of one request of the inference protocol: tensors, in memory at once")
    max_streams: int = Field(50, description="sound streams that one API process hears at once")
    max_image_bytes: int = 20 * MIB
    max_image_pixels: int = 25_000_000
    max_image_side: int = 8192
    max_archive_bytes: int = 2 * GIB
    max_expanded_bytes: int = 4 * GIB
    max_member_bytes: int = 64 * MIB
    max_members: int = 100_000
    max_generated_items: int = Field(1_000_000, description="pictures that one request may have drawn")
    max_archive_ratio: float = Field(200.0, description="expanded : stored, judged after the first 16 MiB")
    max_queued_jobs: int = 10_000
    body_seconds: float = Field(10.0, description="a request body may take this long, plus its size at 50 kB/s")
    min_free_fraction: float = Field(0.05, description="below this share of free disk new uploads and jobs get 507")

    collect_free_fraction: float = Field(0.15, description="below it what nothing names is removed at once, not little by little")

    # What is kept, and for how long; without a number, for ever. Jobs that models came from stay as long as these.
    keep_events_days: int | None = Field(None, ge=1, description="of jobs that have ended, but for the states they went through")
    keep_jobs_days: int | None = Field(None, ge=1, description="that have ended")
    keep_audit_days: int | None = Field(None, ge=1)

    # Packed storage.
    stored_sample_rate: int = Field(16000, description="Hz of packed sounds")
    stored_image_side: int = Field(128, description="packed pictures are scaled down to this shorter side, never up")

    # What a serving process keeps in memory.
    max_models_bytes: int = Field(GIB, description="of the engines that one API process holds ready; the least recently used go first")
    api_processes: int = Field(1, ge=1, description="that share this machine; `serve --workers` sets it")
    predict_threads: int = Field(0, ge=0, description="that make predictions in one API process; 0: its share of the cores")
    predict_wait_seconds: float = Field(2.0, gt=0, description="a prediction that could not begin within this is refused")
    warm_models: str = Field("default", description="ids and aliases, comma-separated, that an API process loads when it starts")

    # How jobs are kept alive. Tests shorten these.
    lease_seconds: float = 60.0
    heartbeat_seconds: float = 2.0
    janitor_seconds: float = 2.0
    republish_seconds: float = Field(20.0, description="a queued job that nobody claimed for this long is sent again")
    max_failures: int = 3
    stall_seconds: float = Field(600.0, description="a trainer without a step for this long is ended")
    stop_grace_seconds: float = Field(20.0, description="between SIGTERM and SIGKILL of a trainer")
    finish_seconds: float = Field(300.0, description="for evaluation and export, from when a cancelled trainer could have been killed")
    checkpoint_seconds: float = Field(10.0, description="longest stretch of training that a kill can cost")
    job_seconds: float = Field(6 * 3600.0, description="longest work on one job, all its starts together; waiting and pauses don't count")
    stray_seconds: float = Field(3600.0, description="files that nothing names stay so long, and archives that could not be read")
    idempotency_seconds: float = 24 * 3600.0

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("api_key")
    @classmethod
    def _without_blanks(cls, key: SecretStr | None) -> SecretStr | None:
        """A key from a file ends with a line break; a blank one, as compose files leave behind, is none."""
        stripped = key.get_secret_value().strip() if key else ""
        return SecretStr(stripped) if stripped else None

    @field_validator("webhook_url", "webhook_secret", "keep_events_days", "keep_jobs_days", "keep_audit_days", mode="before")
    @classmethod
    def _nothing_for_blank(cls, value: object) -> object:
        """As compose files leave behind what was not set."""
        return None if isinstance(value, str) and not value.strip() else value

    @model_validator(mode="after")
    def _with_a_secret(self) -> Self:
        """A message that nobody can tell from a forged one must not go out."""
        if self.webhook_url and self.webhook_secret is None:
            raise ValueError("SYNESTHESIA_WEBHOOK_URL needs SYNESTHESIA_WEBHOOK_SECRET, which messages are signed with")
        return self

    @property
    def resolved_database_url(self) -> str:
        """SQLAlchemy URL; SQLite below the data directory unless one is set."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'synesthesia.db'}"

    @property
    def resolved_blob_url(self) -> str:
        """Fsspec URL of the folder for uploads, packed datasets and artifacts."""
        return self.blob_url or f"file://{self.data_dir.absolute() / 'blobs'}"

    @property
    def scratch_dir(self) -> Path:
        """Local folder for uploads on their way, checkpoints and fetched copies; on the data directory's disk."""
        return self.data_dir.absolute() / "scratch"

    @property
    def embeddings_dir(self) -> Path:
        """Local folder of vectors that rankings have computed; bounded, and all of it can be computed again."""
        return self.scratch_dir / "embeddings"

    @property
    def lock_dir(self) -> Path:
        """Local folder of one lock file a running job; a free lock means a dead owner."""
        return self.data_dir.absolute() / "locks"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in ("127.0.0.1", "::1", "localhost")


@functools.cache
def get_settings() -> Settings:
    """Return the process's settings. Read once: the environment of a running process does not change."""
    return Settings()


@functools.cache
def host_name() -> str:
    """Name under which this machine owns jobs. Containers get their own, so two on one disk are two hosts."""
    return socket.gethostname()
