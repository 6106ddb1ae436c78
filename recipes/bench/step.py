"""Training steps: how long, how much audio a second, and how much memory.

    .venv/bin/python recipes/bench/step.py
    .venv/bin/python recipes/bench/step.py base/2x45 --peers PYTHON

A cell is MODEL/SESSIONSxSECONDS, in a process of its own with a thread for each core, in float32
unless ``--precision bf16-mixed``: forward, hybrid loss, backward, clipping, AdamW, on weights as
they are drawn and the sample conversation, repeated. The first step is not counted. ``base`` is the
published v1. ``--peers`` names a Python that has nemo_toolkit[asr]; its v1 then takes the same
steps, both in turns (``--rounds``).

- **step**: seconds, the median of three or of ``--steps``; audio: seconds of it that are trained on
  in a second.
- **peak**: largest resident memory; on an accelerator, of its own memory.
- **utilisation**: on an accelerator, operations of matrix products that the model asks for, as
  torch counts them, by what the device is said to do in a second (``--peak-flops``).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from process import ask
from published import peak
from report import Found, Report, add_json, in_turns

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "recipes" / "demo"
RATE = 16000
CELLS = ["small/8x30", "small/2x120", "base/2x45", "base/4x90"]

COLUMNS = {"step": "", "seconds": ".2f", "audio a second": ".0f", "peak MiB": ".0f", "loss": ".4f"}
PEER_COLUMNS = {"NeMo": ".2f", "NeMo peak MiB": ".0f", "NeMo loss": ".4f", "ratio": ".2f"}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Speed and memory of training steps.")
    parser.add_argument("cells", nargs="*", metavar="MODEL/SESSIONSxSECONDS")
    parser.add_argument("--peers", metavar="PYTHON", help="also measure NeMo, on base")
    parser.add_argument("--rounds", type=int, default=2, help="of both (default: 2)")
    parser.add_argument("--precision", default="32-true", help="32-true or bf16-mixed")
    parser.add_argument("--steps", type=int, default=3, help="that are timed (default: 3)")
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="of ours")
    parser.add_argument("--peak-flops", type=float, help="of the accelerator, a second")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    add_json(parser)
    args = parser.parse_args()
    if args.measure:
        (cell,) = args.cells
        takes = {"ours": ours, "nemo": nemo}[args.measure]
        print(json.dumps(takes(cell, args.precision, args.set, args.steps)))
        return
    columns = COLUMNS | (PEER_COLUMNS if args.peers else {})
    columns |= {"utilisation": ".1%"} if args.peak_flops else {}
    report = Report("step", columns, args.json)
    options = ["--precision", args.precision, "--steps", str(args.steps)]
    options += [word for setting in args.set for word in ("--set", setting)]
    for cell in args.cells or CELLS:
        found, theirs = compare(cell, args.peers, args.rounds, options)
        _, sessions, seconds = parts(cell)
        row = {"step": cell, "seconds": found["step"], "loss": found["loss"]}
        row |= {"audio a second": sessions * seconds / found["step"], "peak MiB": found["peak"]}
        if theirs is not None:
            row |= {"NeMo": theirs["step"], "NeMo peak MiB": theirs["peak"]}
            row |= {"NeMo loss": theirs["loss"], "ratio": theirs["step"] / found["step"]}
        if args.peak_flops and "flops" in found:
            row["utilisation"] = found["flops"] / found["step"] / args.peak_flops
        report.add({**row, "precision": args.precision})


def compare(
    cell: str, peers: str | None, rounds: int = 2, options: Sequence[str] = ()
) -> tuple[Found, Found | None]:
    """What ours takes, and what NeMo does, in turns; None where there is none to ask."""

    def take(python: str, whose: str) -> Found:
        return ask([python, __file__, cell, "--measure", whose, *options])

    if peers is None or not cell.startswith("base/"):
        return take(sys.executable, "ours"), None
    return in_turns(lambda: take(sys.executable, "ours"), lambda: take(peers, "nemo"), rounds)


def parts(cell: str) -> tuple[str, int, int]:
    """Model, sessions and seconds."""
    model, size = cell.split("/")
    sessions, seconds = size.split("x")
    return model, int(sessions), int(seconds)


def material(sessions: int, seconds: int) -> tuple[Any, Any]:
    """Waveforms (session, sample), and activity (session, frame, slot) by arrival."""
    import numpy as np
    import soundfile
    import torch

    waveform, _ = soundfile.read(DEMO / "conversation.flac", dtype="float32")
    num_frames = -(-seconds * RATE // 1280)
    activity = np.zeros((num_frames, 4), dtype=np.float32)
    slots: dict[str, int] = {}
    lasts = len(waveform) / RATE
    for text in (DEMO / "conversation.rttm").read_text(encoding="ascii").splitlines():
        fields = text.split()
        slot = slots.setdefault(fields[7], len(slots))
        for repeat in range(int(seconds // lasts) + 1):
            start = float(fields[3]) + repeat * lasts
            first, last = (round(t * RATE / 1280) for t in (start, start + float(fields[4])))
            activity[first:last, slot] = 1.0
    samples = np.resize(waveform, seconds * RATE)
    return (
        torch.from_numpy(samples).expand(sessions, -1).clone(),
        torch.from_numpy(activity).expand(sessions, -1, -1).clone(),
    )


def ours(cell: str, precision: str, settings: list[str], steps: int) -> Found:
    """Steps of `diarize train`'s module."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from diarize.config import load_config
    from diarize.data import Batch
    from diarize.memory import keep_freed_memory
    from diarize.module import DiarizationModule, TrainingConfig

    torch.manual_seed(0)
    model, sessions, seconds = parts(cell)
    config = load_config(
        TrainingConfig, [ROOT / "conf" / f"{model}.yaml"], ["data.utterances=x", *settings]
    )
    if not config.trainer.recompute:  # as in training
        keep_freed_memory()
    module = DiarizationModule(config).train()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device)
    signal, activity = material(sessions, seconds)
    batch = Batch(
        signal=signal,
        num_samples=torch.full((sessions,), signal.shape[1]),
        activity=activity,
        num_frames=torch.full((sessions,), activity.shape[1]),
        voice=torch.full(activity.shape[:2], -1),
        turns=[[]] * sessions,
        regions=[None] * sessions,
        num_speakers=0,
        dropped_speakers=0,
    ).to(device)
    configured: Any = module.configure_optimizers()
    optimizer = configured["optimizer"]
    bf16 = precision == "bf16-mixed"

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = module._step(batch)[0]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    found: Found = {}
    if device.type == "cuda":
        with FlopCounterMode(display=False) as counter:
            step()
        found["flops"] = float(counter.get_total_flops())
    return found | timed(step, steps)


