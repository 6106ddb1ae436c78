import hashlib
import io
import os
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.errors import RttmError
from diarize.formats.rttm import (
    check_name,
    format_rttm,
    read_columns,
    read_rttm,
    read_rttm_file,
    scan_rttm,
    write_rttm,
)
from diarize.turns import Turn, in_order

NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8).filter(
    lambda name: name.split() == [name] and name != "<NA>"
)
MILLISECONDS = st.integers(0, 20_000_000)
TURNS = st.builds(
    lambda start, length, speaker, confidence, channel: Turn(
        start / 1000, (start + length) / 1000, speaker, confidence, channel
    ),
    MILLISECONDS,
    MILLISECONDS,
    NAMES,
    st.none() | st.integers(0, 1000).map(lambda number: number / 1000),
    st.sampled_from(("1", "2", "A")),
)

LINE = "SPEAKER meeting 1 3.340 0.540 <NA> <NA> alice <NA> <NA>\n"


@pytest.fixture
def rttm(tmp_path):
    """A function that writes an RTTM file and returns its path."""

    def write(text):
        path = tmp_path / "ref.rttm"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_line_is_ten_fields():
    turn = Turn(3.34, 3.88, "alice", 0.75, "2")
    expected = "SPEAKER meeting 2 3.340 0.540 <NA> <NA> alice 0.75 <NA>\n"
    assert format_rttm("meeting", [turn]) == expected


def test_reading_takes_session_channel_times_speaker_and_confidence(rttm):
    path = rttm(LINE + "SPEAKER other 2 0.1 0.2 <NA> <NA> bob 0.75 <NA>\n")
    assert read_rttm(path) == {
        "meeting": [Turn(3.34, 3.88, "alice")],
        "other": [Turn(0.1, 0.3, "bob", 0.75, "2")],
    }


def test_nine_fields_tabs_and_extra_spaces_are_read(rttm):
    path = rttm("SPEAKER   meeting 1\t3.340   0.540 <NA> <NA> alice  0.5\r\n")
    assert read_rttm(path) == {"meeting": [Turn(3.34, 3.88, "alice", 0.5)]}


def test_comments_empty_lines_and_other_types_are_passed_over(rttm):
    info = "SPKR-INFO meeting 1 <NA> <NA> <NA> adult_female alice <NA> <NA>\n"
    assert read_rttm(rttm(f";; a comment\n\n  \n{info}{LINE}")) == read_rttm(rttm(LINE))


def test_an_empty_file_has_no_session(rttm):
    assert read_rttm(rttm("")) == {}


def test_times_are_the_decimals_that_were_written(rttm):
    # In binary, 0.1 + 0.2 ends after the start of the next turn, 0.3.
    line = "SPEAKER s 1 {} {} <NA> <NA> a <NA> <NA>\n"
    turns = read_rttm(rttm(line.format("0.1", "0.2") + line.format("0.3", "0.1")))["s"]
    assert turns[0].end == turns[1].start == 0.3


def test_writing_sorts_by_start_then_end_then_speaker_and_keeps_sessions_in_order():
    stream = io.StringIO()
    turns = [Turn(2, 3, "b"), Turn(1, 3, "c"), Turn(2, 3, "a"), Turn(1, 2, "d")]
    write_rttm(stream, {"z": turns, "a": turns[:1]})
    lines = [line.split() for line in stream.getvalue().splitlines()]
    assert [(fields[1], fields[7]) for fields in lines] == [
        ("z", "d"), ("z", "c"), ("z", "a"), ("z", "b"), ("a", "b"),
    ]  # fmt: skip


def test_turns_that_touch_still_touch_when_rounded():
    first, second = Turn(0.0, 1.0006, "a"), Turn(1.0006, 2.0004, "a")
    text = format_rttm("s", [first, second])
    assert [line.split()[3:5] for line in text.splitlines()] == [
        ["0.000", "1.001"],
        ["1.001", "0.999"],
    ]


def test_a_path_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.rttm"
    path.write_text("before")
    with pytest.raises(RttmError):
        write_rttm(path, {"good": [Turn(0, 1, "a")], "bad one": []})
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@settings(deadline=None, max_examples=80)
@given(st.dictionaries(NAMES, st.lists(TURNS, min_size=1, max_size=5), max_size=3))
def test_what_was_written_is_read(tmp_path_factory, sessions):
    path = tmp_path_factory.getbasetemp() / "round_trip.rttm"
    write_rttm(path, sessions)
    assert read_rttm(path) == {name: in_order(turns) for name, turns in sessions.items()}


