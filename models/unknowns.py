"""Sounds that are none of a model's words, made from what is at hand: what the reject option is fitted on and judged by.

Noise: what a microphone hears while nobody speaks. Other words: speech that is none of the words, made of the job's own clips by playing
them backwards, joining halves of different words, or shuffling their pieces, so that voices, rooms and microphones are those of the data;
nothing is downloaded. A network learns from all three kinds; thresholds are fitted on the second and third, of voices that it has not
learnt from: it learns to tell words played backwards so well that they say nothing about words that it really never heard.

Everything is drawn on the CPU from the caller's generator, so a seed means the same everywhere.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Generator, Tensor
from torch.nn import functional

_LEVEL_DB = (-45.0, -6.0)  # peak, below full scale: from a distant fan to a slammed door
_HUSH_DB = (-80.0, -50.0)  # what microphones and converters put into a silence
_POWERS = (0.0, 1.0, 2.0)  # of 1/f: white, pink, brown
_TONE_HERTZ = (80.0, 4000.0)
_MAINS_HERTZ = (50.0, 60.0)
_HARMONICS = 8
_CLICKS = (2, 12)  # a clip
_CLICK_SECONDS = 0.004
_SHORTEST_SHARE = 0.15  # of the clip: a burst
_STEADY_SHARE = 0.5  # of the noises fill the clip, the others are bursts in silence, as a short recording is padded
_PIECES = (4, 8)
_FADE = 80  # samples, so that a joint is no click: a click would be what the model is judged by

Maker = Callable[[int, int, int, Generator], Tensor]
Changer = Callable[[Tensor, Tensor, Generator], Tensor]
Kind = TypeVar("Kind")


def noises(count: int, n_samples: int, sample_rate: int, generator: Generator) -> Tensor:
    """Return noises, tones, hum, clicks and near-silences in equal shares, shape (count, n_samples), -1 to 1; rate in Hz."""
    parts = [make(share, n_samples, sample_rate, generator) for make, share in _shared_out(_NOISES, count)]
    return torch.cat(parts)


def other_words(clips: Tensor, truth: Tensor, count: int, generator: Generator) -> Tensor:
    """Return speech that is none of the words, shape (count, n_samples), of clips, shape (n, n_samples), of labels `truth`, shape (n,)."""
    return _changed(_CHANGES, clips, truth, count, generator)


def rearranged_words(clips: Tensor, truth: Tensor, count: int, generator: Generator) -> Tensor:
    """Return joined halves and shuffled pieces, nothing backwards, shape (count, n_samples), of what `other_words` takes."""
    return _changed((_spliced, _shuffled), clips, truth, count, generator)


def _changed(changes: Sequence[Changer], clips: Tensor, truth: Tensor, count: int, generator: Generator) -> Tensor:
    parts = []
    for change, share in _shared_out(changes, count):
        chosen = torch.randint(0, len(clips), (share,), generator=generator)
        parts.append(change(clips[chosen], _partners(clips, truth, chosen, generator), generator))
    return torch.cat(parts)


def _shared_out(kinds: Sequence[Kind], count: int) -> list[tuple[Kind, int]]:
    """Return how many of `count` sounds, at least one, each kind makes: nearly equal shares, none of them empty."""
    shares = [count // len(kinds) + (index < count % len(kinds)) for index in range(len(kinds))]
    return [(kind, share) for kind, share in zip(kinds, shares, strict=True) if share]


def _partners(clips: Tensor, truth: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """Return for each of the clips `chosen`, shape (count,), a clip of another label, shape (count, n_samples)."""
    order = torch.argsort(truth, stable=True)
    counts = torch.bincount(truth)
    ends = counts.cumsum(0)
    own = truth[chosen]
    # A place among all clips but those of one's own label, in the order of the labels; beyond the own ones they are skipped.
    place = (torch.rand(len(chosen), generator=generator) * (len(clips) - counts[own]).clamp(min=1)).long()
    begin = ends[own] - counts[own]
    place = torch.where(place >= begin, place + counts[own], place) % len(clips)
    return clips[order[place]]


def _colored(count: int, n_samples: int, _rate: int, generator: Generator) -> Tensor:
    """Return noise whose power falls with a power of the frequency, shape (count, n_samples)."""
    spectrum = torch.fft.rfft(torch.randn(count, n_samples, generator=generator))
    frequency = torch.arange(spectrum.shape[1]).clamp(min=1).float()
    powers = torch.tensor(_POWERS)[torch.randint(0, len(_POWERS), (count, 1), generator=generator)]
    return _leveled(_shaped(torch.fft.irfft(spectrum * frequency ** (-powers / 2), n=n_samples), generator), _LEVEL_DB, generator)


def _tones(count: int, n_samples: int, rate: int, generator: Generator) -> Tensor:
    """Return sines, half of them gliding, shape (count, n_samples)."""
    low, high = (math.log(hertz) for hertz in _TONE_HERTZ)
    ends = torch.exp(low + (high - low) * torch.rand(count, 2, generator=generator))
    ends[: count // 2, 1] = ends[: count // 2, 0]
    steps = torch.linspace(0, 1, n_samples)
    hertz = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * steps
    phase = 2 * math.pi * torch.cumsum(hertz.double() / rate, dim=1)
    return _leveled(_shaped(torch.sin(phase).float(), generator), _LEVEL_DB, generator)


def _hum(count: int, n_samples: int, rate: int, generator: Generator) -> Tensor:
    """Return mains hum: a base frequency and its harmonics of random strength, shape (count, n_samples)."""
    base = torch.tensor(_MAINS_HERTZ)[torch.randint(0, len(_MAINS_HERTZ), (count, 1, 1), generator=generator)]
    harmonics = torch.arange(1, _HARMONICS + 1).view(1, -1, 1)
    strengths = torch.rand(count, _HARMONICS, 1, generator=generator) / harmonics
    offsets = 2 * math.pi * torch.rand(count, _HARMONICS, 1, generator=generator)
    time = torch.arange(n_samples) / rate
    return _leveled((strengths * torch.sin(2 * math.pi * base * harmonics * time + offsets)).sum(1), _LEVEL_DB, generator)


def _clicks(count: int, n_samples: int, rate: int, generator: Generator) -> Tensor:
    """Return a few decaying clicks over a faint noise, shape (count, n_samples)."""
    least, most = _CLICKS
    strikes = torch.zeros(count, n_samples)
    places = torch.randint(0, n_samples, (count, most), generator=generator)
    strengths = torch.randn(count, most, generator=generator)
    strengths *= torch.arange(most) < torch.randint(least, most + 1, (count, 1), generator=generator)
    strikes.scatter_(1, places, strengths)
    length = max(2, round(_CLICK_SECONDS * rate))
    decay = torch.exp(-torch.arange(length) * 5 / length) * torch.randn(length, generator=generator)
    rung = functional.conv1d(functional.pad(strikes, (length - 1, 0))[:, None], decay.flip(0)[None, None])[:, 0]
    return _leveled(rung + 1e-3 * torch.randn(count, n_samples, generator=generator), _LEVEL_DB, generator)


def _hush(count: int, n_samples: int, _rate: int, generator: Generator) -> Tensor:
    """Return near-silences, shape (count, n_samples)."""
    return _leveled(torch.randn(count, n_samples, generator=generator), _HUSH_DB, generator)


def _reversed(clips: Tensor, _partners: Tensor, _generator: Generator) -> Tensor:
    """Return the clips backwards, shape (count, n_samples)."""
    return clips.flip(1)


def _spliced(clips: Tensor, partners: Tensor, generator: Generator) -> Tensor:
    """Return the beginning of one clip with the end of another, cut where the sound is, shape (count, n_samples)."""
    places = torch.arange(clips.shape[1])
    cut = _middle(clips) + ((torch.rand(len(clips), generator=generator) - 0.5) * clips.shape[1] / 10).long()
    weight = ((places - cut[:, None]) / _FADE + 0.5).clamp(0, 1)
    # The end that is joined on comes from the partner's own middle, wherever in its clip that lies.
    moved = _shifted(partners, cut - _middle(partners))
    return clips * (1 - weight) + moved * weight


def _shuffled(clips: Tensor, _partners: Tensor, generator: Generator) -> Tensor:
    """Return the clips cut into a few pieces in another order, faded at the joints, shape (count, n_samples)."""
    results = []
    for clip in clips:
        pieces = int(torch.randint(_PIECES[0], _PIECES[1] + 1, (1,), generator=generator))
        parts = clip.tensor_split(pieces)
        order = torch.randperm(pieces, generator=generator)
        results.append(torch.cat([_faded(parts[index]) for index in order.tolist()]))
    return torch.stack(results)


def _faded(part: Tensor) -> Tensor:
    """Return a piece, shape (n,), that begins and ends in silence."""
    ramp = ((torch.arange(len(part)) + 1) / _FADE).clamp(max=1)
    return part * ramp * ramp.flip(0)


def _middle(clips: Tensor) -> Tensor:
    """Return the sample at which half of each clip's energy has passed, shape (count,)."""
    passed = clips.double().square().cumsum(1)
    return (passed < passed[:, -1:] / 2).sum(1).clamp(max=clips.shape[1] - 1)


