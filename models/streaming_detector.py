"""Words in a sound that has no end yet: a state machine over an engine, fed with samples as they come. Imports no torch.

Every HOP_SECONDS of sound the model judges the newest clip of it; the mean of its last answers has to rise above a label's entry level to
be a detection and fall below the level of leaving before the next one. Samples are kept until a hop is full and each hop is judged alone,
so how they were cut into packets can't matter: `offline` on the whole gives what any sequence of packets gives.

Quiet is part of the definition: where nothing in the clip is louder than the background, nothing was said, and the model isn't run.
"""

import collections
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from models.audio import SILENCE_PEAK, Waveform
from models.engine import Engine, Floats
from models.features import clip_samples

# Each model run costs as much as the rest of some ten packets, and each hop adds half of itself to the mean delay of a detection.
HOP_SECONDS = 0.08
_BLOCKS = 8  # of a hop, 10 ms each: the resolution of loudness and of where a word begins
_QUIET_POWER = SILENCE_PEAK**2  # mean square
_LOUD_RATIO = 4.0  # 6 dB above the background: blocks of steady noise stay within 2 dB, the loudest part of a word at 0 dB SNR is above
_BACKGROUND_SECONDS = 3.0  # its quietest block is the background; words pause more often than that
_PAUSE_BLOCKS = 15  # a longer hush parts two words; the closure of a plosive lasts up to 120 ms


@dataclass(frozen=True)
class Tuning:
    """When a word counts as heard."""

    enter: float = 0.55
    """mean probability that makes a detection; a label whose reject threshold is higher has that as its level"""
    leave: float = 0.4
    """mean probability below which the detected word is over"""
    refractory_seconds: float = 0.3
    """so long after a word was over the same label is not detected again: its echo, not its repetition"""
    smoothing: int = 3
    """how many answers the mean is of"""


DEFAULT_TUNING = Tuning()


@dataclass(frozen=True)
class Detection:
    """One word that was heard."""

    label: str
    probability: float
    """the mean at which it was detected"""
    start: float
    """seconds from the stream's begin, on a grid of 10 ms"""
    end: float
    """seconds; `position` where the word still sounded when it was detected"""
    position: float
    """seconds of sound that had been heard when it was detected"""


