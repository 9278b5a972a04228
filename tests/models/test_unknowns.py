"""Unknown sounds: of the right form, repeatable, and really none of the words that they were made of."""

import pytest
import torch
from torch import Tensor

from models import unknowns
from models.unknowns import noises, other_words, rearranged_words

N = 4000
RATE = 16000
TRUTH = torch.tensor([0, 0, 1, 1, 2, 2])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips() -> Tensor:
    """Clips that differ: a rising sine of its own frequency each."""
    time = torch.arange(N) / RATE
    return torch.stack([0.5 * (0.2 + time / time[-1]) * torch.sin(2 * torch.pi * (300 + 200 * k) * time) for k in range(len(TRUTH))])


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_as_many_as_asked_for(count: int) -> None:
    for sounds in (
        noises(count, N, RATE, generator()),
        *(make(clips(), TRUTH, count, generator()) for make in (other_words, rearranged_words)),
    ):
        assert sounds.shape == (count, N)
        assert torch.isfinite(sounds).all()
        assert float(sounds.abs().max()) <= 1


def test_a_seed_means_the_same_and_another_one_something_else() -> None:
    for make in (lambda g: noises(20, N, RATE, g), lambda g: other_words(clips(), TRUTH, 20, g)):
        torch.testing.assert_close(make(generator(1)), make(generator(1)), rtol=0, atol=0)
        assert not torch.equal(make(generator(1)), make(generator(2)))


def test_noises_are_of_many_levels_and_colors() -> None:
    sounds = noises(200, N, RATE, generator())
    peaks = 20 * torch.log10(sounds.abs().amax(dim=1))
    assert peaks.max() > -12
    assert peaks.min() < -50
    power = torch.fft.rfft(sounds).abs().square()
    low_share = power[:, : power.shape[1] // 8].sum(1) / power.sum(1)
    assert low_share.min() < 0.2
    assert low_share.max() > 0.9


def test_every_kind_of_noise_sounds() -> None:
    for make in unknowns._NOISES:
        assert (make(6, N, RATE, generator()).abs().amax(dim=1) > 0).all(), make.__name__


def test_a_partner_bears_another_label() -> None:
    marked = torch.arange(len(TRUTH)).float()[:, None].expand(-1, N)
    chosen = torch.randint(0, len(TRUTH), (500,), generator=generator())
    partners = unknowns._partners(marked, TRUTH, chosen, generator(1))[:, 0].long()
    assert (TRUTH[partners] != TRUTH[chosen]).all()
    assert set(partners.tolist()) == set(range(len(TRUTH))), "every clip is a partner for some"


def test_one_label_alone_still_gives_words() -> None:
    assert other_words(clips()[:1], torch.tensor([0]), 9, generator()).shape == (9, N)


def test_backwards_is_backwards() -> None:
    torch.testing.assert_close(unknowns._reversed(clips(), clips(), generator()), clips().flip(1))


def test_a_splice_begins_as_one_clip_and_ends_as_the_other() -> None:
    one = torch.zeros(1, N)
    other = torch.zeros(1, N)
    one[0, 1000:3000] = 0.5
    other[0, 500:2500] = -0.25  # its middle lies elsewhere
    spliced = unknowns._spliced(one, other, generator())[0]
    middle = int((spliced < 0).nonzero()[0])
    assert 1500 < middle < 2500
    assert (spliced[1000 : middle - 100] == 0.5).all()
    end = int(spliced.nonzero()[-1])
    assert end - middle == pytest.approx(1000, abs=300), "half of the other clip, not its beginning or all of it"
    assert (spliced[middle + 100 : end] == -0.25).all()


def test_shuffling_keeps_the_sound_and_loses_the_order() -> None:
    rising = torch.linspace(0.1, 0.9, N)[None]
    shuffled = unknowns._shuffled(rising, rising, generator(3))
    assert float(shuffled.square().sum()) == pytest.approx(float(rising.square().sum()), rel=0.25)
    assert float(torch.corrcoef(torch.stack([rising[0], shuffled[0]]))[0, 1]) < 0.9
    assert shuffled[0].diff().abs().max() < 0.05, "joints are faded"
