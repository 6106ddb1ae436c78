import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textgrids import fill, long_form, short_form

from diarize.errors import RttmError
from diarize.formats.textgrid import Interval, read_textgrid
from diarize.turns import Turn

TALK = {
    "001-M": [(0.5, 1.25, "你好"), (3.0, 3.5, 'he said "yes" to ""')],
    "N_F_SPK8013": [(1.0, 2.0, "12 <exists> ! size = 3 [1]:\nxmin = 9")],
}


@pytest.fixture
def textgrid(tmp_path):
    """A function that writes a TextGrid and returns its path."""

    def write(text, encoding="utf-8"):
        path = tmp_path / "meeting.TextGrid"
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.mark.parametrize("form", [long_form, short_form])
def test_both_forms_are_read(form, textgrid):
    first, second = read_textgrid(textgrid(form(TALK, 4.0)))
    assert (first.name, second.name) == ("001-M", "N_F_SPK8013")
    assert first.intervals == [
        Interval(0.0, 0.5, ""),
        Interval(0.5, 1.25, "你好"),
        Interval(1.25, 3.0, ""),
        Interval(3.0, 3.5, 'he said "yes" to ""'),
        Interval(3.5, 4.0, ""),
    ]
    assert second.intervals[1] == Interval(1.0, 2.0, TALK["N_F_SPK8013"][0][2])


def test_intervals_with_a_text_are_turns(textgrid):
    spaces = {**TALK, "quiet": [(0.0, 1.0, "  ")]}
    first, second, quiet = read_textgrid(textgrid(long_form(spaces, 4.0)))
    assert first.turns() == [Turn(0.5, 1.25, "001-M"), Turn(3.0, 3.5, "001-M")]
    assert second.turns("8013") == [Turn(1.0, 2.0, "8013")]
    assert quiet.turns() == []


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", ""), ("utf-8", "\ufeff"), ("utf-16-le", "\ufeff"), ("utf-16-be", "\ufeff"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(encoding, mark, ends, textgrid):
    path = textgrid(mark + short_form(TALK, 4.0).replace("\n", ends), encoding)
    assert read_textgrid(path)[0].turns()[0] == Turn(0.5, 1.25, "001-M")


def test_points_are_no_intervals(textgrid):
    text = long_form({"a": [(0.0, 1.0, "x")]}, 1.0).replace("size = 1 \nitem", "size = 2 \nitem")
    text += 'item [2]:\n class = "TextTier"\n name = "bells"\n xmin = 0\n xmax = 1\n'
    text += ' points: size = 1\n points [1]:\n number = 0.5\n mark = "ding"\n'
    tier, bells = read_textgrid(textgrid(text))
    assert (len(tier.intervals), bells.name, bells.intervals) == (1, "bells", [])


def test_heads_are_not_trusted_where_entries_say_more(textgrid):
    # AISHELL-4 (felixfuyihui/AISHELL-4 issue 11): an interval ends after its tier.
    late = long_form({"a": [(0.0, 5.0, "x")]}, 5.0).replace("xmax = 5 ", "xmax = 4 ")
    assert read_textgrid(textgrid(late))[0].turns() == [Turn(0.0, 5.0, "a")]
    # Montreal Forced Aligner (issue 756): more intervals than the tier says.
    text = long_form({"a": [(0.0, 1.0, "x"), (1.0, 2.0, "y")], "b": []}, 2.0)
    first, second = read_textgrid(
        textgrid(text.replace("intervals: size = 2", "intervals: size = 1"))
    )
    assert (len(first.turns()), second.name) == (2, "b")