@settings(deadline=None, max_examples=40)
@given(st.lists(TURNS, max_size=6))
def test_text_that_was_read_is_written_again_byte_by_byte(tmp_path_factory, turns):
    path = tmp_path_factory.getbasetemp() / "again.rttm"
    write_rttm(path, {"s": turns})
    text = path.read_bytes()
    write_rttm(path, read_rttm(path))
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SPEAKER s 1 0 1 <NA> <NA> a", r"has 8 fields, but RTTM has 9 or 10\. Is a speaker name"),
        ("SPEAKER s 1 0 1 <NA> <NA> <NA> <NA>", r"has the speaker <NA>, but a turn is somebody's"),
        ("SPEAKER s 1 0 1 <NA> <NA> a b <NA> <NA>", r"has 11 fields.*Has a name a space\?"),
        ("SPEAKER s 1 0 -0.5 <NA> <NA> a <NA> <NA>", r"duration is -0\.5, but time runs forward"),
        (
            "SPEAKER s 1 -2.5 1 <NA> <NA> a <NA> <NA>",
            r"start is -2\.5, but a recording starts",
        ),
        ("SPEAKER s 1 zero 1 <NA> <NA> a <NA> <NA>", r"start is 'zero', but it must be a number"),
        ("SPEAKER s 1 0 nan <NA> <NA> a <NA> <NA>", r"duration is 'nan', but it must be a number"),
        ("SPEAKER s 1 0 inf <NA> <NA> a <NA> <NA>", r"duration is 'inf', but it must be a number"),
        (
            "SPEAKER s 1 0 1e9 <NA> <NA> a <NA> <NA>",
            r"ends at 1e\+09 s, but no recording lasts 1e\+09 s, 31 years\. Are its times sec",
        ),
        ("SPEAKER s 1 0 1 <NA> <NA> a 87 <NA>", r"confidence is 87, but it is a prob.*Write <NA>"),
        ("SPEAKER s 1 0 1 <NA> <NA> a -1 <NA>", r"confidence is -1, but it is a prob.*Write <NA>"),
        ("speaker s 1 0 1 <NA> <NA> a <NA> <NA>", r"begins with 'speaker', but.*Is the file RTTM"),
    ],
)
def test_a_faulty_line_is_told_with_its_place(rttm, line, message):
    path = rttm(LINE + line + "\n")
    with pytest.raises(RttmError, match=rf"ref\.rttm:2: .*{message}"):
        read_rttm(path)


def test_scanning_finds_every_fault_and_every_good_line(rttm):
    path = rttm("SPEAKER s 1\n" + LINE + "SPEAKER s 1 0 -1 <NA> <NA> a <NA> <NA>\n" + LINE)
    lines, faults = scan_rttm(path)
    assert [line.number for line in lines] == [2, 4]
    assert [fault.split(":")[1] for fault in faults] == ["1", "3"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RttmError, match=r"gone\.rttm: cannot be read \(No such file.*Check"):
        read_rttm(tmp_path / "gone.rttm")


def test_ids_and_speakers_with_white_space_are_refused_with_the_way_out():
    with pytest.raises(RttmError, match=r"session id 'my meeting' has white space.*'my_meeting'"):
        format_rttm("my meeting", [])
    with pytest.raises(RttmError, match=r"speaker 'Ann\\tLee' has white space.*'Ann_Lee'"):
        format_rttm("s", [Turn(0, 1, "Ann\tLee")])
    with pytest.raises(RttmError, match=r"session id '' is empty"):
        format_rttm("", [])
    with pytest.raises(RttmError, match=r"speaker is '<NA>', but that stands for nothing in RTTM"):
        format_rttm("s", [Turn(0, 1, "<NA>")])
    with pytest.raises(RttmError, match=r"speaker 'a\\u3000b' has white space"):
        check_name("speaker", "a\u3000b")


@pytest.mark.parametrize("turn", [Turn(2, 1, "a"), Turn(-1, 1, "a"), Turn(0, float("nan"), "a")])
def test_turns_that_cannot_be_are_not_written(turn):
    with pytest.raises(RttmError, match=rf"'s'.*from {turn.start} s to {turn.end} s, but RTTM"):
        format_rttm("s", [turn])


