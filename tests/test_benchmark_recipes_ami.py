"""recipes/ami on a miniature of the corpus: every meeting, speaker and time arrives."""

import json
from pathlib import Path

import pytest
from miniatures import RECIPES, prepared, regions, run, run_recipe, truth, write, write_noise

from diarize.benchmark import read_list
from diarize.manifest import check_manifest
from diarize.turns import Turn, clip, merge

LISTS = RECIPES.parent / "manifests" / "ami"
NITE = 'xmlns:nite="http://nite.sourceforge.net/"'
HEAD = '<?xml version="1.0" encoding="ISO-8859-1" standalone="yes"?>\n'
SECONDS = 4.0

# What agent A says, and B; C and D say nothing.
WORDS = {
    "A": [
        ("w", 'starttime="0.5" endtime="0.8"', "Okay"),
        ("w", 'starttime="0.8" endtime="0.8" punc="true"', ","),
        ("w", 'starttime="0.8" endtime="1.2"', "so"),
        ("w", 'starttime="1.25" endtime="1.5"', "na\xefve"),
        ("vocalsound", 'starttime="1.5" endtime="1.9" type="laugh"', ""),
        ("w", "", "lost"),
        ("disfmarker", 'starttime="1.95" endtime="1.95"', ""),
        ("gap", 'starttime="2.0" endtime="2.4"', ""),
    ],
    "B": [
        ("w", 'starttime="1.0" endtime="1.4"', "Yeah"),
        ("w", 'starttime="3.5" endtime="4.3"', "late"),
    ],
    "C": [],
    "D": [],
}


