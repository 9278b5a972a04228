"""The tree of errors: each has a code of its own, and says what, where and what to do."""

import re

import pytest

from models import errors
from models.errors import (
    ArtifactError,
    ConfigError,
    DatasetError,
    InputError,
    Interrupted,
    MediaContentError,
    MediaError,
    MediaTypeError,
    SynesthesiaError,
    TrainingError,
    UnavailableError,
)

PARENTS = {
    InputError: SynesthesiaError,
    MediaError: InputError,
    MediaTypeError: MediaError,
    MediaContentError: MediaError,
    DatasetError: InputError,
    ConfigError: InputError,
    UnavailableError: SynesthesiaError,
    ArtifactError: SynesthesiaError,
    TrainingError: SynesthesiaError,
    Interrupted: TrainingError,
}


def family(root: type[SynesthesiaError]) -> list[type[SynesthesiaError]]:
    """All classes of models/errors.py from `root` down."""
    own = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(member for child in own for member in family(child))]


def test_the_tree_is_the_one_in_the_docstring() -> None:
    assert {kind: kind.__base__ for kind in family(SynesthesiaError)[1:]} == PARENTS
    drawn = re.findall(r"^[ │]*[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(kind.__name__ for kind in PARENTS)


def test_every_class_has_its_own_published_code() -> None:
    codes = [kind.code for kind in family(SynesthesiaError)]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", family(SynesthesiaError))
def test_an_error_carries_what_it_was_given(kind: type[SynesthesiaError]) -> None:
    plain = kind("It broke.")
    assert (str(plain), plain.message, plain.code, plain.param, plain.hint) == ("It broke.", "It broke.", kind.code, None, None)
    full = kind("It broke.", code="special", param="seed", hint="Mend it.")
    assert (full.code, full.param, full.hint) == ("special", "seed", "Mend it.")
    assert kind.code != "special"