def _shifted(clips: Tensor, by: Tensor) -> Tensor:
    """Return each clip moved to the right by its number of samples, shape (count, n_samples); zeros come in."""
    places = torch.arange(clips.shape[1]) - by[:, None]
    inside = (places >= 0) & (places < clips.shape[1])
    return torch.where(inside, clips.gather(1, places.clamp(0, clips.shape[1] - 1)), 0.0)


def _shaped(x: Tensor, generator: Generator) -> Tensor:
    """Return sounds, shape (count, n_samples), some as they are, the others as bursts with silence around them."""
    count, n_samples = x.shape
    widths = (_SHORTEST_SHARE + (1 - _SHORTEST_SHARE) * torch.rand(count, 1, generator=generator)) * n_samples
    widths = torch.where(torch.rand(count, 1, generator=generator) < _STEADY_SHARE, 2.0 * n_samples, widths)
    centers = n_samples * (0.3 + 0.4 * torch.rand(count, 1, generator=generator))
    inside = widths / 2 - (torch.arange(n_samples) - centers).abs()
    return x * (inside / _FADE).clamp(0, 1)


def _leveled(x: Tensor, limits_db: tuple[float, float], generator: Generator) -> Tensor:
    """Return sounds, shape (count, n_samples), each with a peak between `limits_db` below full scale."""
    low, high = limits_db
    peaks = 10 ** ((low + (high - low) * torch.rand(len(x), 1, generator=generator)) / 20)
    return x / x.abs().amax(dim=1, keepdim=True).clamp(min=1e-9) * peaks


_NOISES: tuple[Maker, ...] = (_colored, _tones, _hum, _clicks, _hush)
_CHANGES: tuple[Changer, ...] = (_reversed, _spliced, _shuffled)