def test_an_old_head_of_the_short_form(textgrid):
    text = short_form(TALK, 4.0).replace(
        'File type = "ooTextFile"\nObject class = "TextGrid"', '"ooTextFile short"\n"TextGrid"'
    )
    assert len(read_textgrid(textgrid(text))) == 2


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6), st.text()), max_size=4),
        max_size=4,
    ),
    st.sampled_from(["utf-8", "utf-16"]),
)
def test_what_is_written_is_read(tmp_path_factory, drawn, encoding):
    tiers, end = {}, 0.0
    for name, steps in drawn.items():
        entries, last = [], 0
        for gap, length, text in steps:
            entries.append(((last + gap) / 1000, (last + gap + length) / 1000, text))
            last += gap + length
        tiers[name], end = entries, max(end, last / 1000)
    path = tmp_path_factory.getbasetemp() / "drawn.TextGrid"
    forms = []
    for form in (long_form, short_form):
        text = form(tiers, end)
        path.write_bytes(text.encode(encoding, "surrogatepass"))
        forms.append(read_textgrid(path))
    assert forms[0] == forms[1]

    def lines(text):
        return text.replace("\r\n", "\n").replace("\r", "\n")

    assert [(tier.name, tier.intervals) for tier in forms[0]] == [
        (lines(name), [(a, b, lines(text).strip()) for a, b, text in fill(entries, end)])
        for name, entries in tiers.items()
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ooTextFile", "chronological"), "2: is no TextGrid"),
        (('"TextGrid"', '"Pitch"'), "2: is no TextGrid, but one begins"),
        (("IntervalTier", "Tier"), "8: has a tier of class 'Tier', but there are IntervalTier and"),
        (('"a"', "7"), "9: has 7, but the name of a tier, in quotes, must follow"),
        (("\n0.0\n1.0", '\n0.0\n"1.0"'), "14: has '1.0', but a time of tier 'a', a number, must"),
        (('"w"', "7"), "15: has 7, but a label of tier 'a', in quotes, must follow. Mend the file"),
        (("\n1.0\n2.0", "\n2.0\n1.0"), "17: an entry of tier 'a' lasts from 2 s to 1 s, but times"),
        (("\n0.0\n1.0", "\n-1\n1.0"), "14: an entry of tier 'a' lasts from -1 s to 1 s, but times"),
        (("\n1.0\n2.0", "\n1.0\n1e999"), "17: an entry of tier 'a' lasts from 1 s to inf s"),
        (('"x y"', '"x y'), "opens a text by a quote, but none closes it"),
        (("\n2\n0.0", "\n3\n0.0"), "18: tier 'a' ends after 2 entries, but its head says 3. Is"),
        (("<exists>\n1", "<exists>\n2"), "18: ends after 1 tiers, but its head says 2. Is the"),
        (('\n2.0\n"x y"', ""), "16: the file ends here, but a time of tier 'a' must follow"),
    ],
)
def test_faults_are_told_with_their_place(change, message, textgrid):
    text = short_form({"a": [(0.0, 1.0, "w"), (1.0, 2.0, "x y")]}, 2.0)
    assert change[0] in text
    path = textgrid(text.replace(*change))
    with pytest.raises(RttmError, match="meeting.TextGrid:.*") as raised:
        read_textgrid(path)
    assert message in str(raised.value)


def test_what_is_no_text_is_told(tmp_path, textgrid):
    with pytest.raises(RttmError, match="none.TextGrid: cannot be read .No such file"):
        read_textgrid(tmp_path / "none.TextGrid")
    path = textgrid("")
    with pytest.raises(RttmError, match=":1: the file ends here, but a file type must follow"):
        read_textgrid(path)
    path.write_bytes(b"ooBinaryFile\x08TextGrid\x00")
    with pytest.raises(RttmError, match="is a binary TextGrid, but text is read"):
        read_textgrid(path)
    path.write_bytes(b'"ooTextFile"\n"TextGrid"\n"\xb0\xa1"')
    with pytest.raises(RttmError, match=":3: is neither UTF-8 nor UTF-16 with a byte order mark"):
        read_textgrid(path)
    path.write_bytes(codecs.BOM_UTF16_LE + '"a"\n'.encode("utf-16-le") + b"\x00\xd8\x00\x00")
    with pytest.raises(RttmError, match=":2: is neither UTF-8 nor UTF-16"):
        read_textgrid(path)