class StreamingDetector:
    """The state of one stream. For one thread at a time; any number of them may share an engine."""

    def __init__(self, engine: Engine, tuning: Tuning = DEFAULT_TUNING) -> None:
        """Nothing was heard yet: before the begin there was silence. Raises ValueError for a model of pictures."""
        network = engine.manifest.network
        if network.modality != "audio":
            raise ValueError(f"a {network.modality} model hears nothing")
        self.sample_rate = network.features.sample_rate
        """Hz, of what it takes"""
        self._engine = engine
        self._block = round(HOP_SECONDS * self.sample_rate / _BLOCKS)
        self._hop = self._block * _BLOCKS
        self._clip: Waveform = np.zeros(clip_samples(network.features), np.float32)
        self._pending = _Pending(self._hop)
        self._loudness = _Loudness(len(self._clip), self._block)
        self._decisions = _Decisions(engine, tuning, self.sample_rate)
        self._heard = 0

    @property
    def position(self) -> float:
        """Seconds of sound that were judged."""
        return self._heard / self.sample_rate

    def fills(self, count: int) -> bool:
        """Return whether so many more samples complete a hop, so that `feed` may have to run the model."""
        return self._pending.count + count >= self._hop

    def feed(self, samples: Waveform) -> list[Detection]:
        """Hear more samples, float32 of shape (n,), -1 to 1; return what was detected meanwhile."""
        found = [self._step(hop) for hop in self._pending.add(samples)]
        return [detection for detection in found if detection is not None]

    def finish(self) -> list[Detection]:
        """Hear half a clip of silence, so that the last word is judged in the clip's middle as all others are; return what was detected."""
        missing = -self._pending.count % self._hop
        silence = missing + -(-len(self._clip) // 2 // self._hop) * self._hop
        return self.feed(np.zeros(silence, np.float32))

    def _step(self, hop: Waveform) -> Detection | None:
        self._clip[: -self._hop] = self._clip[self._hop :]
        self._clip[-self._hop :] = hop
        self._heard += self._hop
        if not self._loudness.hear(hop):
            self._decisions.judge(None, self._heard)
            return None
        # One clip at a time, however many wait: a batch saves no time here, and would round otherwise.
        hit = self._decisions.judge(self._engine.probabilities(self._clip[None])[0], self._heard)
        if hit is None:
            return None
        label, probability = hit
        start, end = ((self._heard - before) / self.sample_rate for before in self._loudness.newest_word())
        return Detection(self._engine.labels[label], probability, max(0.0, start), end, self.position)


def offline(engine: Engine, waveform: Waveform, tuning: Tuning = DEFAULT_TUNING) -> list[Detection]:
    """Return the detections in a whole sound, float32 of shape (n,), -1 to 1, at the model's rate."""
    detector = StreamingDetector(engine, tuning)
    return detector.feed(waveform) + detector.finish()


class _Pending:
    """Samples that don't fill a hop yet."""

    def __init__(self, hop: int) -> None:
        self._kept: Waveform = np.zeros(hop, np.float32)
        self.count = 0

    def add(self, samples: Waveform) -> Iterable[Waveform]:
        """Yield every hop that `samples`, shape (n,), fill, shape (hop,); what it yields is overwritten by the next."""
        size = len(self._kept)
        start = 0
        while len(samples) - start >= size - self.count:
            taken = size - self.count
            self._kept[self.count :] = samples[start : start + taken]
            start += taken
            self.count = 0
            yield self._kept
        rest = len(samples) - start
        self._kept[self.count : self.count + rest] = samples[start:]
        self.count += rest


class _Loudness:
    """Which blocks of the clip are louder than the background."""

    def __init__(self, clip: int, block: int) -> None:
        """Before the begin all was still, so a stream that begins within a word has it heard."""
        self._block = block
        self._loud = np.zeros(-(-clip // block), np.bool_)
        self._quietest = collections.deque([0.0] * round(_BACKGROUND_SECONDS / HOP_SECONDS), round(_BACKGROUND_SECONDS / HOP_SECONDS))

    def hear(self, hop: Waveform) -> bool:
        """Take the next hop, shape (hop,); return whether anything in the clip is loud."""
        blocks = hop.reshape(_BLOCKS, self._block)
        powers = np.einsum("ij,ij->i", blocks, blocks) / self._block
        self._quietest.append(float(powers.min()))
        level = max(_QUIET_POWER, _LOUD_RATIO * min(self._quietest))
        self._loud[:-_BLOCKS] = self._loud[_BLOCKS:]
        self._loud[-_BLOCKS:] = powers > level
        return bool(self._loud.any())

    def newest_word(self) -> tuple[int, int]:
        """Return how many samples before the clip's end the newest stretch of loud blocks begins and ends."""
        loud = np.flatnonzero(self._loud)
        gaps = np.flatnonzero(np.diff(loud) > _PAUSE_BLOCKS)
        first = loud[gaps[-1] + 1] if len(gaps) else loud[0]
        return (len(self._loud) - int(first)) * self._block, (len(self._loud) - 1 - int(loud[-1])) * self._block


class _Decisions:
    """From answers to detections: a mean, two levels, and a pause for the same label."""

    def __init__(self, engine: Engine, tuning: Tuning, sample_rate: int) -> None:
        self._enter = np.maximum(engine.thresholds, np.float32(tuning.enter))
        self._leave = tuning.leave
        self._nothing: Floats = np.zeros(len(engine.labels), np.float32)
        self._answers = collections.deque([self._nothing] * tuning.smoothing, tuning.smoothing)
        self._refractory = round(tuning.refractory_seconds * sample_rate)
        self._sounding: int | None = None
        self._last: int | None = None
        self._over = 0

    def judge(self, answer: Floats | None, heard: int) -> tuple[int, float] | None:
        """Take the next answer, shape (classes,), None where all is quiet; return index and probability of a word that begins.

        `heard` is the number of samples so far.
        """
        self._answers.append(self._nothing if answer is None else answer)
        mean = sum(self._answers, self._nothing) / np.float32(len(self._answers))
        if self._sounding is not None:
            if mean[self._sounding] >= self._leave:
                return None
            self._last, self._over, self._sounding = self._sounding, heard, None
        best = int(np.argmax(mean))
        if mean[best] < self._enter[best] or (best == self._last and heard - self._over < self._refractory):
            return None
        self._sounding = best
        return best, float(mean[best])
