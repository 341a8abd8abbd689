"""The error tree is as documented, and every error survives the way between processes."""

from __future__ import annotations

import pickle
import re

import pytest

from cutray import errors
from cutray.errors import CutrayError


def _family(cls: type[CutrayError], depth: int = 0) -> list[tuple[int, str]]:
    """Return depth and name of a class and all that derive from it."""
    below = [
        entry
        for child in cls.__subclasses__()
        if child.__module__ == errors.__name__
        for entry in _family(child, depth + 1)
    ]
    return [(depth, cls.__name__), *below]


CLASSES = [getattr(errors, name) for _, name in _family(CutrayError)]


def test_documented_tree_is_the_real_one() -> None:
    """The tree drawn in the documentation has the same classes under the same parents."""
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    assert [(len(lead) // 4, name) for lead, name in drawn] == _family(CutrayError)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_survive_pickling(cls: type[CutrayError]) -> None:
    """A pickled error comes back with its class, message and parts."""
    error = cls(got="a square wheel", allowed="round ones", fix="file the corners off")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == str(error) == "a square wheel (allowed: round ones). File the corners off."
    assert (copy.got, copy.allowed, copy.fix, copy.code) == (error.got, error.allowed, error.fix, error.code)


def test_codes_are_unique() -> None:
    """Every class has a code of its own, in lower case, that programs can rely on."""
    codes = [cls.__dict__["code"] for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_missing_parts_leave_no_trace() -> None:
    """A message without allowed values or advice ends after what was got."""
    assert str(CutrayError("it broke")) == "it broke."
    assert str(CutrayError("it broke", fix="mend it")) == "it broke. Mend it."


def test_parts_that_end_in_a_full_stop_do_not_double_it() -> None:
    """Texts of other libraries often end in a full stop; the message has one."""
    error = CutrayError("no route to host.", "a host that answers.", "check the network.")
    assert str(error) == "no route to host (allowed: a host that answers). Check the network."
    assert str(CutrayError("no 'optm', did you mean 'optim'?", fix="correct it")) == (
        "no 'optm', did you mean 'optim'? Correct it."
    )
