import hashlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.errors import RttmError
from diarize.formats.uem import read_uem, read_uem_file, write_uem
from diarize.turns import Segment

REGIONS = st.lists(
    st.builds(
        lambda start, length: Segment(start / 1000, (start + length) / 1000),
        st.integers(0, 9_000_000),
        st.integers(1, 9_000_000),
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture
def uem(tmp_path):
    """A function that writes a UEM file and returns its path."""

    def write(text):
        path = tmp_path / "all.uem"
        path.write_text(text)
        return path

    return write


def test_regions_are_read_by_session(uem):
    path = uem(";; comment\nmeeting 1 0.000 30.5\n\nother A 1 2\nmeeting\t1 40 50\n")
    assert read_uem(path) == {
        "meeting": [Segment(0.0, 30.5), Segment(40.0, 50.0)],
        "other": [Segment(1.0, 2.0)],
    }


def test_a_file_is_its_lines_channels_and_hash(uem):
    text = ";; comment\nmeeting 1 0.000 30.5\nmeeting B 1 2\n"
    found = read_uem_file(uem(text))
    assert [(line.number, line.channel, line.segment) for line in found.lines] == [
        (2, "1", Segment(0.0, 30.5)),
        (3, "B", Segment(1.0, 2.0)),
    ]
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_a_region_is_written_with_three_decimals_in_order_of_time():
    stream = io.StringIO()
    write_uem(stream, {"meeting": [Segment(40, 50), Segment(0, 30.5)]})
    assert stream.getvalue() == "meeting 1 0.000 30.500\nmeeting 1 40.000 50.000\n"


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from(("a", "b-2", "ü")), REGIONS))
def test_what_was_written_is_read(tmp_path_factory, sessions):
    path = tmp_path_factory.getbasetemp() / "round_trip.uem"
    write_uem(path, sessions)
    assert read_uem(path) == {name: sorted(regions) for name, regions in sessions.items()}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("s 1 0", r"has 3 fields, but UEM has 4"),
        ("s 1 0 1 2", r"has 5 fields, but UEM has 4"),
        ("s 1 5 4", r"from 5 s to 4 s, but UEM holds 0 <= start < end"),
        ("s 1 4 4", r"from 4 s to 4 s"),
        ("s 1 -1 4", r"from -1 s to 4 s"),
        ("s 1 a 4", r"'a' to '4', but both must be numbers"),
        ("s 1 0 1e9", r"region ends at 1e9 s, but no recording lasts 1e\+09 s, 31 years"),
        ("s 1 0 inf", r"'0' to 'inf', but both must be numbers"),
    ],
)
def test_a_faulty_line_is_told_with_its_place(uem, line, message):
    with pytest.raises(RttmError, match=rf"all\.uem:2: .*{message}"):
        read_uem(uem(f"s 1 0 1\n{line}\n"))


def test_what_uem_cannot_hold_is_not_written():
    with pytest.raises(RttmError, match=r"session id 'a b' .* white space.*Give another"):
        write_uem(io.StringIO(), {"a b": [Segment(0, 1)]})
    with pytest.raises(RttmError, match=r"'s': a region lasts from 2 s to 1 s, but UEM"):
        write_uem(io.StringIO(), {"s": [Segment(2, 1)]})