def nemo(cell: str, precision: str, settings: list[str], steps: int) -> Found:
    """Steps of NeMo's v1, its sort and permutation-invariant loss alike."""
    import torch
    from nemo.collections.asr.parts.utils.asr_multispeaker_utils import (
        get_ats_targets,
        get_pil_targets,
    )
    from peer_models import nemo_model

    del settings
    torch.manual_seed(0)
    _, sessions, seconds = parts(cell)
    model = nemo_model("v1").train()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    signal, activity = (each.to(device) for each in material(sessions, seconds))
    lengths = torch.full((sessions,), signal.shape[1], device=device)
    frames = torch.full((sessions,), activity.shape[1], device=device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, (0.9, 0.98), weight_decay=1e-3)
    bf16 = precision == "bf16-mixed"

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            posterior = model(audio_signal=signal, audio_signal_length=lengths)
            orders = model.speaker_permutations
            losses = []
            for targets in (get_ats_targets, get_pil_targets):
                target = targets(activity.clone(), posterior, speaker_permutations=orders)
                losses.append(model.loss(probs=posterior, labels=target, target_lens=frames))
        loss = sum(losses) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return timed(step, steps)


def timed(step: Callable[[], float], steps: int) -> Found:
    """Median seconds of steps after the first, its loss, and the most memory."""
    import torch

    loss, times = step(), []
    for _ in range(steps):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    most = peak()
    if torch.cuda.is_available():
        most = torch.cuda.max_memory_allocated() / 2**20
    return {"step": statistics.median(times), "loss": loss, "peak": most}


if __name__ == "__main__":
    main()
