"""The published models at full size, with random weights: how fast, and how large in memory.

    .venv/bin/python recipes/bench/published.py
    .venv/bin/python recipes/bench/published.py --peers PYTHON

Each cell is measured in a process of its own with two torch threads in float32, on the sample
conversation, repeated. ``--peers`` names a Python that has nemo_toolkit[asr] and transformers; its
measurements then stand beside ours, taken in turns, as the machine's speed varies:

    python -m venv peers && peers/bin/pip install 'nemo_toolkit[asr]==3.0.0' transformers==5.23.0

- **seconds**: for so much audio at once (v1); for a step of a stream, the median over the last
  third of 66 seconds of audio, when cache and queue are full. ``+`` is slower than the audio.
- **import**: until the library can build a model. **load**: ours alone, a native folder.
- **first**: ours alone, from nothing imported to the first answer, once its audio is there.
- **peak**: largest resident memory of the process. Peers draw their weights and read none.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "models"
RATE = 16000
FRAME = 0.08

V2 = {"default": (188, 1, 1, 0, 188), "1.04s": (6, 1, 7, 188, 144), "0.32s": (3, 1, 1, 188, 144)}
NEMOTRON = {"30.4s": (340, 40, 40, 300), "1.04s": (9, 4, 264, 222), "0.32s": (3, 1, 264, 222)}
"""Settings of streams in frames: chunk, (left,) right, fifo, update."""

MEASURES = [
    "v1/60",
    "v1/600",
    *(f"v2/{name}" for name in V2),
    *(f"nemotron3/{name}" for name in NEMOTRON),
]
HEAVY = {"v1/600"}
"""Not asked of peers unless told to: 14 GB and five to eight minutes of NeMo."""

Found = dict[str, float]


def main() -> None:
    """Measure all that was asked for and print a table."""
    parser = argparse.ArgumentParser(description="Speed and memory of the published models.")
    parser.add_argument("names", nargs="*", metavar="MODEL/MEASURE", help=", ".join(MEASURES))
    parser.add_argument("--peers", metavar="PYTHON", help="also measure NeMo and transformers")
    parser.add_argument("--heavy", action="store_true", help="peers take v1/600 as well")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    unknown = set(args.names) - set(MEASURES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))} is not one of {', '.join(MEASURES)}")
    print("| model | seconds | audio | import | load | first | peak MiB | peer | import | peak MiB "
          "| ratio |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or MEASURES:
            if not Path(folder, name.split("/")[0]).exists():
                ask(sys.executable, "write", name, folder)
            ours, theirs = ask(sys.executable, "ours", name, folder), None
            if args.peers and (args.heavy or name not in HEAVY):
                theirs = ask(args.peers, "peer", name, folder)
                again = ask(sys.executable, "ours", name, folder)
                ours["seconds"] = (ours["seconds"] + again["seconds"]) / 2
            print(line(name, ours, theirs), flush=True)


def ask(python: str, whose: str, name: str, folder: str) -> Found:
    """One measurement, in a process of its own."""
    command = [python, __file__, "--measure", whose, name, folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def line(name: str, ours: Found, theirs: Found | None) -> str:
    """A row of the table."""
    slow = "+" if ours["seconds"] > ours["audio"] else ""
    cells = [name, f"{ours['seconds']:.3f}{slow}", f"{ours['audio']:.2f}"]
    cells += [f"{ours[key]:.1f}" for key in ("import", "load", "first")] + [f"{ours['peak']:.0f}"]
    if theirs is not None:
        slow = "+" if theirs["seconds"] > theirs["audio"] else ""
        cells += [f"{theirs['seconds']:.3f}{slow}", f"{theirs['import']:.1f}"]
        cells += [f"{theirs['peak']:.0f}", f"{theirs['seconds'] / ours['seconds']:.2f}"]
    else:
        cells += [""] * 4
    return f"| {' | '.join(cells)} |"


def measure(whose: str, name: str, folder: str) -> Found:
    """Seconds, audio seconds a step, import, load, first answer and peak memory of one cell."""
    if whose == "write":
        write(name.split("/")[0], Path(folder))
        return {}
    import numpy as np
    import soundfile
    import torch

    torch.set_num_threads(2)
    torch.manual_seed(0)
    waveform, _ = soundfile.read(ROOT / "recipes" / "demo" / "conversation.flac", dtype="float32")
    model, setting = name.split("/")
    seconds = int(setting) if model == "v1" else 66
    if setting in ("default", "30.4s"):
        seconds = 180
    samples = np.resize(waveform, seconds * RATE)
    takes = {"ours": ours, "peer": peer}[whose]
    found = takes(model, setting, samples, Path(folder, model))
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def settled(steps: list[float]) -> float:
    """Median of the last third, the last step aside, which may be a part of one."""
    whole = steps[:-1] if len(steps) > 1 else steps
    return statistics.median(whole[-max(len(whole) // 3, 1) :])


def write(model: str, folder: Path) -> None:
    """A native folder with a model of the published size, in a process that is then forgotten."""
    from diarize.checkpoint import save_checkpoint

    save_checkpoint(full_size(model), folder / model)


def ours(model: str, setting: str, samples: Any, folder: Path) -> Found:
    """What diarize takes."""
    begun = time.perf_counter()
    from diarize.checkpoint import load_checkpoint
    from diarize.inference import InferenceConfig, diarize_waveform
    from diarize.memory import keep_freed_memory
    from diarize.streaming import StreamingDiarizer

    keep_freed_memory()
    imported = time.perf_counter() - begun
    begun = time.perf_counter()
    diarizer = load_checkpoint(folder)
    found = {"import": imported, "load": time.perf_counter() - begun}
    steps = []
    if model == "v1":
        config = InferenceConfig(window=len(samples) / RATE + 1)
        steps = clock(lambda: diarize_waveform(diarizer, samples, config=config))
        found |= {"seconds": min(steps), "audio": len(samples) / RATE}
    else:
        chunk, *_, fifo, update = (V2 if model == "v2" else NEMOTRON)[setting]
        left, right = V2[setting][1:3] if model == "v2" else (0, NEMOTRON[setting][1])
        cache, silence = (188, 3) if model == "v2" else (264, 1)
        latency = f"chunk={chunk},left={left},right={right},fifo={fifo},cache={cache}"
        stream = StreamingDiarizer(diarizer, f"{latency},update={update},silence={silence}")
        piece = round(chunk * FRAME * RATE)
        for first in range(0, len(samples), piece):
            part = samples[first : first + piece]
            begun = time.perf_counter()
            if len(stream.feed(part)):
                steps.append(time.perf_counter() - begun)
        found |= {"seconds": settled(steps), "audio": chunk * FRAME}
    return found | {"first": found["import"] + found["load"] + steps[0]}


def full_size(model: str) -> Any:
    """A model of the published size, with weights as they are drawn."""
    from diarize.model import Diarizer, DiarizerConfig

    encoder: dict[str, Any] = {"_target_": "diarize.encoder.transformer.Transformer"}
    if model == "nemotron3":
        front_end: dict[str, Any] = {"_target_": "diarize.frontend.stacking.Stacking"}
        encoder |= {"width": 512, "inner": 2048, "num_layers": 31, "activation": "gelu"}
        encoder |= {"pre_norm": True, "input_norm": True, "attention_bias": False}
        encoder |= {"positions": "rotary"}
        config = DiarizerConfig(
            front_end, encoder, num_slots=8, head_width=192, upsampling=8, learned_silence=True
        )
        return Diarizer(config).eval()
    front_end = {"_target_": "diarize.frontend.fastconformer.FastConformer"}
    mel = {"peak_scaling": "item"}
    if model == "v2":
        front_end["num_layers"] = 17
        mel = {"num_mels": 128, "normalization": "none"}
    return Diarizer(DiarizerConfig(front_end | {"mel": mel}, encoder)).eval()


def peer(model: str, setting: str, samples: Any, folder: Path) -> Found:
    """What NeMo or transformers takes."""
    del folder
    return transformers_takes(setting, samples) if model == "nemotron3" else nemo_takes(
        model, setting, samples
    )  # fmt: skip


def nemo_takes(model: str, setting: str, samples: Any) -> Found:
    """Sortformer v1 and v2."""
    import torch

    begun = time.perf_counter()
    from nemo.collections.asr.models import SortformerEncLabelModel
    from omegaconf import OmegaConf

    imported = time.perf_counter() - begun
    with tarfile.open(GOLDEN / f"sortformer_{model}.nemo") as archive:
        content = archive.extractfile("./model_config.yaml")
        assert content is not None
        config = OmegaConf.create(content.read().decode())
    layers = 18 if model == "v1" else 17
    sizes = {
        "model_defaults": {"fc_d_model": 512, "tf_d_model": 192},
        "encoder": {
            "n_layers": layers, "d_model": 512, "n_heads": 8, "subsampling_conv_channels": 256,
            "ff_expansion_factor": 4, "conv_kernel_size": 9,
        },
        "transformer_encoder": {
            "num_layers": 18, "hidden_size": 192, "inner_size": 768, "num_attention_heads": 8,
        },
        "sortformer_modules": {"fc_d_model": 512, "tf_d_model": 192},
    }  # fmt: skip
    diarizer = SortformerEncLabelModel(cfg=OmegaConf.merge(config, sizes)).eval()
    diarizer.preprocessor.featurizer.dither = 0.0
    diarizer.async_streaming = False
    signal, length = torch.from_numpy(samples)[None], torch.tensor([len(samples)])
    steps: list[float] = []
    if model == "v2":
        modules, step = diarizer.sortformer_modules, diarizer.forward_streaming_step
        modules.chunk_len, modules.chunk_left_context, modules.chunk_right_context = V2[setting][:3]
        modules.fifo_len, modules.spkcache_update_period = V2[setting][3:]
        modules.spkcache_len = 188

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            answer = step(*args, **kwargs)
            steps.append(time.perf_counter() - begun)
            return answer

        diarizer.forward_streaming_step = timed
    with torch.inference_mode():
        if model == "v1":
            seconds = min(clock(lambda: diarizer.forward(signal, length)))
            return {"seconds": seconds, "audio": len(samples) / RATE, "import": imported}
        diarizer.forward(signal, length)
    return {"seconds": settled(steps), "audio": V2[setting][0] * FRAME, "import": imported}


def transformers_takes(setting: str, samples: Any) -> Found:
    """Nemotron-3."""
    import torch

    begun = time.perf_counter()
    from transformers import (
        AutoFeatureExtractor,
        Nemotron3DiarizationConfig,
        Nemotron3DiarizationForAudioFrameClassification,
    )

    imported = time.perf_counter() - begun
    chunk, right, fifo, update = NEMOTRON[setting]
    config = Nemotron3DiarizationConfig()
    config.streaming_config.fifo_length = fifo
    config.streaming_config.speaker_cache_update_period = update
    diarizer = Nemotron3DiarizationForAudioFrameClassification(config).eval()
    extractor = AutoFeatureExtractor.from_pretrained(GOLDEN / "nemotron3")
    features = extractor(samples, sampling_rate=RATE, return_tensors="pt")["input_features"]
    features = features[:, : len(samples) // 160]
    steps, cache = [], None
    with torch.inference_mode():
        for first in range(0, features.shape[1] - 8 * (chunk + right), 8 * chunk):
            heard = features[:, first : first + 8 * (chunk + right)]
            begun = time.perf_counter()
            answer = diarizer(heard, speaker_cache=cache, num_lookahead_frames=right)
            steps.append(time.perf_counter() - begun)
            cache = answer.speaker_cache
    return {"seconds": settled([*steps, 0.0]), "audio": chunk * FRAME, "import": imported}


def clock(work: Any) -> list[float]:
    """Wall times of two runs, or of one where it takes long."""
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
        if times[0] > 30:
            break
    return times


if __name__ == "__main__":
    main()
