"""Random changes of training items: pure functions of (tensor, generator), a batch at a time, on whatever device the tensor is.

Random numbers are drawn on the CPU and then moved, so that a seed means the same on every device and CPU runs repeat bit for bit.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from models.config import AugmentationConfig

MAX_SHIFT_SECONDS = 0.1
SPEED_RANGE = (0.9, 1.1)
# Items of one speed are resampled together; eleven speeds are as good as a continuum and let a large batch run in eleven steps.
SPEED_STEPS = 11
GAIN_RANGE_DB = (-6.0, 6.0)
SNR_RANGE_DB = (5.0, 40.0)
# This share of the items is left without noise, as validation clips are.
CLEAN_SHARE = 0.2
# Powers of 1/f: white, between, pink and brown.
NOISE_COLOURS = (0.0, 0.5, 1.0, 2.0)
# Shortest stretch of noise that is made for a batch, in samples.
MIN_NOISE_PERIOD = 16384
MASKS = 2
# On 20 words, unheard speakers, the last epochs reach 98.3 % with 1/8 and 1/10, 98.6 % with these.
BAND_MASK_SHARE = 1 / 5
FRAME_MASK_SHARE = 3 / 20
PAD_SHARE = 1 / 8
ROW_ERASE_SHARE, COLUMN_ERASE_SHARE = 1 / 6, 1 / 8
# Throats of grown men and small children differ by half in length, those of most speakers by less (Jaitly and Hinton 2013).
WARP_RANGE = (0.85, 1.18)
# One speaker of a language says a word in two thirds of the time that another takes (medians of four speakers of digits: 0.35 to 0.54 s).
TEMPO_RANGE = (0.7, 1.4)
# How far a place in a word is moved before or behind its time, and how many times a second it goes to and fro. Time never runs backwards
# as long as 2 π times both upper ends stay below the slowest tempo. What it is worth: digits of two speakers whom the run did not know,
# two seeds, 79.7 to 84.0 % (82.8 without a bend, 86.2 where all are bent by the whole 0.055 s); Arabic words of unknown speakers, five
# clips a word, three draws, 89.9 to 90.8 % (89.3 by the whole), from scratch 79.0 to 79.4 % (77.5).
BEND_SECONDS = (0.0, 0.055)
BENDS_A_SECOND = (0.6, 1.8)
# Share of the items that are heard in a room, how long it rings (seconds until 60 dB are gone), and how loud that is.
ECHO_SHARE = 0.4
ECHO_SECONDS = (0.1, 0.5)
ECHO_LEVEL_DB = (-20.0, -3.0)


def augment_waveforms(x: Tensor, config: AugmentationConfig, sample_rate: int, generator: Generator) -> Tensor:
    """Return changed waveforms, shape (batch, n_samples), `sample_rate` in Hz; `noise` varies the level as well."""
    if config.speed:
        x = speed(x, generator)
    if config.time_shift:
        x = time_shift(x, round(MAX_SHIFT_SECONDS * sample_rate), generator)
    if config.echo:
        x = echo(x, sample_rate, generator)
    if config.noise:
        x = add_noise(gain(x, generator), generator)
    return x


def augment_features(x: Tensor, config: AugmentationConfig, hop_seconds: float, generator: Generator) -> Tensor:
    """Return changed log-mel features, shape (batch, n_mels, n_frames), whose frames are `hop_seconds` apart."""
    if config.tempo:
        x = tempo(x, hop_seconds, generator)
    if config.warp:
        x = warp(x, generator)
    return spec_augment(x, generator) if config.spec_augment else x


def augment_pictures(x: Tensor, config: AugmentationConfig, generator: Generator) -> Tensor:
    """Return changed pictures, shape (batch, channels, height, width); `flip` must be resolved ("auto" leaves them unmirrored)."""
    if config.crop:
        x = pad_crop(x, generator)
    if config.flip is True:
        x = flip(x, generator)
    return erase(x, generator) if config.erase else x


def time_shift(x: Tensor, max_samples: int, generator: Generator) -> Tensor:
    """Return waveforms, shape (batch, n_samples), each moved by up to `max_samples` either way; zeros come in at the end."""
    batch, n_samples = x.shape
    padded = functional.pad(x, (max_samples, max_samples))
    starts = torch.randint(0, 2 * max_samples + 1, (batch,), generator=generator)
    return _windows(padded, starts.to(x.device), n_samples)


def speed(x: Tensor, generator: Generator) -> Tensor:
    """Return waveforms, shape (batch, n_samples), each played 0.9 to 1.1 times as fast about its centre (linear interpolation).

    Pitch moves with speed, as it does between speakers. What a slow item loses at its ends is cut; a fast one is padded with zeros.
    """
    batch, n_samples = x.shape
    steps = torch.randint(0, SPEED_STEPS, (batch,), generator=generator)
    factors = torch.linspace(*SPEED_RANGE, SPEED_STEPS).tolist()
    result = torch.empty_like(x)
    for step in sorted(set(steps.tolist())):
        chosen = (steps == step).nonzero()[:, 0].to(x.device)
        length = round(n_samples * factors[step])
        before = (length - n_samples) // 2
        source = functional.pad(x[chosen], (before, length - n_samples - before))  # a negative padding cuts
        result[chosen] = functional.interpolate(source[None], size=n_samples, mode="linear", align_corners=False)[0]
    return result


def echo(x: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """Return waveforms, shape (batch, n_samples), two in five of them with the ringing of a room: noise that dies away (Polack 1988)."""
    batch, n_samples = x.shape
    chosen = (torch.rand(batch, generator=generator) < ECHO_SHARE).nonzero()[:, 0]
    if not len(chosen):  # a small batch; Fourier transforms of nothing are refused
        return x
    taps = min(n_samples, round(ECHO_SECONDS[1] * sample_rate))
    rings = _uniform(len(chosen), ECHO_SECONDS, generator)[:, None]
    tail = torch.randn(len(chosen), taps, generator=generator) * torch.exp(-math.log(1000) / sample_rate * torch.arange(taps) / rings)
    level = 10 ** (_uniform(len(chosen), ECHO_LEVEL_DB, generator) / 20)
    response = tail * (level / torch.linalg.vector_norm(tail, dim=1))[:, None]
    response[:, 0] += 1  # the sound itself
    rows, size = chosen.to(x.device), _even_length(n_samples + taps)
    rung = torch.fft.irfft(torch.fft.rfft(x[rows], size) * torch.fft.rfft(response.to(x.device), size), size)
    result = x.clone()
    result[rows] = rung[:, :n_samples]
    return result


def _even_length(least: int) -> int:
    """Return the next length of the forms 2^k, 3 · 2^k and 5 · 2^k, which Fourier transforms are quick with."""
    return min(factor << max(0, (-(-least // factor) - 1).bit_length()) for factor in (1, 3, 5))


def gain(x: Tensor, generator: Generator) -> Tensor:
    """Return waveforms, shape (batch, n_samples), each made louder or softer by up to 6 dB."""
    decibels = _uniform(len(x), GAIN_RANGE_DB, generator)
    return x * (10 ** (decibels / 20)).to(x.device)[:, None]


def add_noise(x: Tensor, generator: Generator) -> Tensor:
    """Return waveforms, shape (batch, n_samples), most with white to brown noise 5 to 40 dB below their own mean power."""
    batch, n_samples = x.shape
    bank = _noise_bank(n_samples, generator, x.device)
    colours = torch.randint(0, len(NOISE_COLOURS), (batch,), generator=generator)
    starts = torch.randint(0, bank.shape[1] - n_samples + 1, (batch,), generator=generator)
    level = 10 ** (-_uniform(batch, SNR_RANGE_DB, generator) / 20)
    level = torch.where(torch.rand(batch, generator=generator) < CLEAN_SHARE, 0.0, level)
    rms = torch.linalg.vector_norm(x, dim=1) / n_samples**0.5
    noise = bank.unfold(1, n_samples, 1)[colours.to(x.device), starts.to(x.device)]
    return torch.addcmul(x, noise, (rms * level.to(x.device))[:, None])


def _noise_bank(n_samples: int, generator: Generator, device: torch.device) -> Tensor:
    """Return noise of mean power 1, shape (colours, period - 1 + n_samples).

    The Fourier transform that colours it also makes it periodic, so every item may begin anywhere in the period.
    """
    period = max(MIN_NOISE_PERIOD, 1 << (n_samples - 1).bit_length())
    white = torch.randn(len(NOISE_COLOURS), period, generator=generator).to(device)
    spectrum = torch.fft.rfft(white)
    frequency = torch.arange(spectrum.shape[1], device=device).clamp(min=1).float()
    powers = torch.tensor(NOISE_COLOURS, device=device)[:, None]
    shaped: Tensor = torch.fft.irfft(spectrum * frequency ** (-powers / 2), n=period)
    shaped = shaped / shaped.square().mean(dim=1, keepdim=True).sqrt()
    return torch.cat([shaped, shaped[:, : n_samples - 1]], dim=1)


def tempo(x: Tensor, hop_seconds: float, generator: Generator) -> Tensor:
    """Return log-mel features, shape (batch, n_mels, n_frames), each said faster or slower about its centre, unevenly, at the same pitch.

    What SpecAugment's time warping is for (arXiv 1904.08779), with a tempo of its own and a smooth bend instead of one moved point. Where
    a quicker item has ended, each band is as low as it ever was. Frames are `hop_seconds` apart.
    """
    batch, n_mels, n_frames = x.shape
    factors = _log_uniform(batch, TEMPO_RANGE, generator)[:, None]
    depths, bends, phases = (_uniform(batch, limits, generator)[:, None] for limits in (BEND_SECONDS, BENDS_A_SECOND, (0.0, math.tau)))
    centre = (n_frames - 1) / 2
    seconds = (torch.arange(n_frames)[None] - centre) * hop_seconds
    heard = seconds * factors + depths * torch.sin(math.tau * bends * seconds + phases)
    place = (heard / hop_seconds + centre).to(x.device)
    inside = place.clamp(0, n_frames - 1)
    below = inside.floor().long()
    above = (below + 1).clamp(max=n_frames - 1)
    before, after = (x.gather(2, frames[:, None].expand(batch, n_mels, n_frames)) for frames in (below, above))
    bent = torch.lerp(before, after, (inside - below)[:, None])
    return torch.where((place == inside)[:, None], bent, x.amin(dim=2, keepdim=True))


def warp(x: Tensor, generator: Generator) -> Tensor:
    """Return log-mel features, shape (batch, n_mels, n_frames), each stretched along frequency from its lowest band, at the same pace.

    Vocal tract length perturbation (Jaitly and Hinton 2013), on the mel scale. What is stretched out of the picture is lost; where it is
    shrunk the highest band is drawn out.
    """
    batch, n_mels, _ = x.shape
    factors = _log_uniform(batch, WARP_RANGE, generator)
    place = (torch.arange(n_mels)[None] / factors[:, None]).clamp(max=n_mels - 1).to(x.device)
    below = place.floor().long().clamp(max=n_mels - 2)
    share = (place - below)[:, :, None]
    rows = torch.arange(batch, device=x.device)[:, None]
    return torch.lerp(x[rows, below], x[rows, below + 1], share)


def spec_augment(x: Tensor, generator: Generator) -> Tensor:
    """Return log-mel features, shape (batch, n_mels, n_frames), with two stretches of bands and two of frames set to the item's mean.

    SpecAugment without time warping (arXiv 1904.08779), which its authors found to add little. The mean, not 0: features are logarithms.
    """
    _, n_mels, n_frames = x.shape
    bands = _stretches(len(x), n_mels, BAND_MASK_SHARE, generator).to(x.device)
    frames = _stretches(len(x), n_frames, FRAME_MASK_SHARE, generator).to(x.device)
    masked = bands[:, :, None] | frames[:, None, :]
    return torch.where(masked, x.mean(dim=(1, 2), keepdim=True), x)


def _stretches(batch: int, size: int, share: float, generator: Generator) -> Tensor:
    """Return a mask, shape (batch, size), true in MASKS stretches of 0 to `share` · size places."""
    widths = torch.randint(0, max(1, int(size * share)) + 1, (batch, MASKS, 1), generator=generator)
    starts = (torch.rand(batch, MASKS, 1, generator=generator) * (size - widths + 1)).long()
    places = torch.arange(size)
    return ((places >= starts) & (places < starts + widths)).any(dim=1)


def flip(x: Tensor, generator: Generator) -> Tensor:
    """Return pictures, shape (batch, channels, height, width), half of them mirrored left to right."""
    mirrored = (torch.rand(len(x), generator=generator) < 0.5).to(x.device)
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def pad_crop(x: Tensor, generator: Generator) -> Tensor:
    """Return pictures, shape (batch, channels, height, width), each moved by up to an eighth; the border pixels are repeated."""
    batch, _, height, width = x.shape
    down, right = max(1, round(height * PAD_SHARE)), max(1, round(width * PAD_SHARE))
    padded = functional.pad(x, (right, right, down, down), mode="replicate")
    tops = torch.randint(0, 2 * down + 1, (batch,), generator=generator).to(x.device)
    lefts = torch.randint(0, 2 * right + 1, (batch,), generator=generator).to(x.device)
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # (batch, channels, tops, lefts, height, width)
    return crops[torch.arange(batch, device=x.device), :, tops, lefts]


def erase(x: Tensor, generator: Generator) -> Tensor:
    """Return pictures, shape (batch, channels, height, width), with two bands of rows and two of columns set to each channel's mean.

    What SpecAugment does to a spectrogram (arXiv 1904.08779), for pictures whose rows and columns mean something.
    """
    _, _, height, width = x.shape
    rows = _stretches(len(x), height, ROW_ERASE_SHARE, generator).to(x.device)
    columns = _stretches(len(x), width, COLUMN_ERASE_SHARE, generator).to(x.device)
    erased = rows[:, None, :, None] | columns[:, None, None, :]
    return torch.where(erased, x.mean(dim=(2, 3), keepdim=True), x)


def mixup(inputs: Tensor, targets: Tensor, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return convex mixtures of items and of their targets (arXiv 1710.09412), the item itself weighing at least one half.

    `inputs` has shape (batch, …), `targets` (batch, classes); the weights follow Beta(alpha, alpha), alpha above 0 and up to 1.
    """
    batch = len(inputs)
    weights = _symmetric_beta(batch, alpha, generator).to(inputs.device, inputs.dtype)
    weights = torch.maximum(weights, 1 - weights)
    partners = torch.randperm(batch, generator=generator).to(inputs.device)
    mixed = torch.lerp(inputs[partners], inputs, weights.reshape(-1, *[1] * (inputs.dim() - 1)))
    return mixed, torch.lerp(targets[partners], targets, weights.to(targets.dtype)[:, None])


