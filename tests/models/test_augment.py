"""Random changes: shapes kept, seeds obeyed, and numbers in the ranges that the configuration promises."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Generator, Tensor

from models import augment
from models.augment import (
    add_noise,
    augment_features,
    augment_pictures,
    augment_waveforms,
    echo,
    erase,
    flip,
    gain,
    mixup,
    pad_crop,
    spec_augment,
    speed,
    tempo,
    time_shift,
    warp,
)
from tests.conftest import NO_AUGMENTATION

HOP = 0.02  # seconds
WAVEFORM_OPTIONS = ("time_shift", "noise", "speed", "echo")
Change = Callable[[Tensor, Generator], Tensor]
WAVEFORM_CHANGES: dict[str, Change] = {
    "speed": speed,
    "time_shift": lambda x, generator: time_shift(x, 160, generator),
    "gain": gain,
    "echo": lambda x, generator: echo(x, 8000, generator),
    "add_noise": add_noise,
}
PICTURE_CHANGES: dict[str, Change] = {"flip": flip, "pad_crop": pad_crop, "erase": erase}
FEATURE_CHANGES: dict[str, Change] = {"spec_augment": spec_augment, "warp": warp, "tempo": lambda x, generator: tempo(x, HOP, generator)}
CHANGES = {**WAVEFORM_CHANGES, **PICTURE_CHANGES, **FEATURE_CHANGES}


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def inputs_of(name: str, batch: int = 64) -> Tensor:
    shape = (batch, 1600) if name in WAVEFORM_CHANGES else (batch, 3, 16, 20) if name in PICTURE_CHANGES else (batch, 32, 50)
    return torch.rand(shape, generator=seeded(9)) - 0.5


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_the_shape_and_its_input(name: str) -> None:
    x = inputs_of(name)
    before = x.clone()
    changed = CHANGES[name](x, seeded())
    assert changed.shape == x.shape
    assert changed.dtype == torch.float32
    assert torch.isfinite(changed).all()
    assert torch.equal(x, before)
    assert not torch.equal(changed, x)


@pytest.mark.parametrize("name", CHANGES)
def test_the_seed_decides_and_nothing_else(name: str) -> None:
    x = inputs_of(name)
    torch.manual_seed(1)
    first = CHANGES[name](x, seeded(5))
    torch.manual_seed(2)
    assert torch.equal(first, CHANGES[name](x, seeded(5)))
    assert not torch.equal(first, CHANGES[name](x, seeded(6)))


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("batch", [1, 3])
def test_small_batches(name: str, batch: int) -> None:
    assert CHANGES[name](inputs_of(name, batch), seeded()).shape == inputs_of(name, batch).shape


def test_what_is_off_draws_nothing_and_changes_nothing() -> None:
    generator = seeded()
    state = generator.get_state()
    waveforms, pictures, features = inputs_of("gain"), inputs_of("flip"), inputs_of("spec_augment")
    assert augment_waveforms(waveforms, NO_AUGMENTATION, 16000, generator) is waveforms
    assert augment_pictures(pictures, NO_AUGMENTATION, generator) is pictures
    assert augment_features(features, NO_AUGMENTATION, HOP, generator) is features
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("option", WAVEFORM_OPTIONS)
def test_each_option_of_sounds_does_something_of_its_own(option: str) -> None:
    x = inputs_of("gain")
    on = augment_waveforms(x, NO_AUGMENTATION.model_copy(update={option: True}), 16000, seeded())
    assert not torch.equal(on, x)
    others = [
        augment_waveforms(x, NO_AUGMENTATION.model_copy(update={other: True}), 16000, seeded())
        for other in WAVEFORM_OPTIONS
        if other != option
    ]
    assert not any(torch.equal(on, other) for other in others)


def test_an_unresolved_flip_mirrors_nothing() -> None:
    x = inputs_of("flip")
    config = NO_AUGMENTATION.model_copy(update={"flip": "auto"})
    assert augment_pictures(x, config, seeded()) is x
    assert torch.equal(augment_pictures(x, NO_AUGMENTATION.model_copy(update={"flip": True}), seeded()), flip(x, seeded()))
    for option, change in (("crop", pad_crop), ("erase", erase)):
        assert torch.equal(augment_pictures(x, NO_AUGMENTATION.model_copy(update={option: True}), seeded()), change(x, seeded()))
    features = inputs_of("spec_augment")
    for option, change in FEATURE_CHANGES.items():
        assert torch.equal(
            augment_features(features, NO_AUGMENTATION.model_copy(update={option: True}), HOP, seeded()), change(features, seeded())
        )


def test_shifts_are_uniform_within_the_limit_and_bring_silence_in() -> None:
    click = torch.zeros(4000, 101)
    click[:, 50] = 1
    moved = time_shift(click, 20, seeded())
    assert (moved.sum(dim=1) == 1).all()
    places = moved.argmax(dim=1).numpy()
    assert (places.min(), places.max()) == (30, 70)
    assert stats.chisquare(np.bincount(places)[30:71]).pvalue > 0.001
    assert torch.equal(time_shift(click, 0, seeded()), click)


def test_the_shift_is_a_tenth_of_a_second() -> None:
    click = torch.zeros(3000, 4001)
    click[:, 2000] = 1
    moved = augment_waveforms(click, NO_AUGMENTATION.model_copy(update={"time_shift": True}), 8000, seeded())
    distance = (moved.argmax(dim=1) - 2000).abs().max()
    assert 790 < distance <= 800


def test_erasing_hides_up_to_two_sixths_of_the_rows_and_two_eighths_of_the_columns() -> None:
    x = torch.rand((2000, 3, 24, 24), generator=seeded(9))
    hidden = erase(x, seeded()) == x.mean(dim=(2, 3), keepdim=True)
    assert (hidden.all(dim=1) == hidden.any(dim=1)).all()  # in all channels alike
    rows, columns = hidden[:, 0].all(dim=2).sum(dim=1), hidden[:, 0].all(dim=1).sum(dim=1)
    assert (int(rows.max()), int(columns.max())) == (8, 6)
    assert (rows + columns == 0).sum() > 0  # some are seen whole


def test_speed_moves_the_pitch_by_up_to_a_tenth() -> None:
    hertz = 50.0  # cycles an item
    x = torch.sin(2 * math.pi * hertz * torch.arange(4000) / 4000).expand(200, -1)
    found = torch.fft.rfft(speed(x, seeded()), n=40000).abs().argmax(dim=1) / 10
    assert found.min() == pytest.approx(45, abs=0.6)
    assert found.max() == pytest.approx(55, abs=0.6)
    assert len(found.unique()) == pytest.approx(11, abs=2)


def test_speed_keeps_the_middle_in_the_middle() -> None:
    x = torch.zeros(100, 1001)
    x[:, 490:511] = 1
    centre = (speed(x, seeded()) * torch.arange(1001)).sum(dim=1) / speed(x, seeded()).sum(dim=1)
    assert (centre - 500).abs().max() < 1


def test_gain_is_up_to_six_decibels_either_way() -> None:
    x = inputs_of("gain", 3000)
    decibels = 20 * torch.log10(gain(x, seeded())[:, 0] / x[:, 0])
    assert -6.001 < decibels.min() < -5.9
    assert 5.9 < decibels.max() < 6.001
    assert stats.kstest(decibels.numpy(), stats.uniform(-6, 12).cdf).pvalue > 0.001


def test_two_in_five_sounds_ring_and_the_sound_itself_stays() -> None:
    click = torch.zeros(400, 4000)
    click[:, 100] = 1
    rung = echo(click, 8000, seeded())
    tails = rung[:, 101:].square().sum(dim=1)
    assert 0.33 < float((tails > 1e-6).float().mean()) < 0.47
    level = 10 * torch.log10(tails[tails > 1e-6])
    assert -21 < float(level.min()) < -17
    assert -6 < float(level.max()) < -2.9
    # The first sample of a tail falls on the sound itself.
    assert float((rung[:, 100] - 1).abs().max()) < 0.3
    assert torch.equal(rung[:, :100].abs() < 1e-4, torch.ones(400, 100, dtype=torch.bool))


def test_a_room_dies_away_within_the_time_promised() -> None:
    click = torch.zeros(200, 8000)
    click[:, 0] = 1
    energy = echo(click, 8000, seeded(3))[:, 1:].square().mean(dim=0)
    early, late = float(energy[:400].mean()), float(energy[3600:4000].mean())
    assert late < 1e-3 * early
    assert float(energy[4000:].max()) < 1e-9


def test_a_warp_moves_every_band_by_one_factor() -> None:
    x = torch.arange(40.0)[None, :, None].repeat(300, 1, 5)
    warped = warp(x, seeded())
    factors = 20 / warped[:, 20, 0]
    low, high = augment.WARP_RANGE
    assert low - 1e-3 <= float(factors.min()) < low + 0.02
    assert high - 0.02 < float(factors.max()) <= high + 1e-3
    assert torch.allclose(warped[:, 10, 0] * factors, torch.full((300,), 10.0), atol=1e-3)
    assert torch.equal(warped[:, :, 0], warped[:, :, 4])
    assert float(warped.max()) <= 39


def test_a_tempo_keeps_the_order_and_the_pitch_and_lasts_as_long_as_promised() -> None:
    n_frames = 101  # two seconds
    ramp = torch.arange(float(n_frames)).expand(400, 3, n_frames) * torch.tensor([1.0, 2.0, 3.0])[:, None]
    said = tempo(ramp, HOP, seeded())
    torch.testing.assert_close(said, said[:, :1] * torch.tensor([1.0, 2.0, 3.0])[:, None], msg="all bands move together")
    heard = said[:, 0]
    inside = heard > 0
    steps = heard.diff(dim=1)[inside[:, 1:] & inside[:, :-1]]
    fastest = 2 * math.pi * augment.BEND_SECONDS[1] * augment.BENDS_A_SECOND[1]
    assert steps.min() > augment.TEMPO_RANGE[0] - fastest > 0, "time never runs backwards"
    assert steps.max() < augment.TEMPO_RANGE[1] + fastest
    middle = heard[:, 75] - heard[:, 25]  # what is heard in the second in the middle, frames: none has ended there
    slack = 2 * augment.BEND_SECONDS[1] / HOP
    assert middle.min() == pytest.approx(50 * augment.TEMPO_RANGE[0], abs=slack)
    assert middle.max() == pytest.approx(50 * augment.TEMPO_RANGE[1], abs=slack)
    assert middle.std() > 5


def test_what_a_quick_item_leaves_at_its_ends_is_each_band_at_its_lowest() -> None:
    x = torch.rand(64, 5, 101, generator=seeded()) + torch.arange(5.0)[:, None]
    said = tempo(x, HOP, seeded())
    low = x.amin(dim=2)
    left = said[:, :, 0] == low
    assert torch.equal(left.all(dim=1), left.any(dim=1))
    assert 10 < left.all(dim=1).sum() < 54, "a third to a half are quicker"


@pytest.mark.parametrize("n_frames", [1, 2])
def test_a_tempo_of_hardly_any_frames(n_frames: int) -> None:
    x = torch.rand(8, 4, n_frames, generator=seeded())
    assert torch.isfinite(tempo(x, HOP, seeded())).all()


def test_noise_lies_5_to_40_decibels_below_four_fifths_of_the_sounds() -> None:
    x = torch.sin(torch.arange(2000) / 3).expand(2000, -1) * 0.1
    noise = add_noise(x, seeded()) - x
    clean = (noise == 0).all(dim=1)
    assert clean.float().mean() == pytest.approx(0.2, abs=0.03)
    ratio = 10 * torch.log10(x[~clean].square().mean(dim=1) / noise[~clean].square().mean(dim=1))
    # A stretch of brown noise can be far louder or softer than the period that it is cut from; the middle half is not moved by that.
    low, high = np.quantile(ratio, [0.25, 0.75])
    assert low == pytest.approx(5 + 35 / 4, abs=3)
    assert high == pytest.approx(5 + 35 * 3 / 4, abs=3)


def test_noise_of_a_whole_period_has_exactly_the_promised_level() -> None:
    x = torch.sin(torch.arange(augment.MIN_NOISE_PERIOD) / 3).expand(64, -1)
    noise = add_noise(x, seeded()) - x
    noisy = noise.abs().amax(dim=1) > 0
    ratio = 10 * torch.log10(x[noisy].square().mean(dim=1) / noise[noisy].square().mean(dim=1))
    assert ratio.min() >= 4.9
    assert ratio.max() <= 40.1


def test_noise_has_the_slopes_that_its_names_say() -> None:
    bank = augment._noise_bank(16384, seeded(), torch.device("cpu"))[:, :16384]
    torch.testing.assert_close(bank.square().mean(dim=1), torch.ones(4))
    power = torch.fft.rfft(bank).abs().square()
    frequencies = torch.arange(power.shape[1])
    for colour, spectrum in zip(augment.NOISE_COLOURS, power, strict=True):
        octaves = [(2.0**k, spectrum[(frequencies >= 2**k) & (frequencies < 2 ** (k + 1))].mean().item()) for k in range(4, 13)]
        slope = np.polyfit(np.log([low for low, _ in octaves]), np.log([mean for _, mean in octaves]), 1)[0]
        assert slope == pytest.approx(-colour, abs=0.1)


def test_silence_stays_silent_under_noise() -> None:
    assert not add_noise(torch.zeros(8, 500), seeded()).any()


def test_noise_longer_than_its_shortest_period() -> None:
    x = torch.rand(2, 40000, generator=seeded())
    assert torch.isfinite(add_noise(x, seeded())).all()


def test_masks_are_two_stretches_each_way_filled_with_the_mean() -> None:
    x = torch.rand(500, 64, 100, generator=seeded())
    masked = spec_augment(x, seeded())
    changed = masked != x
    bands, frames = changed.all(dim=2), changed.all(dim=1)
    assert torch.equal(changed, bands[:, :, None] | frames[:, None, :])
    assert 18 <= bands.sum(dim=1).max() <= 24  # two fifths of 64, rounded down stretch by stretch
    assert 22 <= frames.sum(dim=1).max() <= 30
    edges = (bands[:, 1:] & ~bands[:, :-1]).sum(dim=1) + bands[:, 0]
    assert edges.max() == 2
    means = x.mean(dim=(1, 2))[:, None, None].expand_as(x)
    torch.testing.assert_close(masked[changed], means[changed])
    assert bands.any(dim=0).all()
    assert frames.any(dim=0).all()


def test_half_of_the_pictures_are_mirrored() -> None:
    x = inputs_of("flip", 1000)
    flipped = flip(x, seeded())
    mirrored = (flipped == x.flip(3)).flatten(1).all(dim=1)
    same = (flipped == x).flatten(1).all(dim=1)
    assert (mirrored ^ same).all()
    assert mirrored.float().mean() == pytest.approx(0.5, abs=0.05)


def test_crops_are_moved_by_up_to_an_eighth_with_the_border_repeated() -> None:
    height, width = 16, 24
    rows = torch.arange(height).float()[:, None].expand(height, width)
    columns = torch.arange(width).float().expand(height, width)
    x = torch.stack([rows, columns]).expand(500, 2, height, width)
    moved = pad_crop(x, seeded())
    down, right = moved[:, 0, 8, 8] - 8, moved[:, 1, 8, 8] - 8
    assert set(down.tolist()) == set(range(-2, 3))
    assert set(right.tolist()) == set(range(-3, 4))
    expected = (torch.arange(height) + down[:, None]).clamp(0, height - 1)
    assert torch.equal(moved[:, 0, :, 0], expected)


@given(st.floats(0.01, 1), st.integers(1, 20), st.integers(0, 1000))
def test_mixtures_are_convex_and_the_item_weighs_most(alpha: float, batch: int, seed: int) -> None:
    targets = torch.eye(batch)
    mixed, mixed_targets = mixup(torch.eye(batch)[:, :, None], targets, alpha, seeded(seed))
    torch.testing.assert_close(mixed[:, :, 0], mixed_targets)
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(batch))
    assert (mixed_targets.diagonal() >= 0.5).all()


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0])
def test_weights_follow_the_beta_distribution(alpha: float) -> None:
    drawn = augment._symmetric_beta(4000, alpha, seeded()).numpy()
    assert drawn.shape == (4000,)
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 0.001


def test_mixup_repeats_with_its_seed() -> None:
    x, targets = inputs_of("flip", 16), torch.eye(16)
    first, again, other = (mixup(x, targets, 0.4, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