# ---- column by column

ODD = ("SPEAKER", "meeting", "1", "0.1", "3.34", "-1", "nan", "<NA>", "0.5", ";", "LEXEME", "x y")
FIELDS = st.lists(st.sampled_from(ODD), min_size=0, max_size=12).map(" ".join)


def columns_as_turns(path):
    return {
        name: [
            Turn(start, end, speaker, channel=channel)
            for start, end, speaker, channel in zip(
                c.start.tolist(), c.end.tolist(), c.speakers, c.channels, strict=True
            )
        ]
        for name, c in read_columns(path).items()
    }


def without_confidences(sessions):
    return {
        name: [replace(turn, confidence=None) for turn in turns] for name, turns in sessions.items()
    }


@given(turns=st.lists(TURNS, max_size=8), names=st.lists(NAMES, min_size=1, max_size=3))
@settings(deadline=None, max_examples=50)
def test_columns_are_the_turns(tmp_path_factory, turns, names):
    path = tmp_path_factory.mktemp("rttm") / "ref.rttm"
    write_rttm(path, {name: turns for name in names})
    assert columns_as_turns(path) == without_confidences(read_rttm(path))


@given(lines=st.lists(st.just(LINE.strip()) | FIELDS, max_size=4))
@settings(deadline=None, max_examples=200)
def test_columns_of_any_file_are_the_turns_or_the_same_fault(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("rttm") / "ref.rttm"
    path.write_text("\n".join(lines))
    try:
        expected = without_confidences(read_rttm(path))
    except RttmError as fault:
        with pytest.raises(RttmError) as raised:
            read_columns(path)
        assert str(raised.value) == str(fault)
    else:
        assert columns_as_turns(path) == expected


KINDS = {
    "9 fields": LINE.replace(" <NA>\n", "\n"),
    "tabs": LINE.replace(" ", "\t"),
    "a byte order mark": "\ufeff" + LINE,
    "carriage returns": LINE.replace("\n", "\r\n"),
    "a confidence": LINE.replace("alice <NA>", "alice 0.75"),
    "spaces before it": "  " + LINE,
    "10 fields after 9": LINE.replace(" <NA>\n", "\n") + LINE.replace("meeting", "other"),
    "lines of two sessions by turns": (LINE + LINE.replace("meeting", "other")) * 2,
    "two channels": LINE + LINE.replace("meeting 1", "meeting 2"),
}


@pytest.mark.parametrize("block", [1, 3, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_every_kind_of_file_are_its_turns(rttm, kind, block, monkeypatch):
    monkeypatch.setattr("diarize.formats.rttm.BLOCK", block)
    path = rttm("")
    path.write_bytes(KINDS[kind].encode() * (1 if kind.startswith("a byte") else 5))
    assert columns_as_turns(path) == without_confidences(read_rttm(path))
    assert read_columns(path)["meeting"].start[0] == 3.34


def test_speakers_are_numbered_in_the_order_of_their_names(rttm):
    path = rttm(LINE + LINE.replace("alice", "bob") + LINE.replace("alice", "Al") + LINE)
    speakers, who = read_columns(path)["meeting"].numbered()
    assert (speakers, who.tolist()) == (["Al", "alice", "bob"], [1, 2, 0, 1])


def test_a_file_is_its_turns_its_hash_and_what_it_holds_besides(rttm):
    info = "SPKR-INFO meeting 1 <NA> <NA> <NA> adult_female alice <NA> <NA>\n"
    text = f";; one\n  ; two\n\n{info}{LINE} {LINE}NOSCORE meeting 1 0 1 <NA> <NA> <NA> <NA>\n"
    found = read_rttm_file(rttm(text))
    assert found.passed_over == {";": 2, "SPKR-INFO": 1, "NOSCORE": 1}
    assert len(found.sessions["meeting"].start) == 2
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert read_rttm_file(rttm("")).sessions == {}


def test_a_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = LINE.replace(" <NA>\n", "\n") + LINE  # which takes a closer look
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    found = read_rttm_file(pipe)
    writer.join()
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert len(found.sessions["meeting"].start) == 2


def test_columns_of_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RttmError, match=r"gone\.rttm: cannot be read \(No such file"):
        read_columns(tmp_path / "gone.rttm")
