"""Every mistake of a user is one family, so that the command line can catch it in one place."""

import pytest

from diarize import DiarizeError, errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]
assert len(KINDS) >= 7


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_a_diarize_error_and_a_value_error(kind):
    assert issubclass(kind, DiarizeError)
    assert issubclass(kind, ValueError)
