"""Encoded sound → blocks of samples: one opener for each container, found by the first bytes and never by a name.

A closed table, because FFmpeg's own guessing would also open playlists and other files that name further files.
The opener is bound to the container: a FLAC that libsndfile refuses is not tried again with FFmpeg, which conceals broken frames.
The libraries are imported by the first sound that needs them: a service that hears uncompressed WAV starts 50 ms sooner.
"""

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import MediaContentError, MediaTypeError
from models.riff import PCM, is_riff_wave, read_riff

if TYPE_CHECKING:
    import av
    import soundfile

Block = np.ndarray[Any, np.dtype[np.float32]]
# Frames decoded at a time: a bomb is noticed after at most this many.
BLOCK_FRAMES = 65536


@dataclass(frozen=True)
class SoundStream:
    """An open sound: what its header says, and an iterator that decodes as it is read."""

    container: str
    rate: int
    channels: int
    declared_frames: int | None
    """Samples a channel that the header promises; None where it does not say."""
    tolerance: int
    """So many frames may be missing without the file being cut: encoders pad, and round their durations."""
    blocks: Iterator[Block]
    """float32 arrays of shape (frames, channels), full scale 1."""
    on_grid: bool = False
    """Whether every sample is a multiple of 1/32768 already."""


Opener = Callable[[bytes], AbstractContextManager[SoundStream]]


def sniff_container(data: bytes) -> str:
    """Return the container's name told by the first bytes. Raises MediaTypeError when it is none that is read here."""
    for name, (matches, _) in CONTAINERS.items():
        if matches(data):
            return name
    raise MediaTypeError("The bytes are no sound that is read here.", hint="Send WAV, FLAC, Ogg (Vorbis, Opus), MP3, M4A/MP4, AAC or WebM.")


@contextmanager
def open_sound(data: bytes) -> Iterator[SoundStream]:
    """Open the sound for decoding.

    Raises MediaTypeError for an unknown container, MediaContentError (audio_unreadable, audio_truncated, audio_empty,
    audio_channels) for a broken one; the errors of libsndfile and FFmpeg are translated, also those raised while `blocks` is read.
    """
    _, opener = CONTAINERS[sniff_container(data)]
    with decoder_errors(), opener(data) as stream:
        yield stream


@contextmanager
def decoder_errors() -> Iterator[None]:
    """Turn what the decoders raise for broken content into our own error; what they raise for a bug of ours passes."""
    try:
        yield
    except _decoder_errors() as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        message = f"The sound can't be decoded: {reason}" if "BytesIO" not in reason else "The sound can't be decoded."
        raise MediaContentError(message, code="audio_unreadable") from error


@functools.cache
def _decoder_errors() -> tuple[type[Exception], ...]:
    """Return the roots of what libsndfile and PyAV raise for content, and PyAV's answer to text in a file that is not UTF-8."""
    import av  # noqa: PLC0415 - see above
    import soundfile  # noqa: PLC0415

    return soundfile.SoundFileError, av.error.FFmpegError, UnicodeDecodeError


@contextmanager
def _open_wav(data: bytes) -> Iterator[SoundStream]:
    sound = read_riff(data)
    if sound.uncompressed:
        blocks = (sound.samples() for _ in range(1))  # lazily, so that limits are checked first
        yield SoundStream("wav", sound.rate, sound.channels, sound.frames, 0, blocks, on_grid=sound.tag == PCM and sound.bits <= 16)
    else:
        with _soundfile_opener("wav", _WAV_CODEC_FRAMES)(data) as stream:
            yield stream


def _soundfile_opener(container: str, tolerance: int | None) -> Opener:
    """Make an opener that reads through libsndfile; `tolerance` None: the header's count is no promise."""

    @contextmanager
    def opener(data: bytes) -> Iterator[SoundStream]:
        import soundfile  # noqa: PLC0415 - see above

        with soundfile.SoundFile(_SafeBytesIO(data)) as file:
            declared = None if tolerance is None or file.frames <= 0 else int(file.frames)
            on_grid = file.subtype in ("PCM_16", "PCM_S8", "PCM_U8")
            blocks = _soundfile_blocks(file)
            yield SoundStream(container, file.samplerate, file.channels, declared, tolerance or 0, blocks, on_grid=on_grid)

    return opener


def _soundfile_blocks(file: "soundfile.SoundFile") -> Iterator[Block]:
    while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
        yield block


