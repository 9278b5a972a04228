"""Whether a service may listen where its settings say: never where strangers could come in without a key."""

from models.errors import ConfigError
from worker.keys import has_key
from worker.settings import Settings

_LEAST_KEY = 16  # characters. Wrong keys are counted by address, and behind a proxy many callers may share one: length has to do it
_MAKE_ONE = "`synesthesia keys create --scope admin` makes a key; SYNESTHESIA_API_KEY sets one"


def check_exposure(settings: Settings) -> None:
    """Refuse settings that would let strangers in. Raises ConfigError; called before a socket is bound."""
    if not settings.loopback and not _has_key(settings):
        raise ConfigError(
            f"host {settings.host} can be reached from other machines, and there is no key", param="host",
            hint=f"{_MAKE_ONE}; or bind to 127.0.0.1",
        )  # fmt: skip
    if not settings.loopback and settings.api_key is not None and len(settings.api_key.get_secret_value()) < _LEAST_KEY:
        raise ConfigError(
            f"SYNESTHESIA_API_KEY is shorter than {_LEAST_KEY} characters, and could be guessed from other machines", param="api_key",
            hint="`openssl rand -hex 32` makes a long one",
        )  # fmt: skip
    if settings.auth == "off" and not settings.loopback:
        raise ConfigError("auth off is for loopback only", param="auth", hint="leave SYNESTHESIA_AUTH at auto")
    if settings.auth == "keys" and not _has_key(settings):
        raise ConfigError("auth keys is set, but there is no key", param="auth", hint=_MAKE_ONE)


def _has_key(settings: Settings) -> bool:
    return settings.api_key is not None or has_key()