def build(
    folder: Path, meetings: list[str], recording: str = "Array1-01", seconds: float = SECONDS
) -> Path:
    """The corpus as its download page lays it out, with these meetings."""
    manual = folder / "ami_public_manual_1.6.2"
    listed = []
    for number, name in enumerate(meetings):
        write_noise(folder / "amicorpus" / name / "audio" / f"{name}.{recording}.wav", seconds)
        people = ""
        for channel, (agent, sounds) in enumerate(WORDS.items()):
            body = "".join(
                f'   <{kind} nite:id="{name}.{agent}.words{i}" {rest}>{text}</{kind}>\n'
                for i, (kind, rest, text) in enumerate(sounds)
            )
            write(
                manual / "words" / f"{name}.{agent}.words.xml",
                f'{HEAD}<nite:root nite:id="{name}.{agent}.words" {NITE}>\n{body}</nite:root>\n',
                encoding="latin-1",
            )
            people += (
                f'  <speaker nite:id="{name}_{channel}" channel="{channel}" nxt_agent="{agent}" '
                f'global_name="ME{agent}{number:03d}" role="PM"/>\n'
            )
        listed.append(
            f' <meeting nite:id="meet_{number}" observation="{name}" type="scenario" '
            f'duration="{seconds}">\n{people} </meeting>\n'
        )
    write(
        manual / "corpusResources" / "meetings.xml",
        f'{HEAD}<nite:root nite:id="meet.00" {NITE}>\n{"".join(listed)}</nite:root>\n',
    )
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test and dev, by the single distant microphone."""
    meetings = read_list(LISTS / "test.txt") + read_list(LISTS / "dev.txt")
    return build(tmp_path_factory.mktemp("ami"), meetings)


def test_the_partition_is_the_official_one() -> None:
    sizes = {name: len(read_list(LISTS / f"{name}.txt")) for name in ("train", "dev", "test")}
    assert sizes == {"train": 136, "dev": 18, "test": 16}
    heads = {name[:6] for name in read_list(LISTS / "test.txt")}
    assert heads == {"EN2002", "ES2004", "IS1009", "TS3003"}


def test_words_that_touch_are_one_turn(corpus: Path, tmp_path: Path) -> None:
    sessions = prepared("ami", corpus, tmp_path / "data")
    assert [s.session_id for s in sessions] == read_list(LISTS / "test.txt")
    for number, session in enumerate(sessions):
        a, b = f"MEA{number:03d}", f"MEB{number:03d}"
        assert truth(session) == [(0.5, 1.2, a), (1.0, 1.4, b), (1.25, 1.5, a), (3.5, 4.0, b)]
        assert regions(session) == [(0.0, SECONDS)]
        assert (session.offset, session.duration, session.num_speakers) == (0.0, SECONDS, 2)
        assert session.audio.name == f"{session.session_id}.Array1-01.wav"
        said = {key: session.extra[key] for key in ("corpus", "split", "microphone", "reference")}
        assert said == {
            "corpus": "AMI", "split": "test", "microphone": "sdm", "reference": "only_words",
        }  # fmt: skip
    notes: list[str] = []
    assert check_manifest(tmp_path / "data" / "test.jsonl", notes) == []


def test_what_was_left_out_is_said(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("ami", corpus, tmp_path / "data", "--split", "dev") == 0
    said, noted = capsys.readouterr()
    assert said == f"{tmp_path / 'data' / 'dev.jsonl'}: 18 sessions, 0.02 h, sdm, only_words\n"
    assert "note: 18 words have no times, or end before they start; they are left out" in noted
    assert "note: turns of 18 sessions pass the end of the recording, by up to 0.30 s" in noted


def test_vocal_sounds_are_heard_where_they_are_asked_for(corpus: Path, tmp_path: Path) -> None:
    option = ("--reference", "words_and_vocalsounds")
    first, *_ = prepared("ami", corpus, tmp_path / "data", *option)
    assert (1.25, 1.9, "MEA000") in truth(first)
    assert first.extra["reference"] == "words_and_vocalsounds"


def test_references_of_others_are_read_from_their_files(corpus: Path, tmp_path: Path) -> None:
    meetings = read_list(LISTS / "test.txt")
    for name in meetings:
        line = f"SPEAKER {name} 1 0.5 0.25 <NA> <NA> {name}.A <NA> <NA>\n"
        write(tmp_path / "aligned" / "AMI" / "test" / f"{name}.rttm", line)
    options = ("--reference", "forced_alignment", "--rttm", str(tmp_path / "aligned"))
    for session in prepared("ami", corpus, tmp_path / "data", *options):
        assert truth(session) == [(0.5, 0.75, f"{session.session_id}.A")]
        assert session.extra["reference"] == "forced_alignment"


def test_headset_mixes_are_another_microphone(tmp_path: Path) -> None:
    build(tmp_path / "ami", read_list(LISTS / "test.txt"), "Mix-Headset")
    sessions = prepared("ami", tmp_path / "ami", tmp_path / "data", "--microphone", "mhm")
    assert {s.audio.name.split(".", 1)[1] for s in sessions} == {"Mix-Headset.wav"}


def test_meetings_without_the_array_are_no_fault(tmp_path: Path) -> None:
    meetings = set(read_list(LISTS / "train.txt")) - {"IS1003b", "IS1007d"}
    build(tmp_path / "ami", sorted(meetings), seconds=1.5)
    sessions = prepared("ami", tmp_path / "ami", tmp_path / "data", "--split", "train")
    assert {s.session_id for s in sessions} == meetings
    assert run("ami", tmp_path / "ami", tmp_path / "mhm", "--split", "train", *MHM) == 1


MHM = ("--microphone", "mhm")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (MHM, "lacks 16 of 16 files (EN2002a.Mix-Headset.wav, EN2002b.Mix-Headset.wav, "),
        (("--split", "train"), "lacks 134 of 134 files (EN2001a.Array1-01.wav, "),
        (("--reference", "forced_alignment"), "the reference is forced_alignment, but no RTTM of"),
        (("--reference", "forced_alignment", "--rttm", "nowhere"), "and 11 more, but test of AMI"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(
    options: tuple[str, ...],
    message: str,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    assert run("ami", corpus, tmp_path / "data", *options) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_the_annotation_may_be_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    meetings = read_list(LISTS / "test.txt")
    build(tmp_path / "ami", meetings)
    words = tmp_path / "ami" / "ami_public_manual_1.6.2" / "words"
    for path in words.glob("IS1009b.*"):
        path.unlink()
    assert run("ami", tmp_path / "ami", tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert "lacks 1 of 16 files (words/IS1009b.*.words.xml), but test of AMI needs all" in said
    assert "https://groups.inf.ed.ac.uk/ami/download/" in said
    assert not (tmp_path / "data").exists()


def test_what_argparse_refuses_is_usage(corpus: Path, tmp_path: Path) -> None:
    refused = [("--microphone", "ihm"), ("--split", "eval"), ("--reference", "words")]
    for option, wrong in (*refused, ("--rttm", "aligned")):
        with pytest.raises(SystemExit, match="2"):
            run("ami", corpus, tmp_path / "data", option, wrong)


def test_lhotse_hears_the_same_words(tmp_path: Path) -> None:
    """The same words, that is: its segments hold the pauses between them."""
    pytest.importorskip("lhotse")
    from lhotse.recipes.ami import parse_ami_annotations

    corpus = build(tmp_path / "ami", read_list(LISTS / "test.txt"))
    manual = corpus / "ami_public_manual_1.6.2"
    for path in manual.glob("words/*.A.words.xml"):  # which lhotse reads as UTF-8
        path.write_bytes(path.read_bytes().replace(b"\xef", b"i"))
    sessions = prepared("ami", corpus, tmp_path / "data")
    for session in sessions:
        for agent in ("A", "B"):
            name = f"{session.session_id}.{agent}.segments.xml"
            segment = '<segment transcriber_start="0.0" transcriber_end="4.5"/>'
            write(manual / "segments" / name, f"<root>{segment}</root>")
    theirs: dict[str, list[Turn]] = {}
    for (meeting, speaker, _), segments in parse_ami_annotations(manual).items():
        words = [word for segment in segments for word in segment.words]
        theirs.setdefault(meeting, []).extend(
            Turn(word.start, round(word.end, 4), speaker) for word in words
        )
    for session in sessions:
        found = clip(merge(theirs[session.session_id]), 0.0, SECONDS)
        assert truth(session) == [(turn.start, turn.end, turn.speaker) for turn in found]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_recipe_runs(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "exp"
    options = ("--corpus", str(corpus), "--split", "test", "--output", str(output))
    done = run_recipe("ami", *options)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (output / "data").glob("*/*.jsonl")] == ["test.jsonl"]
    assert len(list((output / "sys" / "default.sdm.test").glob("*.rttm"))) == 16
    scores = output / "scores" / "default.sdm.only_words.test.json"
    (report,) = json.loads(scores.read_text())["results"]
    assert report["condition"]["name"] == "full"
    # Each meeting holds 0.7 s and 0.25 s of A, 0.4 s and 0.5 s of B.
    assert report["total"]["scored"] == pytest.approx(16 * 1.85)
    table = scores.with_suffix(".txt").read_text()
    assert all(name in table for name in read_list(LISTS / "test.txt"))
    assert "TOTAL" in done.stdout
    again = run_recipe("ami", *options, "--stop_stage", "2")
    assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mic", "sdm"), "unknown option --mic; see recipes/benchmark.sh"),
        (("--split",), "--split has no value"),
        ((), "no --corpus is given, but stage 0 reads it"),
    ],
)
def test_what_the_shell_refuses_is_usage(options: tuple[str, ...], message: str) -> None:
    done = run_recipe("ami", *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_fault_of_the_corpus_ends_the_recipe(tmp_path: Path) -> None:
    done = run_recipe("ami", "--corpus", str(tmp_path), "--output", str(tmp_path / "exp"))
    assert done.returncode == 1
    assert "prepare.py: " in done.stderr and "lacks 18 of 18 files" in done.stderr
    assert not (tmp_path / "exp" / "data").exists()