class _SafeBytesIO(io.BytesIO):
    """libsndfile seeks before the start in broken files; an exception inside its callback could not be caught."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as BytesIO does, a position before the start becoming the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.getbuffer().nbytes}[whence]
        return super().seek(max(0, base + offset))


@contextmanager
def _open_ogg(data: bytes) -> Iterator[SoundStream]:
    """Refuse a file that ends inside a page (RFC 3533, section 6): libsndfile would leave the page out without a word."""
    page = data.rfind(b"OggS")
    header = data[page : page + 27]
    table = data[page + 27 : page + 27 + header[26]] if len(header) == 27 else b""
    if len(header) < 27 or len(table) < header[26] or page + 27 + len(table) + sum(table) > len(data):
        raise MediaContentError("The Ogg file ends inside a page.", code="audio_truncated")
    with _soundfile_opener("ogg", None)(data) as stream:
        yield stream


@contextmanager
def _open_webm(data: bytes) -> Iterator[SoundStream]:
    """Refuse a file whose one segment is longer than the bytes; FFmpeg would stop early without an error."""
    segment = data.find(b"\x18\x53\x80\x67", 0, 256) + 4
    first = data[segment] if 4 <= segment < len(data) else 0
    width = 9 - first.bit_length()  # RFC 8794, section 4: leading zeros tell how many bytes hold the length
    length = int.from_bytes(data[segment : segment + width], "big") & ((1 << 7 * width) - 1)
    unknown = length == (1 << 7 * width) - 1  # a recorder that could not go back to fill it in
    if first == 0 or (not unknown and segment + width + length > len(data)):
        raise MediaContentError("The WebM file ends inside its segment.", code="audio_truncated")
    with _pyav_opener("webm", "matroska")(data) as stream:
        yield stream


def _pyav_opener(container: str, demuxer: str, *, promises_duration: bool = False) -> Opener:
    """Make an opener that reads through FFmpeg with this demuxer only.

    `promises_duration`: the container states its duration; for the others FFmpeg estimates one from the bit rate.
    """

    @contextmanager
    def opener(data: bytes) -> Iterator[SoundStream]:
        import av  # noqa: PLC0415 - see above

        # err_detect=explode: FFmpeg stops at a broken packet instead of concealing it. Titles may be of any encoding.
        options = {"err_detect": "explode"}
        with av.open(io.BytesIO(data), mode="r", format=demuxer, options=options, metadata_errors="replace") as source:
            if not source.streams.audio:
                raise MediaContentError("The file holds no sound.", code="audio_empty")
            track = source.streams.audio[0]
            if track.codec_context is None:
                raise MediaContentError("The sound is of an encoding that is not read here.", code="audio_unreadable")
            rate, channels = track.codec_context.sample_rate, track.codec_context.channels
            declared = _pyav_frames(track, rate) if promises_duration else None
            yield SoundStream(container, rate, channels, declared, rate // 10, _pyav_blocks(source, rate, channels))

    return opener


def _pyav_frames(track: "av.AudioStream", rate: int) -> int | None:
    """Return the promised number of frames; fragmented files state none."""
    if track.duration is None or track.time_base is None:
        return None
    return max(0, int(track.duration * track.time_base * rate))


def _pyav_blocks(source: "av.container.InputContainer", rate: int, channels: int) -> Iterator[Block]:
    """Decode packet by packet; a change of rate or channels in mid-stream is refused rather than guessed at."""
    import av  # noqa: PLC0415 - see above

    resampler = av.AudioResampler(format="flt", layout=None, rate=None)
    for frame in source.decode(audio=0):
        if frame.sample_rate != rate or frame.layout.nb_channels != channels:
            raise MediaContentError("The sound changes its rate or channels on the way.", code="audio_unreadable")
        for packed in resampler.resample(frame):
            yield packed.to_ndarray().reshape(-1, channels).astype(np.float32, copy=False)


def _starts(*prefixes: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(prefixes)


def _is_mp3(data: bytes) -> bool:
    """ID3 tag, or a frame header: eleven sync bits, layer III, and neither bit rate nor sample rate of the reserved value."""
    if data.startswith(b"ID3"):
        return True
    return len(data) > 3 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2 and data[2] & 0xF0 != 0xF0 and data[2] & 0x0C != 0x0C


def _is_adts(data: bytes) -> bool:
    """Twelve sync bits and layer 0, ISO 13818-7."""
    return len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0


# Compressed WAV kinds store whole blocks; the last may be partly filled.
_WAV_CODEC_FRAMES = 4096
CONTAINERS: dict[str, tuple[Callable[[bytes], bool], Opener]] = {
    "wav": (is_riff_wave, _open_wav),
    "flac": (_starts(b"fLaC"), _soundfile_opener("flac", 0)),
    "ogg": (_starts(b"OggS"), _open_ogg),
    "mp4": (lambda data: data[4:8] == b"ftyp", _pyav_opener("mp4", "mov", promises_duration=True)),
    "webm": (_starts(b"\x1a\x45\xdf\xa3"), _open_webm),
    "aac": (_is_adts, _pyav_opener("aac", "aac")),
    # libsndfile reads MP3 as well, but its mpg123 writes complaints about broken files on the process's standard error.
    "mp3": (_is_mp3, _pyav_opener("mp3", "mp3")),
}
