"""From measurements to a quote."""

import pytest

from worker.estimates import Pace, Shape, Sizes, Span, Stage, blended, disk_of, memory_of, quote_of, saving_share, training_stage

MIB = 2**20


def test_a_span_is_as_wide_as_the_laps_differ_and_never_narrow() -> None:
    even, uneven = Span.of([1.0, 1.0, 1.0]), Span.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (even.low, even.expected, even.high) == pytest.approx((0.85, 1.0, 1.15))
    assert uneven.expected == 3.0
    assert uneven.low < 2.0
    assert uneven.high > 4.0


def test_spans_add_up_and_end() -> None:
    total = Span(1, 2, 3) + Span(1, 1, 1) * 2
    assert total == Span(3, 4, 5)
    assert total.up_to(4.5) == Span(3, 4, 4.5)


def test_a_training_may_end_early() -> None:
    pace = Pace(begin=1.0, step=Span(1, 2, 3), item=Span(0.1, 0.1, 0.1))
    stage = training_stage(pace, Shape(epochs=10, least_epochs=4, batches=5, judged=10), saving=0.0)
    assert stage.steps == 50
    assert stage.seconds.low == pytest.approx(0.85 + 4 * 6)
    assert stage.seconds.expected == pytest.approx(1 + 10 * 11)
    assert stage.seconds.high == pytest.approx(1.15 + 10 * 16)


def test_checkpoints_take_their_share() -> None:
    assert saving_share(Sizes(0, 0, 300_000_000, 0), 10.0) == pytest.approx(0.1)
    assert saving_share(Sizes(0, 0, 300_000_000, 0), 0.0) == 1.0


def test_layers_that_stand_still_at_first_make_the_first_steps_cheap() -> None:
    both = blended(Span.about(1.0), Span.about(2.0), 0.25)
    assert both.expected == pytest.approx(1.75)
    assert both.low < 1.0
    assert both.high > 2.0


def test_disk_and_memory_count_what_lies_there_at_a_time() -> None:
    sizes = Sizes(prepared=100 * MIB, weights=10 * MIB, checkpoint=40 * MIB, memory=500 * MIB)
    assert 100 * MIB + 3 * 40 * MIB + 2 * 10 * MIB < disk_of(sizes) < 245 * MIB
    assert memory_of(sizes, on_gpu=True) == 500 * MIB
    assert memory_of(sizes, on_gpu=False) == pytest.approx(609 * MIB), "exporting needs more than saving"


def test_a_quote_adds_its_stages() -> None:
    quote = quote_of([Stage("starting", Span(1, 2, 3)), Stage("training", Span(10, 20, 30), 40), Stage("choosing", Span(), 5)])
    assert quote["steps"] == 45
    assert quote["estimated_seconds"] == {"low": 11, "expected": 22, "high": 33}
    assert [stage["name"] for stage in quote["stages"]] == ["starting", "training", "choosing"]
