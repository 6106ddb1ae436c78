"""NeMo's and transformers' models of the published sizes: what is run in the peers' own Python.

``published.py``, ``step.py`` and ``peers.py`` call this; by hand:

    .peers/bin/python recipes/bench/peer_models.py measure v2/1.04s
    .peers/bin/python recipes/bench/peer_models.py write v1.nemo
    .peers/bin/python recipes/bench/peer_models.py diarize v1.nemo OUTPUT AUDIO...

It knows nothing of diarize but where the settings of small models lie, which it enlarges.
"""

import json
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from published import GOLDEN, NEMOTRON, RATE, V2, Cell, clock, peak, samples, settled
from report import Found


def main() -> None:
    """Do what the first word says."""
    what, *words = sys.argv[1:]
    if what == "measure":
        (name,) = words
        print(json.dumps(measure(Cell.parse(name))))
    elif what == "write":
        nemo_model("v1").save_to(words[0])
        print("{}")
    elif what == "diarize":
        diarize(words[0], Path(words[1]), words[2:])
    else:
        raise SystemExit(f"{what} is none of measure, write, diarize")


def measure(cell: Cell) -> Found:
    """Seconds of the peer, of its import, and its peak memory."""
    waveform = samples(cell)
    takes = transformers_takes if cell.model == "nemotron3" else nemo_takes
    return takes(cell, waveform) | {"audio": cell.audio, "peak": peak()}


def nemo_model(model: str) -> Any:
    """Sortformer v1 or v2, with weights as they are drawn."""
    from nemo.collections.asr.models import SortformerEncLabelModel
    from omegaconf import OmegaConf

    with tarfile.open(GOLDEN / f"sortformer_{model}.nemo") as archive:
        content = archive.extractfile("./model_config.yaml")
        assert content is not None
        config = OmegaConf.create(content.read().decode())
    sizes = {
        "model_defaults": {"fc_d_model": 512, "tf_d_model": 192},
        "encoder": {
            "n_layers": 18 if model == "v1" else 17, "d_model": 512, "n_heads": 8,
            "subsampling_conv_channels": 256, "ff_expansion_factor": 4, "conv_kernel_size": 9,
        },
        "transformer_encoder": {
            "num_layers": 18, "hidden_size": 192, "inner_size": 768, "num_attention_heads": 8,
        },
        "sortformer_modules": {"fc_d_model": 512, "tf_d_model": 192},
    }  # fmt: skip
    return SortformerEncLabelModel(cfg=OmegaConf.merge(config, sizes))


def nemo_takes(cell: Cell, waveform: Any) -> Found:
    """Sortformer v1 and v2."""
    import torch

    begun = time.perf_counter()
    from nemo.collections.asr.models import SortformerEncLabelModel  # noqa: F401

    imported = time.perf_counter() - begun
    diarizer = nemo_model(cell.model).eval()
    diarizer.preprocessor.featurizer.dither = 0.0
    diarizer.async_streaming = False
    signal = torch.from_numpy(waveform).expand(cell.batch, -1).clone()
    length = torch.full((cell.batch,), len(waveform))
    steps: list[float] = []
    if cell.model == "v2":
        modules, step = diarizer.sortformer_modules, diarizer.forward_streaming_step
        chunk, left, right, modules.fifo_len, modules.spkcache_update_period = V2[cell.setting]
        modules.chunk_len, modules.chunk_left_context, modules.chunk_right_context = (
            chunk, left, right,
        )  # fmt: skip
        modules.spkcache_len = 188

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            answer = step(*args, **kwargs)
            steps.append(time.perf_counter() - begun)
            return answer

        diarizer.forward_streaming_step = timed
    with torch.inference_mode():
        if cell.model == "v1":
            seconds = min(clock(lambda: diarizer.forward(signal, length)))
            return {"seconds": seconds, "import": imported}
        diarizer.forward(signal, length)
    return {"seconds": settled(steps), "import": imported}


def transformers_takes(cell: Cell, waveform: Any) -> Found:
    """Nemotron-3."""
    import torch

    begun = time.perf_counter()
    from transformers import (
        AutoFeatureExtractor,
        Nemotron3DiarizationConfig,
        Nemotron3DiarizationForAudioFrameClassification,
    )

    imported = time.perf_counter() - begun
    chunk, right, fifo, update = NEMOTRON[cell.setting]
    config = Nemotron3DiarizationConfig()
    config.streaming_config.fifo_length = fifo
    config.streaming_config.speaker_cache_update_period = update
    diarizer = Nemotron3DiarizationForAudioFrameClassification(config).eval()
    extractor = AutoFeatureExtractor.from_pretrained(GOLDEN / "nemotron3")
    features = extractor(waveform, sampling_rate=RATE, return_tensors="pt")["input_features"]
    features = features[:, : len(waveform) // 160]
    steps, cache = [], None
    with torch.inference_mode():
        for first in range(0, features.shape[1] - 8 * (chunk + right), 8 * chunk):
            heard = features[:, first : first + 8 * (chunk + right)]
            begun = time.perf_counter()
            answer = diarizer(heard, speaker_cache=cache, num_lookahead_frames=right)
            steps.append(time.perf_counter() - begun)
            cache = answer.speaker_cache
    return {"seconds": settled([*steps, 0.0]), "import": imported}


def diarize(model: str, output: Path, audio: list[str]) -> None:
    """Recordings to RTTM by NeMo's own call, with its own settings."""
    import torch
    from nemo.collections.asr.models import SortformerEncLabelModel

    torch.set_num_threads(2)
    diarizer = SortformerEncLabelModel.restore_from(model, map_location="cpu").eval()
    output.mkdir(exist_ok=True)
    for path, turns in zip(audio, diarizer.diarize(audio=audio, batch_size=1), strict=True):
        name = Path(path).stem
        lines = []
        for turn in turns:
            start, end, speaker = turn.split()
            lasts = float(end) - float(start)
            lines.append(f"SPEAKER {name} 1 {start} {lasts:.3f} <NA> <NA> {speaker} <NA> <NA>\n")
        (output / f"{name}.rttm").write_text("".join(lines))


if __name__ == "__main__":
    main()
