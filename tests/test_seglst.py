"""formats.seglst: utterances as CHiME and NOTSOFAR write them."""

import json
from pathlib import Path

import pytest

from diarize.errors import CorpusError
from diarize.formats.seglst import read_seglst


def written(folder: Path, *rows: object) -> Path:
    path = folder / "S02.json"
    path.write_text(json.dumps(list(rows)))
    return path


@pytest.mark.parametrize(
    ("start", "end"),
    [("0:01:15.50", "00:01:16.25"), ("75.50", "76.25"), (75.5, 76.25), ("01:15.5", "1:16.25")],
)
def test_times_are_told_in_three_ways(start: object, end: object, tmp_path: Path) -> None:
    row = {"speaker": "P05", "start_time": start, "end_time": end, "words": "so"}
    (utterance,) = read_seglst(written(tmp_path, row))
    assert (utterance.start, utterance.end) == (75.5, 76.25)
    assert (utterance.speaker, utterance.words) == ("P05", "so")


def test_notsofar_has_names_of_its_own(tmp_path: Path) -> None:
    timing = [["so", 1.0, 1.25]]
    row = {"speaker_id": "Ron", "start_time": 1, "end_time": 1.5, "text": "so"}
    (utterance,) = read_seglst(written(tmp_path, {**row, "word_timing": timing}))
    assert (utterance.speaker, utterance.words) == ("Ron", "so")
    assert utterance.extra["word_timing"] == timing


GOOD = {"speaker": "P05", "start_time": "1", "end_time": "2"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "speaker": ""}, r"S02\.json: utterance 2 has speaker '', but somebody speaks"),
        ({**GOOD, "start_time": "-1"}, "utterance 2 has start_time '-1', but a time is seconds"),
        ({**GOOD, "end_time": "1:xx"}, "utterance 2 has end_time '1:xx', but a time is seconds"),
        ({**GOOD, "end_time": {"U01": "0:01:02"}}, "has end_time {'U01': '0:01:02'}, but a time"),
        ({"speaker": "P05"}, "utterance 2 has start_time None, but a time"),
    ],
)
def test_faults_name_the_utterance(row: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=message):
        read_seglst(written(tmp_path, GOOD, row))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", r"S02\.json:1: is not JSON \(.*\)\. Get the file again"),
        ('{"speaker": "P05"}', "is JSON, but no list of utterances"),
        ('["P05"]', "is JSON, but no list of utterances"),
    ],
)
def test_what_is_no_list_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "S02.json").write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_seglst(tmp_path / "S02.json")
