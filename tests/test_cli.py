"""The command line: what goes where, how mistakes read, and what is imported for it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarize import __version__
from diarize.cli import _parser, main
from diarize.errors import ConfigError
from diarize.formats.posteriors import read_posteriors
from diarize.formats.rttm import read_rttm, write_rttm
from diarize.manifest import Session, read_manifest, write_manifest
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.turns import Segment, Turn

VERBS = ("manifest", "check", "simulate", "train", "infer", "stream", "score", "models", "convert")
VERBS += ("manifest from-kaldi", "manifest from-lhotse", "manifest from-database")
VERBS += ("manifest to-kaldi", "manifest to-lhotse")
VERBS += ("average", "export", "score compare", "view")
TALK = [Turn(0.5, 2.0, "ann"), Turn(2.0, 3.0, "bob")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a random model of a few thousand parameters, all of whose slots speak."""
    import torch

    from diarize.checkpoint import save_checkpoint
    from diarize.config import load_config
    from diarize.model import Diarizer, DiarizerConfig

    layers = {"width": 32, "num_layers": 1, "num_heads": 2}
    front_end = {
        "_target_": "diarize.frontend.fastconformer.FastConformer",
        "subsampling_channels": 8,
        **layers,
    }
    encoder = {"_target_": "diarize.encoder.transformer.Transformer", "inner": 32, **layers}
    torch.manual_seed(0)
    values = {"front_end": front_end, "encoder": encoder, "num_slots": 2}
    diarizer = Diarizer(load_config(DiarizerConfig, values=values))
    diarizer.postprocess = {"onset": 0.1, "offset": 0.1}
    folder = tmp_path_factory.mktemp("model") / "random"
    save_checkpoint(diarizer, folder)
    return str(folder)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return record(tmp_path / "talk.wav")


def record(path: Path, seconds: float = 3.2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).random(round(seconds * 16000)) - 0.5
    soundfile.write(path, noise / 4, 16000)
    return path


def rttm(path: Path, **sessions: list[Turn]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rttm(path, sessions)
    return path


def command(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "diarize", *arguments], capture_output=True, text=True, **options
    )


# ---- the command as a whole


