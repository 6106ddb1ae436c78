import io
import json

import numpy as np
import pytest

from diarize.errors import RttmError
from diarize.formats.json import format_json, read_json, write_json
from diarize.turns import Turn

TURNS = [Turn(2.0, 3.00049, "bob", 0.5), Turn(0.5, 2.25, "alice")]


def test_facts_come_first_then_speakers_as_they_arrive_then_a_line_per_turn():
    assert format_json("meeting", TURNS, duration=4.5) == (
        '{"session_id": "meeting", "duration": 4.5, "speakers": ["alice", "bob"], "turns": [\n'
        '  {"start": 0.5, "end": 2.25, "speaker": "alice"},\n'
        '  {"start": 2.0, "end": 3.0, "speaker": "bob", "confidence": 0.5}\n'
        "]}\n"
    )


def test_nobody_speaking_is_an_empty_list():
    assert json.loads(format_json("quiet", [])) == {
        "session_id": "quiet", "speakers": [], "turns": [],
    }  # fmt: skip


def test_numpy_numbers_and_any_letters_are_written():
    turn = Turn(np.float64(1.5), np.float32(2.5), "Зоя", np.float32(0.25))
    read = json.loads(format_json("日本 語", [turn]))
    assert read["session_id"] == "日本 語"
    assert read["turns"] == [{"start": 1.5, "end": 2.5, "speaker": "Зоя", "confidence": 0.25}]


def test_a_path_is_written_whole_and_a_stream_likewise(tmp_path):
    path, stream = tmp_path / "a.json", io.StringIO()
    write_json(path, "meeting", TURNS, model="tiny")
    write_json(stream, "meeting", TURNS, model="tiny")
    assert path.read_text(encoding="utf-8") == stream.getvalue()
    assert list(tmp_path.iterdir()) == [path]


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_json("a", [], duration=float("nan"))


def test_reading_returns_what_was_written(tmp_path):
    write_json(tmp_path / "a.json", "meeting", TURNS, duration=4.5)
    assert read_json(tmp_path / "a.json") == {
        "meeting": [Turn(0.5, 2.25, "alice"), Turn(2.0, 3.0, "bob", 0.5)]
    }


def test_a_session_a_line_is_read_as_well(tmp_path):
    texts = (format_json(name, TURNS) for name in ("a", "b"))
    lines = (json.dumps(json.loads(text)) for text in texts)
    (tmp_path / "ab.jsonl").write_text("\n".join(lines) + "\n\n")
    found = read_json(tmp_path / "ab.jsonl")
    assert list(found) == ["a", "b"] and found["a"] == found["b"]


def test_other_json_is_left_to_other_readers(tmp_path):
    for text in ("", "[]", '{"audio_filepath": "a.wav"}', "no JSON", '{"turns": 3}'):
        (tmp_path / "a.json").write_text(text)
        assert read_json(tmp_path / "a.json") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"turns": []}', r"a\.json:1: 'session_id' is None, but each session has a name"),
        (
            '{"session_id": "a", "turns": []}\n{"session_id": "a", "turns": []}',
            r"a\.json:2: 'session_id' is 'a', but each session has a name of its own",
        ),
        ('{"session_id": "a", "turns": []}\n{"sess', r"a\.json:2: is not JSON .*Was it cut off"),
        (
            '{"session_id": "a", "turns": [{"start": 1, "end": 0.5, "speaker": "x"}]}',
            r'a\.json:1: a turn is {"start": 1, "end": 0\.5, "speaker": "x"}, but it has',
        ),
        ('{"session_id": "a", "turns": [7]}', r"a\.json:1: a turn is 7, but it has 'start'"),
        (
            '{"session_id": "a", "turns": [{"start": 0, "end": 1e999, "speaker": "x"}]}',
            r"a\.json:1: a turn is .*, but it has 'start' and 'end', seconds",
        ),
    ],
)
def test_faults_are_told_by_line(tmp_path, text, told):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RttmError, match=told):
        read_json(tmp_path / "a.json")
