"""How fast conversations are simulated, beside lhotse's and NeMo's simulators on the same speech.

    .venv/bin/python recipes/bench/simulation.py recipes/demo/utterances.jsonl --alone
    .venv/bin/python recipes/bench/simulation.py MANIFEST
    .venv/bin/python recipes/bench/simulation.py MANIFEST --peers PYTHON

MANIFEST lists single-speaker utterances. The first forty speakers with three utterances or more are
decoded to WAV files, which all read; sessions are of 90 s and three speakers, in dry sound: what
all of them can do. Each row is a process of its own with two threads, and all rows are taken
twice, in turns; the time is that of sessions, without imports, manifests and our one decoding.

- **batch**: ours, 16 sessions at a time, mixed as tensors, with their activity.
- **single**: ours, one session at a time, with its turns: what a worker process does.
- **lhotse**: ConversationalMeetingSimulator, then the audio and the supervisions of each meeting.
- **nemo**: MultiSpeakerSimulator, which writes WAV and RTTM files; there is no other way.
- **gpu**: as batch, on an accelerator, 64 sessions at a time; where there is one.

``--peers`` names a Python that has nemo_toolkit[asr]; lhotse is looked for here, and wants dill.
``--alone`` measures ours, as ``make bench`` does.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from process import ask
from report import Report, add_json

SECONDS, SPEAKERS, RATE = 90, 3, 16000
SESSIONS = {"batch": 128, "single": 64, "lhotse": 64, "nemo": 16, "gpu": 512}

COLUMNS = {"simulator": "", "sessions": "", "ms a session": ".1f"}
COLUMNS |= {"hours of audio a second": ".2f", "batch is faster by": ".1f"}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Speed of simulation, beside its peers.")
    parser.add_argument("manifest", help="of single-speaker utterances")
    parser.add_argument("--peers", metavar="PYTHON", help="also measure NeMo's simulator")
    parser.add_argument("--alone", action="store_true", help="without peers")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    add_json(parser)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps({"seconds": MEASURES[args.measure](Path(args.manifest))}))
        return
    import torch

    asked = {"batch": sys.executable, "single": sys.executable}
    if not args.alone:
        asked["lhotse"] = sys.executable
    if torch.cuda.is_available():
        asked["gpu"] = sys.executable
    if args.peers:
        asked["nemo"] = args.peers
    with tempfile.TemporaryDirectory() as folder:
        write_material(args.manifest, Path(folder))
        found: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(2):
            for name, python in asked.items():
                command = [python, __file__, folder, "--measure", name]
                found[name].append(ask(command)["seconds"])
    report = Report("simulation", COLUMNS, args.json)
    for name, times in found.items():
        row = {"simulator": name, "sessions": SESSIONS[name], "ms a session": 1000 * min(times)}
        row["hours of audio a second"] = SECONDS / min(times) / 3600
        report.add(row | {"batch is faster by": min(times) / min(found["batch"])})


def write_material(manifest: str, folder: Path) -> None:
    """Utterances as WAV files, and their manifest."""
    import soundfile

    from diarize.audio import read_audio
    from diarize.manifest import Session, read_manifest

    by_speaker: dict[str, list[Session]] = {}
    for session in read_manifest(manifest):
        if session.duration is None or session.duration >= 1.0:
            by_speaker.setdefault(str(session.speaker), []).append(session)
    speakers = [own[:8] for own in by_speaker.values() if len(own) >= 3][:40]
    with (folder / "utterances.jsonl").open("w", encoding="utf-8") as file:
        for number, utterance in enumerate(u for own in speakers for u in own):
            path = folder / f"{number:04d}.wav"
            waveform = read_audio(utterance.audio, utterance.offset, utterance.duration)
            soundfile.write(path, waveform, RATE, "PCM_16")
            seconds = len(waveform) / RATE
            # NeMo wants words with the times at which they end; thirds of a second will do.
            words = max(int(3 * seconds), 1)
            line = {
                "audio_filepath": str(path),
                "offset": 0,
                "duration": seconds,
                "speaker": utterance.speaker,
                "speaker_id": utterance.speaker,
                "text": "word " * words,
                "words": ["word"] * words,
                "alignments": [seconds * (n + 1) / words for n in range(words)],
            }
            file.write(json.dumps(line) + "\n")


def simulator(folder: Path, device: str = "cpu") -> Any:
    """Ours, its corpus decoded."""
    from diarize.memory import keep_freed_memory
    from diarize.simulate import SimulationConfig, Simulator

    keep_freed_memory()
    config = SimulationConfig(
        independent_share=0.0, duration=float(SECONDS), num_speakers=[0, 0, 1], trim=False
    )
    return Simulator.from_manifests(
        config, folder / "utterances.jsonl", cache=folder / "cache", device=device
    )


def batch(folder: Path, device: str = "cpu", size: int = 16, name: str = "batch") -> float:
    """Seconds a session of ours, by the batch."""
    import torch

    from diarize.frames import FrameGrid

    torch.set_num_threads(2)
    maker, grid = simulator(folder, device), FrameGrid(RATE, 1280)

    def make(first: int) -> None:
        mixture = maker.mix(maker.plan(range(first, first + size)), grid)
        float(mixture.waveform[0, 0])  # an accelerator has done its work

    make(0)
    begun = time.perf_counter()
    for first in range(size, size + SESSIONS[name], size):
        make(first)
    return (time.perf_counter() - begun) / SESSIONS[name]


def gpu(folder: Path) -> float:
    """Seconds a session of ours on an accelerator."""
    return batch(folder, "cuda", 64, "gpu")


def single(folder: Path) -> float:
    """Seconds a session of ours, one at a time."""
    import torch

    torch.set_num_threads(2)
    maker = simulator(folder)
    maker.session(0)
    begun = time.perf_counter()
    for index in range(1, 1 + SESSIONS["single"]):
        maker.session(index)
    return (time.perf_counter() - begun) / SESSIONS["single"]


def lhotse(folder: Path) -> float:
    """Seconds a meeting of lhotse's, with its audio; of as much speech as fills our sessions."""
    import torch
    from lhotse import MonoCut, Recording, SupervisionSegment
    from lhotse.cut import CutSet
    from lhotse.workflows.meeting_simulation import ConversationalMeetingSimulator

    torch.set_num_threads(2)
    cuts = []
    for text in (folder / "utterances.jsonl").read_text(encoding="utf-8").splitlines():
        values = json.loads(text)
        name, length = Path(values["audio_filepath"]).stem, values["duration"]
        supervision = SupervisionSegment(name, name, 0.0, length, speaker=values["speaker"])
        recording = Recording.from_file(values["audio_filepath"])
        cuts.append(MonoCut(name, 0.0, length, 0, [supervision], recording=recording))
    maker, count = ConversationalMeetingSimulator(), SESSIONS["lhotse"]
    begun = time.perf_counter()
    meetings = maker.simulate(
        CutSet.from_cuts(cuts),
        num_meetings=count,
        num_speakers_per_meeting=SPEAKERS,
        max_duration_per_speaker=SECONDS / SPEAKERS,
        max_utterances_per_speaker=20,
    )
    heard = 0.0
    for meeting in meetings:
        heard += meeting.load_audio().shape[1] / RATE
        assert meeting.speakers_feature_mask or meeting.supervisions
    return (time.perf_counter() - begun) / heard * SECONDS