def test_version_and_help(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0 and capsys.readouterr().out == f"diarize {__version__}\n"
    for verb in VERBS:
        with pytest.raises(SystemExit) as exit_:
            main([*verb.split(), "--help"])
        assert exit_.value.code == 0
        assert f"usage: diarize {verb}" in capsys.readouterr().out


def test_a_verb_of_two_words_stands_beside_that_of_one(monkeypatch: pytest.MonkeyPatch):
    def add(name: str):
        def declare(verbs):
            parser = verbs.add_parser(name)
            parser.add_argument("thing")
            return parser

        return declare

    monkeypatch.setattr("diarize.cli.VERBS", (add("paint"), add("paint over")))
    parser = _parser()
    one, two = (parser.parse_args(words) for words in (["paint", "it"], ["paint", "over", "it"]))
    assert (one.verb, one.thing) == ("paint", "it")
    assert (two.verb, two.thing) == ("paint over", "it")
    assert parser.parse_args(["paint", "./over"]).verb == "paint"


@pytest.mark.parametrize("arguments", [[], ["paint"], ["infer"], ["score", "only_one"]])
def test_bad_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "usage: diarize" in captured.err


def test_a_mistake_is_one_line_without_traceback(tmp_path: Path, capsys: pytest.CaptureFixture):
    place = tmp_path / "gone.rttm"
    assert main(["score", str(place), str(place)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"diarize score: {place}: cannot be read")
    assert captured.err.count("\n") == 1
    assert main(["score", str(place), str(place), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_light_verbs_import_no_torch(tmp_path: Path, audio: Path):
    reference = rttm(tmp_path / "talk.rttm", talk=TALK)
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, [Session("talk", audio, rttm=reference)])
    calls = [
        ["manifest", str(audio)],
        ["check", str(manifest)],
        ["score", str(manifest), str(reference)],
        ["score", "--help"],
        ["infer", "--help"],
        ["train", "--help"],
    ]
    code = (
        "import sys\nfrom diarize.cli import _parser, main\n"
        f"for call in {calls!r}:\n"
        "    try:\n        status = main(call)\n"
        "    except SystemExit as stop:\n        status = stop.code\n"
        "    assert status == 0, call\n"
        "    assert 'torch' not in sys.modules, call\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path):
    # More than a pipe holds, so that the writer meets the closed end.
    lines = "".join(f'{{"audio_filepath": "no/{n}.wav"}}\n' for n in range(3000))
    (tmp_path / "m.jsonl").write_text(lines)
    process = subprocess.Popen(
        [sys.executable, "-m", "diarize", "check", str(tmp_path / "m.jsonl")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 0


def pipe_without_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("closed", ["stderr", "stdout"])
def test_a_run_that_stops_unfinished_is_no_success(tmp_path: Path, closed: str):
    # A verb that writes to both streams, the one to a file and the other to nobody.
    code = (
        "import sys, diarize.cli.manifest as verb\nfrom diarize.cli import _parser, main\n"
        "def run(args):\n    print('half', file=sys.%s, flush=True)\n    return 0\n"
        "verb.run_manifest = run\n"
        "sys.exit(main(['manifest', 'a.wav', *sys.argv[1:]]))\n"
    )
    writer = pipe_without_reader()
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: writer}
    with_file = [sys.executable, "-c", code % closed, "--output", str(tmp_path / "m.jsonl")]
    done = subprocess.run(with_file, text=True, **kept)
    assert done.returncode == 1
    if closed == "stdout":
        told = "diarize manifest: stopped unfinished, for whoever read its output has gone.\n"
        assert done.stderr == told
    done = subprocess.run(with_file[:3], text=True, **kept)
    assert done.returncode == (0 if closed == "stdout" else 1)
    os.close(writer)


def test_an_interrupt_is_one_line_and_130(tmp_path: Path):
    # A shell lets what it runs behind it ignore the signal, and so would what this test starts.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    # A named pipe that nobody writes to holds the command inside its work.
    pipe = tmp_path / "pipe.rttm"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "diarize", "score", str(pipe), str(pipe)],
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, ignored)
    writer = os.open(pipe, os.O_WRONLY)  # returns once the command has opened its end
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    os.close(writer)
    assert (process.returncode, err) == (130, "diarize score: interrupted.\n")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    monkeypatch.delitem(sys.modules, "diarize.training", raising=False)
    assert main(["train", "conf/tiny.yaml", "--output", "exp/none"]) == 1
    expected = "train needs pytorch_lightning, but it is not installed. Install it with: pip"
    assert expected in capsys.readouterr().err


# ---- manifest, check


def test_manifest_and_check(tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture):
    rttm(tmp_path / "ref" / "talk.rttm", talk=TALK)
    output = tmp_path / "m.jsonl"
    arguments = ["manifest", str(audio), "--rttm", str(tmp_path / "ref")]
    assert main([*arguments, "--output", str(output)]) == 0
    (session,) = read_manifest(output)
    assert (session.session_id, session.num_speakers, session.duration) == ("talk", 2, 3.2)
    assert main(arguments) == 0
    on_stdout = capsys.readouterr().out
    assert json.loads(on_stdout)["session_id"] == "talk"
    assert main(["check", str(output)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "diarize check: no faults in 1 manifest.\n"


def test_check_lists_every_fault_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture):
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio_filepath": "a.wav"}\n{"audio_filepath": "b.wav"}\nnonsense\n')
    assert main(["check", str(manifest)]) == 1
    captured = capsys.readouterr()
    assert [line.split(": ")[0] for line in captured.out.splitlines()] == [
        f"{manifest}:{number}" for number in (1, 2, 3)
    ]
    assert captured.err == "diarize check: 3 faults in 1 manifest.\n"


def test_check_tells_what_is_worth_knowing_without_failing(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    soundfile.write(tmp_path / "stereo.wav", np.zeros((8000, 2), np.float32), 8000)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio_filepath": "stereo.wav"}\n')
    assert main(["check", str(manifest)]) == 0
    rate, channels = capsys.readouterr().out.splitlines()
    assert rate.startswith(f"{manifest}:1: note: ") and "8000 Hz" in rate
    assert channels.startswith(f"{manifest}:1: note: ") and "2 channels" in channels


# ---- infer


def test_infer_one_file_to_standard_output(model: str, audio: Path, capsys: pytest.CaptureFixture):
    assert main(["infer", str(audio), "--model", model]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("SPEAKER talk 1 0.000 ") and captured.err == ""
    assert all(len(line.split()) == 10 for line in captured.out.splitlines())


def test_infer_says_what_did_not_fit_one_window(
    model: str, audio: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["infer", str(audio), "--model", model, "--window", "2"]) == 0
    told = capsys.readouterr().err
    assert "1 of 1 sessions did not fit one window of 2 s; they were judged in several" in told


def test_infer_writes_what_is_asked(model: str, audio: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "a" / "out"
    arguments = ["infer", str(audio), "--model", model, "--output", str(out), "--window", "1.6"]
    arguments += ["--format", "rttm,json", "--posteriors", str(out), "--picture", str(out)]
    assert main(arguments) == 0
    assert sorted(p.name for p in out.iterdir() if p.suffix != ".passport") == [
        f"talk.{x}" for x in "json npz png rttm".split()
    ]
    content = json.loads((out / "talk.json").read_text())
    assert content["made_by"]["model"] == model
    assert content["made_by"]["inference"]["window"] == 1.6
    assert content["session_id"] == "talk" and content["duration"] == 3.2
    turns = read_rttm(out / "talk.rttm")["talk"]
    assert [t["start"] for t in content["turns"]] == [t.start for t in turns]
    stored = read_posteriors(out / "talk.npz")
    assert stored.posterior.dtype == np.float32 and stored.posterior.shape[0] == 40
    assert (stored.frame_shift, stored.offset, stored.duration) == (0.08, 0.0, 3.2)
    assert stored.made_by["model"] == model and stored.made_by["channel"] is None
    settings = stored.made_by["inference"]
    assert settings["window"] == 1.6
    config = PostprocessConfig(**settings["postprocess"])
    again = to_turns(stored.posterior, stored.frame_shift, config, duration=stored.duration)
    assert [(t.start, t.end) for t in again] == [(t.start, t.end) for t in turns]


def test_what_infer_leaves_beside_turns_tells_score_who_made_them(
    model: str, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    out, other = tmp_path / "out", record(tmp_path / "other.wav")
    settings = ["--model", model, "--onset", "0.3", "--output", str(out)]
    assert main(["infer", str(audio), str(other), *settings]) == 0
    assert main(["infer", str(audio), *settings, "--offset", "0.2"]) == 0  # talk once more
    records = [json.loads(path.read_text()) for path in out.glob("*.passport")]
    assert {tuple(r["files"]) for r in records} == {("talk.rttm", "other.rttm"), ("talk.rttm",)}
    assert len({r["weights_sha256"] for r in records}) == 1
    capsys.readouterr()
    assert main(["score", str(out), str(out)]) == 0
    made = [line for line in capsys.readouterr().out.splitlines() if line.startswith("made by")]
    told = [f"made by: model {model}, latency offline, onset 0.3, offset {x}, " for x in (0.1, 0.2)]
    assert sorted(line[: len(told[0])] for line in made) == told
    assert all(line.endswith("(1 file)") for line in made)


def test_infer_a_manifest_in_its_order(model: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    sessions = [
        Session("long", record(tmp_path / "a" / "x.wav", 3.0), offset=1.0),
        Session("short", record(tmp_path / "b" / "x.wav", 1.0)),
    ]
    write_manifest(tmp_path / "m.jsonl", sessions)
    assert main(["infer", "--manifest", str(tmp_path / "m.jsonl"), "--model", model]) == 0
    ids = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(ids)) == ["long", "short"] and ids == sorted(ids)


def test_pictures_show_the_span_the_channel_and_the_reference(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    pytest.importorskip("matplotlib")
    from diarize import picture

    drawn = {}

    def draw(path, span, waveform, turns, reference, title):
        drawn[title] = path, span, waveform, turns, reference

    monkeypatch.setattr(picture, "draw", draw)
    time = np.arange(3 * 16000) / 16000
    # The second channel is as loud as the clock says, in tenths; the first is silent.
    soundfile.write(tmp_path / "x.wav", np.stack([0 * time, time / 10], axis=1), 16000)
    told = rttm(tmp_path / "ref.rttm", part=[Turn(0.5, 1.75, "ann"), Turn(2.0, 3.0, "bob")])
    sessions = [
        Session("part", tmp_path / "x.wav", offset=1.0, duration=1.5, rttm=told),
        Session("whole", tmp_path / "x.wav", channel=0),
    ]
    write_manifest(tmp_path / "m.jsonl", sessions)
    arguments = ["infer", "--manifest", str(tmp_path / "m.jsonl"), "--model", model]
    arguments += ["--picture", str(tmp_path / "pictures"), "--posteriors", str(tmp_path / "npz")]
    assert main(arguments) == 0
    assert drawn["whole"][2].max() == 0 and drawn["part"][2][-1, 1] == pytest.approx(0.125, 1e-2)
    made = [read_posteriors(tmp_path / "npz" / f"{n}.npz").made_by for n in ("part", "whole")]
    assert [facts["channel"] for facts in made] == [None, 0]
    capsys.readouterr()
    assert main([*arguments, "--channel", "1"]) == 0  # whatever lines say
    path, span, waveform, turns, reference = drawn["part"]
    assert path == tmp_path / "pictures" / "part.png" and span == Segment(1.0, 2.5)
    assert (waveform[0, 0], waveform[-1, 1]) == pytest.approx((0.1, 0.25), abs=1e-3)
    assert reference == [Turn(1.0, 1.75, "ann"), Turn(2.0, 2.5, "bob")]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    written = [(float(line[3]), line[7]) for line in lines if line[1] == "part"]
    assert [(turn.start, turn.speaker) for turn in turns] == written and written
    assert drawn["whole"][1] == Segment(0.0, 3.0) and drawn["whole"][4] is None
    assert drawn["whole"][2][-1, 1] == pytest.approx(0.3, abs=1e-3)
    assert read_posteriors(tmp_path / "npz" / "whole.npz").made_by["channel"] == 1


def test_json_of_several_sessions_is_json_lines(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    audio = [str(record(tmp_path / f"{name}.wav", 0.5)) for name in ("a", "\u017e")]
    assert main(["infer", *audio, "--model", model, "--format", "json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["session_id"] for line in lines] == ["a", "\u017e"]
    assert all(line["turns"] for line in lines)
    assert main(["infer", audio[0], "--model", model, "--format", "json"]) == 0
    alone = capsys.readouterr().out
    assert alone.count("\n") > 1 and json.loads(alone) == lines[0]


def test_one_bad_file_of_several_is_told_at_the_end(
    model: str, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF, or so it seems")
    out = tmp_path / "out"
    assert main(["infer", str(bad), str(audio), "--model", model, "--output", str(out)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"diarize infer: {bad}: ")
    assert lines[1:] == ["diarize infer: 1 of 2 sessions failed, the others are done."]
    assert [p.name for p in out.iterdir() if p.suffix != ".passport"] == ["talk.rttm"]


def test_a_result_that_cannot_be_written_is_a_failure_of_its_session(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    audio = [str(record(tmp_path / f"{name}.wav", 0.5)) for name in "ab"]
    blocked = tmp_path / "out" / "a.rttm"
    blocked.mkdir(parents=True)
    assert main(["infer", *audio, "--model", model, "--output", str(blocked.parent)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"diarize infer: {blocked}: Is a directory.",
        "diarize infer: 1 of 2 sessions failed, the others are done.",
    ]
    assert (blocked.parent / "b.rttm").is_file()


@pytest.mark.parametrize(
    ("ending", "status", "last"),
    [
        (KeyboardInterrupt(), 130, "interrupted."),
        (ConfigError("cuda:0: has no memory."), 1, "cuda:0: has no memory."),
    ],
)
def test_what_is_done_is_handed_over_when_the_rest_is_not(
    model: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture, ending, status, last
):
    from diarize import inference

    real = inference.diarize_sessions

    def stopping(diarizer, sessions, config):
        yield from real(diarizer, sessions[:2], config, progress=False)
        raise ending

    monkeypatch.setattr(inference, "diarize_sessions", stopping)
    audio = [str(tmp_path / "gone.wav")]
    audio += [str(record(tmp_path / f"{name}.wav", 0.5)) for name in "ab"]
    assert main(["infer", *audio, "--model", model]) == status
    captured = capsys.readouterr()
    assert {line.split()[1] for line in captured.out.splitlines()} == {"a"}
    assert captured.err.splitlines() == [
        f"diarize infer: {audio[0]}: cannot be read (No such file or directory). Check the path.",
        "diarize infer: 1 of 3 sessions are done, 1 failed.",
        f"diarize infer: {last}",
    ]


def test_what_results_need_is_seen_to_before_the_model_is_loaded(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    taken = tmp_path / "taken"
    taken.touch()
    arguments = ["infer", str(audio), "--model", "no_such"]
    assert main([*arguments, "--output", str(taken)]) == 1
    expected = f"{taken}: cannot be made a folder (File exists), but results go to one. Give"
    assert expected in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert main([*arguments, "--posteriors", str(tmp_path)]) == 1
    assert f"{tmp_path}: may not be written to, but" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*arguments, "--picture", str(tmp_path)]) == 1
    assert "infer needs matplotlib, but it is not installed" in capsys.readouterr().err


def test_thresholds_from_flags_win_over_a_file_and_the_model(
    model: str, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    deaf = tmp_path / "deaf.yaml"
    deaf.write_text("parameters: {onset: 1.0, offset: 1.0}\n")
    arguments = ["infer", str(audio), "--model", model, "--postprocess", str(deaf)]
    assert main(arguments) == 0 and capsys.readouterr().out == ""
    assert main([*arguments, "--onset", "0.1", "--offset", "0.1"]) == 0
    assert capsys.readouterr().out != ""


def test_infer_refuses_names_that_cannot_be_written(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    spaced = record(tmp_path / "my call.wav")
    assert main(["infer", str(spaced), "--model", model]) == 1
    err = capsys.readouterr().err
    assert "'my call' has white space" in err and "'my_call'" in err and "--session-id" in err
    assert main(["infer", str(spaced), "--session-id", "my_call", "--model", model]) == 0
    assert capsys.readouterr().out.startswith("SPEAKER my_call ")
    one, two = record(tmp_path / "1" / "a.wav"), record(tmp_path / "2" / "a.flac")
    assert main(["infer", str(one), str(two), "--model", model]) == 1
    err = capsys.readouterr().err
    assert f"{two}: session id 'a' is that of {one}, but" in err
    arguments = ["infer", str(one), "--session-id", "x/a", "--output", str(tmp_path)]
    assert main([*arguments, "--model", model]) == 1
    assert "'x/a' holds '/', but it must name a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "xml"], "'xml' is not one of rttm, json"),
        (["--format", "rttm,json"], "standard output holds one format"),
        (["b.wav", "--session-id", "x"], "--session-id names a single AUDIO"),
        (["m.jsonl"], "m.jsonl is a manifest, not AUDIO; give it with --manifest"),
    ],
)
def test_infer_refuses_bad_usage(arguments, message, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as exit_:
        main(["infer", "a.wav", *arguments])
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_infer_names_unknown_models_and_devices(
    model: str, audio: Path, capsys: pytest.CaptureFixture
):
    assert main(["infer", str(audio), "--model", "no_such"]) == 1
    assert "diarize infer: no_such: " in capsys.readouterr().err
    assert main(["infer", str(audio), "--model", model, "--device", "abacus"]) == 1
    assert "device 'abacus' cannot be used" in capsys.readouterr().err


def test_a_manifest_without_sessions_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "m.jsonl").write_text("\n")
    assert main(["infer", "--manifest", str(tmp_path / "m.jsonl")]) == 1
    expected = "has no sessions, but at least one is needed. Is it the right file?"
    assert expected in capsys.readouterr().err


# ---- simulate


def test_simulate_writes_sessions_and_names_their_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sessions = [
        Session(f"u{n}", record(tmp_path / f"u{n}.wav", 2.5), speaker=f"s{n % 2}") for n in range(4)
    ]
    write_manifest(tmp_path / "u.jsonl", sessions)
    arguments = ["simulate", str(tmp_path / "u.jsonl"), "--num-sessions", "2", "--seed", "3"]
    arguments += ["--config", "duration=4", "--output", str(tmp_path / "sim")]
    assert main(arguments) == 0
    path = Path(capsys.readouterr().out.strip())
    made = read_manifest(path)
    assert len(made) == 2 and all(s.duration == 4.0 and s.rttm is not None for s in made)


def test_tune_judges_what_is_not_judged_yet_and_keeps_it(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    sessions = [
        Session(name, record(tmp_path / f"{name}.wav"), offset, rttm=tmp_path / "all.rttm")
        for name, offset in (("a", 0.0), ("b", 1.0))
    ]
    rttm(tmp_path / "all.rttm", a=[Turn(0.5, 1.5, "x")], b=[Turn(2.0, 3.0, "y")])
    write_manifest(tmp_path / "dev.jsonl", sessions)
    kept = tmp_path / "kept"
    tuning = ["tune", str(tmp_path / "dev.jsonl"), "--draws", "20", "--format", "json"]
    assert main([*tuning, "--model", model]) == 0  # kept nowhere
    found = capsys.readouterr().out
    tuning += ["--posteriors", str(kept)]
    assert main([*tuning, "--model", model]) == 0
    assert capsys.readouterr().out == found
    assert read_posteriors(kept / "b.npz").made_by["model"] == model
    stamp = (kept / "b.npz").stat().st_mtime_ns
    (kept / "a.npz").unlink()  # as if stopped before it was there
    assert main(tuning) == 0  # by the model that made the other
    assert capsys.readouterr().out == found and (kept / "a.npz").exists()
    assert (kept / "b.npz").stat().st_mtime_ns == stamp
    (kept / "a.npz").unlink()
    (tmp_path / "a.wav").write_bytes(b"")
    assert main(tuning) == 1
    assert "1 of 1 sessions could not be judged, but all are needed" in capsys.readouterr().err
    assert main([*tuning, "--min-duration-on", "0.1", "--onset", "0.3", "--offset", "0.3"]) == 1
    told = capsys.readouterr().err
    assert f"b.npz: was made with speech=0.1, not 0.3 as asked of {model}, but all" in told
