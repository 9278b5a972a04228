"""Speech from text, by the espeak-ng that the espeakng-loader wheel carries (speak_lib.h and espeak_ng.h are the interface)."""

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import UnavailableError

_AUDIO_OUTPUT_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback before espeak_Synth returns
_INITIALIZE_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report missing data instead of ending the process
_CHARS_UTF8 = 1  # espeakCHARS_UTF8
_POS_CHARACTER = 1  # espeak_POSITION_TYPE
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_OK = 0  # EE_OK
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """One speaker."""

    name: str  # espeak's: language, and a variant after a plus sign
    words_per_minute: int = 160  # 80 to 450
    pitch: int = 50  # 0 to 100
    pitch_range: int = 50  # 0: monotone, 100: lively

    @property
    def speaker(self) -> str:
        """A name that suits a column of a table and a file name."""
        return self.name.replace("+", "-").lower()


class Synthesizer:
    """espeak-ng, whose state is one per process: use `synthesizer()`."""

    def __init__(self) -> None:
        """Raises UnavailableError when the wheel is missing or does not fit the machine."""
        self._library = _load()
        path = self._data_path.encode()
        self.sample_rate = int(self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, path, _INITIALIZE_DONT_EXIT))
        if self.sample_rate <= 0:
            raise UnavailableError("espeak-ng can't read its data", hint="reinstall espeakng-loader")
        self._pieces: list[NDArray[np.int16]] = []
        self._callback = _CALLBACK(self._take)  # kept: the library holds a bare pointer to it
        self._library.espeak_SetSynthCallback(self._callback)

    @property
    def _data_path(self) -> str:
        import espeakng_loader  # noqa: PLC0415 - an extra of the demo

        return str(espeakng_loader.get_data_path())

    def say(self, text: str, voice: Voice, *, seed: int = 0) -> NDArray[np.int16]:
        """Return `text` spoken: int16, shape (n_samples,), mono at `sample_rate`.

        The same calls in the same order give the same samples in every process; a call by itself does not, as the voice's flutter
        goes on from one utterance to the next. Raises UnavailableError for a voice that this build does not have.
        """
        library = self._library
        if library.espeak_SetVoiceByName(voice.name.encode()) != _OK:
            raise UnavailableError(f"espeak-ng has no voice {voice.name!r}")
        for parameter, value in ((_RATE, voice.words_per_minute), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        library.espeak_ng_SetRandSeed(seed)  # breath and flutter are random, and would differ from run to run
        self._pieces = []
        encoded = text.encode()
        library.espeak_Synth(encoded, len(encoded) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        library.espeak_Synchronize()
        return np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)

    def _take(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count:
            self._pieces.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0


@functools.cache
def synthesizer() -> Synthesizer:
    """Return the process's synthesizer. Raises UnavailableError."""
    return Synthesizer()


def _load() -> ctypes.CDLL:
    try:
        import espeakng_loader  # noqa: PLC0415 - an extra of the demo

        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except (ImportError, OSError) as error:
        raise UnavailableError(f"espeak-ng is not here: {error}", hint="pip install 'synesthesia[demo]'") from error
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    size = ctypes.c_uint
    positions = [size, ctypes.c_int, size, size]  # position, its type, end position, flags
    library.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, *positions, ctypes.POINTER(size), ctypes.c_void_p]
    return library
