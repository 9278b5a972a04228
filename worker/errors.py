"""Errors of state and queue, beside those of models/errors.py that are raised here too.

SynesthesiaError
├── StateError             the thing exists or not, but not as the caller needs it
│   ├── NotFoundError      no such id
│   ├── GoneError          deleted
│   └── ConflictError      in a state that does not allow this
└── CapacityError          try later; `retry_after` in seconds
    ├── QuotaError         the caller has as much as one may have
    ├── QueueFullError     too many queued jobs
    ├── OverloadedError    too much is running
    ├── DependencyError    database, broker or storage does not answer
    └── StorageFullError   the disk is at its watermark
"""

from models.errors import SynesthesiaError


class StateError(SynesthesiaError):
    """The request is sound, the state of what it names does not allow it."""

    code = "state_conflict"


class NotFoundError(StateError):
    """No such thing; also the answer for what belongs to somebody else."""

    code = "not_found"


class GoneError(StateError):
    """It was here and has been deleted."""

    code = "deleted"


class ConflictError(StateError):
    """It is in a state, or in use, so that this can't be done now."""

    code = "conflict"


class CapacityError(SynesthesiaError):
    """The service is short of something; the same request may succeed later."""

    code = "overloaded"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = 5, hint: str | None = None) -> None:
        """`retry_after` is in seconds, for the header of that name."""
        super().__init__(message, code=code, hint=hint)
        self.retry_after = retry_after


class QuotaError(CapacityError):
    """The caller has as much, or asks as often, as one owner may; the service has room for others."""

    code = "quota"


class QueueFullError(CapacityError):
    """As many jobs are queued as the service keeps."""

    code = "queue_full"


class OverloadedError(CapacityError):
    """As much is running and waiting as the service bears."""

    code = "overloaded"


class DependencyError(CapacityError):
    """Database, broker or storage does not answer."""

    code = "dependency_unavailable"


class StorageFullError(CapacityError):
    """The disk has reached its watermark."""

    code = "insufficient_storage"