def nemo(folder: Path) -> float:
    """Seconds a session of NeMo's, files written."""
    import torch
    from nemo.collections.asr.data.data_simulation import MultiSpeakerSimulator
    from omegaconf import OmegaConf

    torch.set_num_threads(2)
    config = OmegaConf.create(NEMO)
    config.data_simulator.manifest_filepath = str(folder / "utterances.jsonl")
    config.data_simulator.outputs.output_dir = str(folder / "nemo")
    maker = MultiSpeakerSimulator(config)
    begun = time.perf_counter()
    maker.generate_sessions()
    return (time.perf_counter() - begun) / SESSIONS["nemo"]


MEASURES: dict[str, Callable[[Path], float]] = {
    "batch": batch,
    "single": single,
    "lhotse": lhotse,
    "nemo": nemo,
    "gpu": gpu,
}

NEMO = {
    "num_workers": 1,
    "data_simulator": {
        "manifest_filepath": "",
        "sr": RATE,
        "random_seed": 42,
        "multiprocessing_chunksize": 10000,
        "session_config": {
            "num_speakers": SPEAKERS,
            "num_sessions": SESSIONS["nemo"],
            "session_length": SECONDS,
        },
        "session_params": {
            "max_audio_read_sec": 20.0,
            "sentence_length_params": [0.4, 0.05],
            "dominance_var": 0.11,
            "min_dominance": 0.05,
            "turn_prob": 0.875,
            "min_turn_prob": 0.5,
            "mean_silence": 0.15,
            "mean_silence_var": 0.01,
            "per_silence_var": 900,
            "per_silence_min": 0.0,
            "per_silence_max": -1,
            "mean_overlap": 0.1,
            "mean_overlap_var": 0.01,
            "per_overlap_var": 900,
            "per_overlap_min": 0.0,
            "per_overlap_max": -1,
            "start_window": True,
            "window_type": "hamming",
            "window_size": 0.05,
            "start_buffer": 0.1,
            "split_buffer": 0.1,
            "release_buffer": 0.1,
            "normalize": True,
            "normalization_type": "equal",
            "normalization_var": 0.1,
            "min_volume": 0.75,
            "max_volume": 1.25,
            "end_buffer": 0.5,
        },
        "outputs": {
            "output_dir": "",
            "output_filename": "session",
            "overwrite_output": True,
            "output_precision": 3,
        },
        "background_noise": {
            "add_bg": False,
            "background_manifest": None,
            "num_noise_files": 10,
            "snr": 60,
            "snr_min": None,
            "snr_max": None,
        },
        "segment_augmentor": {"add_seg_aug": False},
        "session_augmentor": {"add_sess_aug": False},
        "speaker_enforcement": {"enforce_num_speakers": True, "enforce_time": [0.25, 0.75]},
        "segment_manifest": {"window": 0.5, "shift": 0.25, "step_count": 50, "deci": 3},
    },
}
"""As its data_simulator.yaml has it."""

if __name__ == "__main__":
    main()