def _symmetric_beta(count: int, alpha: float, generator: Generator) -> Tensor:
    """Draw float64 (count,) from Beta(alpha, alpha) by Jöhnk's rejection (1964), in logarithms as u^(1/alpha) underflows.

    torch's own sampler takes no generator.
    """
    accepted = torch.empty(0, dtype=torch.float64)
    while len(accepted) < count:
        logs = torch.rand(2, 2 * count, dtype=torch.float64, generator=generator).log() / alpha
        kept = logs[:, torch.logaddexp(logs[0], logs[1]) <= 0]
        accepted = torch.cat([accepted, torch.sigmoid(kept[0] - kept[1])])
    return accepted[:count]


def _uniform(count: int, limits: tuple[float, float], generator: Generator) -> Tensor:
    low, high = limits
    return low + (high - low) * torch.rand(count, generator=generator)


def _log_uniform(count: int, limits: tuple[float, float], generator: Generator) -> Tensor:
    low, high = limits
    return torch.exp(_uniform(count, (math.log(low), math.log(high)), generator))


def _windows(padded: Tensor, starts: Tensor, length: int) -> Tensor:
    """Return rows of `length` values, shape (batch, length), each from its own start in `padded` (batch, more)."""
    return padded.unfold(1, length, 1)[torch.arange(len(padded), device=padded.device), starts]
