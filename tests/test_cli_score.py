"""``diarize score`` and ``diarize score compare``: files in, tables out, and bad input told."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from diarize.cli import main
from diarize.cli.record import write_record
from diarize.formats.json import write_json
from diarize.formats.rttm import write_rttm
from diarize.formats.uem import write_uem
from diarize.manifest import Session, write_manifest
from diarize.turns import Segment, Turn

TALK = [Turn(0.5, 2.0, "ann"), Turn(2.0, 3.0, "bob")]
LINE = "SPEAKER talk 1 0.5 2.5 <NA> <NA> ann <NA> <NA>\n"


def rttm(path: Path, **sessions: list[Turn]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rttm(path, sessions)
    return path


def result(capsys: pytest.CaptureFixture, *arguments: str) -> dict:
    assert main(["score", *map(str, arguments), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def total(capsys: pytest.CaptureFixture, *arguments: str) -> dict:
    return result(capsys, *arguments)["results"][0]["total"]


def told(capsys: pytest.CaptureFixture, *arguments: str) -> list[str]:
    """Notes above the first table."""
    return result(capsys, *arguments)["results"][0]["notes"]


def refusal(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    assert main(["score", *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


# ---- what is read


def test_windows_of_one_session_are_scored_together(tmp_path: Path, capsys: pytest.CaptureFixture):
    rttm(tmp_path / "talk.rttm", talk=TALK)
    line = {"audio_filepath": "talk.wav", "rttm_filepath": "talk.rttm", "session_id": "talk"}
    windows = [{**line, "offset": 0.0, "duration": 1.5}, {**line, "offset": 1.5, "duration": 1.7}]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(window) + "\n" for window in windows))
    found = total(capsys, str(manifest), str(tmp_path / "talk.rttm"))
    whole = total(capsys, str(tmp_path / "talk.rttm"), str(tmp_path / "talk.rttm"))
    assert found["der"] == 0.0 and found["scored"] == pytest.approx(whole["scored"])


def test_score_takes_files_folders_and_manifests(tmp_path: Path, capsys: pytest.CaptureFixture):
    # Half of bob's second is missed: 0.5 s of 2.5 s.
    answer = [Turn(0.5, 2.0, "speaker_0"), Turn(2.0, 2.5, "speaker_1")]
    ref = rttm(tmp_path / "ref" / "talk.rttm", talk=TALK)
    hyp = rttm(tmp_path / "hyp" / "deep" / "talk.rttm", talk=answer)
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, [Session("talk", tmp_path / "talk.wav", rttm=ref)])
    for left in (ref, ref.parent, manifest):
        for right in (hyp, tmp_path / "hyp"):
            assert total(capsys, str(left), str(right))["der"] == pytest.approx(20.0)


def test_score_a_manifest_within_its_spans_and_regions(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    ref = rttm(tmp_path / "ref.rttm", talk=TALK)
    hyp = rttm(tmp_path / "hyp.rttm", talk=[Turn(0.5, 3.0, "x")])
    manifest = tmp_path / "m.jsonl"
    write_manifest(
        manifest, [Session("talk", tmp_path / "talk.wav", offset=1.0, duration=1.5, rttm=ref)]
    )
    found = total(capsys, str(manifest), str(hyp))
    assert (found["scored"], found["confusion"]) == pytest.approx((1.5, 0.5))
    write_uem(tmp_path / "u.uem", {"talk": [Segment(0, 2.0)]})
    found = total(capsys, str(manifest), str(hyp), "--uem", str(tmp_path / "u.uem"))
    assert (found["scored"], found["confusion"]) == pytest.approx((1.0, 0.0))


def test_score_prints_the_condition_and_the_total(tmp_path: Path, capsys: pytest.CaptureFixture):
    ref = rttm(tmp_path / "ref.rttm", talk=TALK)
    arguments = ["score", str(ref), str(ref), "--collar", "0.25", "--skip-overlap"]
    assert main([*arguments, "--per-session"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("condition: forgiving") for line in lines)
    assert lines[-1].startswith("TOTAL")
    assert any(line.startswith("talk ") for line in lines)


def test_score_wants_every_session_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    ref = rttm(tmp_path / "ref.rttm", talk=TALK, other=TALK)
    hyp = rttm(tmp_path / "hyp.rttm", talk=TALK)
    assert main(["score", str(ref), str(hyp)]) == 1
    assert "'other'" in capsys.readouterr().err
    assert total(capsys, str(ref), str(hyp), "--allow-missing")["der"] == pytest.approx(50.0)


def test_an_empty_answer_means_that_nobody_speaks(tmp_path: Path, capsys: pytest.CaptureFixture):
    ref = rttm(tmp_path / "ref.rttm", talk=TALK)
    (tmp_path / "answer.rttm").write_text("")
    assert total(capsys, str(ref), str(tmp_path / "answer.rttm"))["miss"] == pytest.approx(2.5)
    refs = rttm(tmp_path / "refs" / "talk.rttm", talk=TALK).parent
    rttm(tmp_path / "hyps" / "talk.rttm", talk=TALK)
    for side in ("refs", "hyps"):
        (tmp_path / side / "silent.rttm").write_text("")
    assert total(capsys, str(refs), str(tmp_path / "hyps"))["der"] == 0.0


def test_a_session_in_two_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    for name in ("a", "b"):
        rttm(tmp_path / f"{name}.rttm", talk=TALK)
    assert main(["score", str(tmp_path), str(tmp_path)]) == 1
    assert "b.rttm: holds session 'talk', but so does" in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    assert main(["score", str(tmp_path / "none"), str(tmp_path)]) == 1
    assert "holds no .rttm file" in capsys.readouterr().err


def test_score_reads_standard_input(tmp_path: Path):
    ref = rttm(tmp_path / "ref.rttm", talk=TALK)
    command = [sys.executable, "-m", "diarize", "score", str(ref), "-", "--format", "json"]
    done = subprocess.run(command, input=ref.read_text(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["results"][0]["total"]["der"] == 0.0
    assert list(found["passport"]["hypothesis"]["files"]) == ["/dev/stdin"]


def test_the_edge_of_a_span_is_no_boundary_of_the_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    # ann speaks from 0.5 to 3 s, heard from 1 to 2 s: no collar lies inside.
    ref = rttm(tmp_path / "ref.rttm", talk=[Turn(0.5, 3.0, "ann")])
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, [Session("talk", tmp_path / "talk.wav", 1.0, 1.0, rttm=ref)])
    write_uem(tmp_path / "all.uem", {"talk": [Segment(1.0, 2.0)]})
    by_span = total(capsys, manifest, ref, "--collar", "0.25")
    by_uem = total(capsys, ref, ref, "--uem", tmp_path / "all.uem", "--collar", "0.25")
    assert by_span["scored"] == by_uem["scored"] == 1.0


def test_a_uem_counts_within_the_spans_of_a_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    # anna speaks from 0 to 10 s; the session is 2 to 6 s, of which 4 to 9 s are asked for.
    ref, hyp, uem = (tmp_path / name for name in ("ref.rttm", "hyp.rttm", "all.uem"))
    write_rttm(ref, {"talk": [Turn(0.0, 10.0, "anna")]})
    write_rttm(hyp, {"talk": [Turn(0.0, 10.0, "x")]})
    write_uem(uem, {"talk": [Segment(4.0, 9.0)]})
    session = Session("talk", tmp_path / "talk.wav", 2.0, 4.0, rttm=ref)
    write_manifest(tmp_path / "m.jsonl", [session])
    command = [tmp_path / "m.jsonl", hyp, "--uem", uem]
    whole = result(capsys, *command)
    found = whole["results"][0]["total"]
    assert (found["scored"], found["miss"], found["false_alarm"]) == pytest.approx((2.0, 0.0, 0.0))
    assert whole["passport"]["region"]["files"].keys() == {str(uem), str(tmp_path / "m.jsonl")}
    other = replace(session, session_id="other")
    write_rttm(ref, {"talk": [], "other": [Turn(0.0, 10.0, "anna")]})
    write_manifest(tmp_path / "m.jsonl", [other])
    write_rttm(hyp, {"other": [Turn(0.0, 10.0, "x")]})
    assert "('other'), but the UEM names no region there" in refusal(capsys, *command)


# ---- what is scored and written


def test_several_conditions_in_one_call(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ref = rttm(tmp_path / "ref.rttm", talk=TALK)
    found = result(capsys, ref, ref, "--condition", "forgiving,full")
    assert [r["condition"]["name"] for r in found["results"]] == ["forgiving", "full"]
    custom = result(capsys, ref, ref, "--collar", "0.1", "--rules", "pyannote")["results"][0]
    assert custom["condition"] == {
        "name": "custom",
        "collar": 0.1,
        "skip_overlap": False,
        "rules": "pyannote",
    }


def test_one_call_writes_several_formats(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ref = rttm(tmp_path / "ref.rttm", talk=TALK)
    arguments = ["score", str(ref), str(ref), "--output", str(tmp_path / "talk.full")]
    assert main([*arguments, "--format", "text,json,csv,markdown", "--per-session"]) == 0
    assert capsys.readouterr().out == ""
    names = sorted(path.name for path in tmp_path.glob("talk.full.*"))
    assert names == [f"talk.full.{ending}" for ending in ("csv", "json", "md", "txt")]
    lines = (tmp_path / "talk.full.txt").read_text().splitlines()
    assert lines[-1].startswith("TOTAL") and any(line.startswith("talk ") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--condition", "fair", "--collar", "0.1"], "--condition names a collar"),
        (["--condition", "fair", "--skip-overlap"], "--condition names a collar"),
        (["--condition", "unfair"], "'unfair' is not one of full, fair, forgiving"),
        (["--format", "text,json"], "standard output holds one format; give --output PATH"),
        (["--format", "json", "--explain"], "--explain is for people"),
        (["--rules", "mine"], "invalid choice: 'mine'"),
    ],
)
def test_bad_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["score", "ref", "hyp", *arguments])
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_explanation(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ref = rttm(tmp_path / "ref.rttm", talk=TALK)
    assert main(["score", str(ref), str(ref), "--explain", "--condition", "full,fair"]) == 0
    assert capsys.readouterr().out.count("\ncounted: 2.") == 1


# ---- passports


def test_passport_names_files_by_their_hashes(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    one = rttm(tmp_path / "all.rttm", talk=TALK, other=TALK)
    for name in ("talk", "other"):
        rttm(tmp_path / "refs" / f"{name}.rttm", **{name: TALK})
    write_uem(tmp_path / "all.uem", {"talk": [Segment(0, 2)], "other": [Segment(0, 3)]})
    uem = ["--uem", tmp_path / "all.uem"]
    whole, parts = (
        result(capsys, place, one, *uem)["passport"] for place in (one, tmp_path / "refs")
    )
    assert [len(p["reference"]["files"]) for p in (whole, parts)] == [1, 2]
    assert whole["reference"]["sha256"] == parts["reference"]["sha256"]
    assert whole["region"]["files"].keys() == {str(tmp_path / "all.uem")}
    assert whole["environment"]["command"][1:] == sys.argv[1:]
    without = result(capsys, one, one)["passport"]
    assert without["region"] is None and without["scored_region"].startswith("union")


MAKING = {
    "model": "mine",
    "weights_sha256": "0" * 64,
    "inference": {"latency": "offline", "postprocess": {"onset": 0.6}},
}


def test_who_made_a_hypothesis_is_known_by_the_hash_of_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from hashlib import sha256

    ref = rttm(tmp_path / "ref.rttm", a=TALK, b=TALK)
    hyp = tmp_path / "hyp"
    for name in "ab":
        rttm(hyp / f"{name}.rttm", **{name: TALK})
    hashes = {f"{n}.rttm": sha256((hyp / f"{n}.rttm").read_bytes()).hexdigest() for n in "ab"}
    write_record(hyp, MAKING, hashes)
    (made,) = result(capsys, ref, hyp)["passport"]["hypothesis"]["made_by"]
    assert made | MAKING == made and made["num_files"] == 2
    assert main(["score", str(ref), str(hyp)]) == 0
    assert "made by: model mine, latency offline, onset 0.6 (2 files)" in capsys.readouterr().out
    rttm(hyp / "b.rttm", b=TALK[:1])  # by hand
    found = result(capsys, ref, hyp)
    known, unknown = found["passport"]["hypothesis"]["made_by"]
    assert (known["num_files"], unknown) == (1, {"num_files": 1})
    (note,) = found["results"][0]["notes"]
    assert note == f"1 file of the hypothesis ({hyp / 'b.rttm'}) changed since `diarize infer`"
    (hyp / "x.passport").write_text("{}")
    assert "x.passport: cannot be read ('format'), but `diarize infer`" in refusal(capsys, ref, hyp)


def test_json_of_infer_says_itself_who_made_it(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ref = rttm(tmp_path / "ref.rttm", talk=TALK)
    write_json(tmp_path / "hyp.json", "talk", TALK, duration=3.0, made_by=MAKING)
    found = result(capsys, ref, tmp_path / "hyp.json")
    assert found["results"][0]["total"]["der"] == 0.0
    side = found["passport"]["hypothesis"]
    assert side["made_by"] == [{**MAKING, "num_files": 1}]
    assert side["files"].keys() == {str(tmp_path / "hyp.json")}
    both = total(capsys, tmp_path / "hyp.json", tmp_path / "hyp.json")
    assert both["scored"] == 2.5


# ---- results in one table


def test_compare_puts_systems_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ref = rttm(tmp_path / "ref.rttm", a=TALK, b=TALK)
    for name, lost in (("old", 1), ("new", 2)):
        hyp = rttm(tmp_path / f"{name}.rttm", a=TALK, b=TALK[:lost])
        output = ["--format", "json", "--output", str(tmp_path / name)]
        assert main(["score", str(ref), str(hyp), "--condition", "full,fair", *output]) == 0
    places = [str(tmp_path / f"{name}.json") for name in ("old", "new")]
    assert main(["score", "compare", *places]) == 0
    *_, old, new = capsys.readouterr().out.splitlines()
    assert (old.split()[0], new.split()[0]) == ("old", "new")
    both = str(tmp_path / "both")
    formats = ["--format", "text,markdown,csv,json", "--output", both]
    assert main(["score", "compare", *places, *formats]) == 0
    assert Path(f"{both}.csv").read_text().count("\n") == 5
    (_, new), _ = (of["systems"] for of in json.loads(Path(f"{both}.json").read_text())["results"])
    assert (new["system"], new["difference"]["der"]) == ("new", pytest.approx(-20.0))
    assert all(Path(f"{both}.{ending}").stat().st_size for ending in ("txt", "md"))
    other = [str(tmp_path / "other"), "--uem", str(tmp_path / "all.uem"), "--format", "json"]
    write_uem(tmp_path / "all.uem", {"a": [Segment(0, 2)], "b": [Segment(0, 2)]})
    assert main(["score", str(ref), str(ref), "--output", *other]) == 0
    assert main(["score", "compare", places[0], f"{other[0]}.json"]) == 1
    error = capsys.readouterr().err
    assert "other: scored region: as given by UEM or manifest" in error
    assert "conditions: full" in error and "--allow-different" in error
    assert main(["score", "compare", places[0], f"{other[0]}.json", "--allow-different"]) == 0
    assert capsys.readouterr().out.startswith("different: other has scored region: as given")
    assert main(["score", "compare", str(ref)]) == 1
    assert "ref.rttm: cannot be read as results" in capsys.readouterr().err


# ---- bad input


def test_lines_without_turns_are_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ref = rttm(tmp_path / "hyp.rttm", talk=TALK)
    (tmp_path / "ref.rttm").write_text(
        ";; one\n;; two\nSPKR-INFO talk 1 <NA> <NA> <NA> adult_female ann <NA> <NA>\n"
        f"NOSCORE talk 1 0 1 <NA> <NA> <NA> <NA>\n{LINE}"
    )
    assert told(capsys, tmp_path / "ref.rttm", ref) == [
        "lines of the reference that hold no turn were passed over: 2 comments, 1 NOSCORE, "
        "1 SPKR-INFO",
        "md-eval leaves out what the reference marks as NOSCORE (1 line); here it is scored, "
        "unless a UEM leaves it out",
    ]


@pytest.mark.parametrize(
    "text",
    [
        LINE.replace(" <NA>\n", "\n"),
        LINE.replace(" ", "\t"),
        "\ufeff" + LINE.replace("\n", "\r\n"),
        LINE.replace("\n", "\r"),
        LINE.replace("ann <NA>", "ann 0.5"),
    ],
)
def test_turns_that_are_written_in_other_ways_are_the_same(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ref, hyp = tmp_path / "ref.rttm", tmp_path / "hyp.rttm"
    ref.write_bytes(text.encode())
    hyp.write_text(LINE)
    found = result(capsys, ref, hyp)
    assert found["results"][0]["total"]["der"] == 0.0
    assert found["results"][0]["total"]["scored"] == 2.5
    assert found["passport"]["reference"]["sha256"] == found["passport"]["hypothesis"]["sha256"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE.replace("0.5", "-0.5"), "start is -0.5, but a recording starts at 0 s"),
        (LINE.replace("2.5", "-2.5"), "duration is -2.5, but time runs forward"),
        (LINE.replace("0.5", "1.7e9"), "ends at 1.7e+09 s, but no recording lasts 1e+09 s"),
        (LINE.replace("0.5", "1e400"), "start is '1e400', but it must be a number"),
        (LINE.replace("SPEAKER", "SPAEKER"), "begins with 'SPAEKER', but an RTTM line"),
        (LINE.replace(" ann", ""), "has the speaker <NA>, but a turn is somebody's"),
        (LINE.replace(" ann <NA>", ""), "has 8 fields, but RTTM has 9 or 10"),
    ],
)
def test_turns_that_cannot_be_are_refused_with_their_place(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ref, hyp = tmp_path / "ref.rttm", tmp_path / "hyp.rttm"
    ref.write_text(LINE)
    hyp.write_text(LINE + line)
    error = refusal(capsys, ref, hyp)
    assert f"diarize score: {hyp}:2: " in error and message in error


def test_regions_of_another_session_and_of_channels(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ref = rttm(tmp_path / "ref.rttm", talk=TALK)
    uem = tmp_path / "all.uem"
    uem.write_text("Talk 1 0 3\n")
    error = refusal(capsys, ref, ref, "--uem", uem)
    assert "names no region there. 'talk' and 'Talk' differ by case alone: name them al" in error
    uem.write_text("talk 1 0 1\ntalk 2 0 1\nmore 1 0 1\n")
    assert told(capsys, ref, ref, "--uem", uem) == [
        "the UEM names 1 session more ('more'), which neither side has; not scored",
        "2.00 s in 2 turns of the reference, of 1 session ('talk'), lie outside the scored "
        "regions; not scored",
        "2.00 s in 2 turns of the hypothesis, of 1 session ('talk'), lie outside the scored "
        "regions; not scored",
    ]
    uem.write_text("talk 1 0 1\ntalk 2 2 3\n")
    assert told(capsys, ref, ref, "--uem", uem)[0] == (
        "the UEM has other regions for one channel than for another in 1 session ('talk'); those "
        "of all channels are scored"
    )
