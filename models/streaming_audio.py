"""Sound that comes in pieces → samples at the model's rate, on the grid of 16-bit numbers, as models/audio.py makes of whole files.

What comes out does not depend on how the bytes were cut into pieces.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import soxr

from models.audio import Waveform, from_pcm16, to_pcm16
from models.decoders import decoder_errors
from models.errors import MediaContentError
from models.webm_stream import Track, WebmPackets

if TYPE_CHECKING:
    import av

OPUS_RATE = 48000  # Hz; whatever was recorded, decoders give this (RFC 7845, 5.1)
_HEAD_BYTES = 19  # of OpusHead, RFC 7845, 5.1


class Inlet(Protocol):
    """Where the bytes of one stream go in."""

    rate: int
    """Hz, of the sound that comes"""
    taken: int
    """samples a channel that have come, at `rate`"""

    def feed(self, data: bytes) -> Waveform:
        """Return what the next bytes add, float32 of shape (n,), -1 to 1, at the model's rate; n may be 0.

        Raises MediaError for bytes that can't be read; the inlet is of no use after that.
        """

    def finish(self) -> Waveform:
        """Return what was still held back, shape (n,). Raises MediaContentError (audio_truncated) where the bytes end inside a sample."""


class PcmInlet:
    """16-bit little-endian samples, channel by channel."""

    def __init__(self, rate: int, channels: int, target: int) -> None:
        """Rates in Hz; `target` is the model's."""
        self.rate = rate
        self.taken = 0
        self._frame = 2 * channels
        self._channels = channels
        self._rest = b""
        self._resampler = _Resampler(rate, target)

    def feed(self, data: bytes) -> Waveform:
        """Return what the next bytes add, float32 of shape (n,)."""
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % self._frame
        self._rest = data[whole:]
        samples = from_pcm16(np.frombuffer(data, "<i2", whole // 2))
        self.taken += whole // self._frame
        return self._resampler.feed(samples if self._channels == 1 else samples.reshape(-1, self._channels).mean(axis=1))

    def finish(self) -> Waveform:
        """Return what the resampler held back, shape (n,). Raises MediaContentError (audio_truncated)."""
        if self._rest:
            raise MediaContentError("The sound ends inside a sample.", code="audio_truncated")
        return self._resampler.finish()


class WebmInlet:
    """What a browser's MediaRecorder gives: Opus in WebM."""

    def __init__(self, rate: int, channels: int, target: int) -> None:  # noqa: ARG002 - one signature; the bytes tell their rate and channels
        """`target` is the model's rate in Hz."""
        self.rate = OPUS_RATE
        self.taken = 0
        self._packets = WebmPackets()
        self._decoder: av.AudioCodecContext | None = None
        self._resampler = _Resampler(OPUS_RATE, target)

    def feed(self, data: bytes) -> Waveform:
        """Return what the next bytes add, float32 of shape (n,). Raises MediaError for bytes that can't be read."""
        packets = self._packets.feed(data)
        if self._decoder is None and self._packets.track is not None:
            self._open(self._packets.track)
        decoded = [mono for packet in packets for mono in self._decode(packet)]
        return self._resampler.feed(np.concatenate(decoded) if decoded else np.zeros(0, np.float32))

    def finish(self) -> Waveform:
        """Return what the resampler held back, shape (n,)."""
        return self._resampler.finish()

    def _open(self, track: Track) -> None:
        if len(track.private) < _HEAD_BYTES or not track.private.startswith(b"OpusHead"):
            raise MediaContentError("The track has no OpusHead.", code="audio_unreadable")
        import av  # noqa: PLC0415 - 40 ms of a service's start, which few streams need

        with decoder_errors():
            decoder = av.CodecContext.create("opus", "r")
            decoder.extradata = track.private  # tells the decoder how much the encoder put before the sound
            decoder.sample_rate = OPUS_RATE
            self._decoder = decoder

    def _decode(self, packet: bytes) -> list[Waveform]:
        """Return the samples of one packet as mono arrays of shape (n,)."""
        import av  # noqa: PLC0415 - see _open

        assert self._decoder is not None
        with decoder_errors():
            frames = [frame.to_ndarray() for frame in self._decoder.decode(av.Packet(packet))]
        sounds = []
        for channels in frames:  # planar floats: (channels, n)
            mono: Waveform = channels.mean(axis=0, dtype=np.float32)
            self.taken += len(mono)
            sounds.append(mono)
        return sounds


INLETS: dict[str, Callable[[int, int, int], Inlet]] = {"pcm_s16le": PcmInlet, "webm": WebmInlet}


class _Resampler:
    """soxr HQ with its state, and the rounding to 16 bits that whole files get."""

    def __init__(self, rate: int, target: int) -> None:
        self._same = rate == target
        self._stream = None if self._same else soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")

    def feed(self, mono: Waveform) -> Waveform:
        """Return what can be told already, shape (n,)."""
        return from_pcm16(to_pcm16(mono if self._stream is None else self._stream.resample_chunk(mono)))

    def finish(self) -> Waveform:
        """Return the rest, shape (n,)."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._stream is None else from_pcm16(to_pcm16(self._stream.resample_chunk(nothing, last=True)))
