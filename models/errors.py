"""Every error that models/ raises on purpose.

    SynesthesiaError                what all of them are; `code` is published in docs/errors, never renamed
    ├── InputError                  the caller's bytes or values are at fault
    │   ├── MediaError              one sound or picture
    │   │   ├── MediaTypeError      not a format that is read here
    │   │   └── MediaContentError   the right format, but broken, empty, too long, not finite …
    │   ├── DatasetError            a whole dataset can't be used
    │   └── ConfigError             a job or model description can't be carried out; `param` names the field
    ├── UnavailableError            something this machine lacks: weights, a device, a library
    ├── ArtifactError               a stored model that is damaged or of another format
    └── TrainingError               training can't go on: loss not finite, out of memory
        └── Interrupted             training was asked to stop; nothing is wrong

app/ maps the first level to HTTP statuses in one table (app/errors.py); a test walks this tree.
"""


class SynesthesiaError(Exception):
    """Base of every expected failure: a code for programs, a sentence for people."""

    code = "internal"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None, hint: str | None = None) -> None:
        """`message` says what was wrong with which value; `param` names the field or file; `hint` what to do."""
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.hint = hint


class InputError(SynesthesiaError):
    """What the caller sent can't be used as it is."""

    code = "invalid_input"


class MediaError(InputError):
    """One sound or picture can't be used."""

    code = "media_invalid"


class MediaTypeError(MediaError):
    """The bytes are in no format that is read here."""

    code = "media_type_unsupported"


class MediaContentError(MediaError):
    """The format is known, the content is broken, empty or beyond a limit."""

    code = "media_unreadable"


class DatasetError(InputError):
    """A dataset as a whole can't be used: no items, a label without items, one label only."""

    code = "dataset_invalid"


class ConfigError(InputError):
    """A job or model description asks for something that does not exist or does not fit together."""

    code = "config_invalid"


class UnavailableError(SynesthesiaError):
    """This machine lacks something that was asked for: weights, a device, an optional library."""

    code = "unavailable"


class ArtifactError(SynesthesiaError):
    """A stored model is damaged, incomplete or of another format."""

    code = "artifact_invalid"


class TrainingError(SynesthesiaError):
    """Training can't go on: the loss is not finite, or memory has run out."""

    code = "training_failed"


class Interrupted(TrainingError):  # noqa: N818 - not an error for its user: the checkpoint is written, the job goes on later
    """Training was asked to stop and did so at a step boundary."""

    code = "interrupted"
