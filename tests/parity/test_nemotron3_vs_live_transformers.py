"""Nemotron-3 against transformers itself: weights, audio and settings are drawn anew in every run.

As `test_sortformer_vs_live_nemo` does with NeMo; the same variables repeat a run.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from test_sortformer_vs_live_nemo import (
    DRAWS,
    ROUNDING,
    SAMPLE_RATE,
    SIZE,
    draw,
    draw_weights,
    same,
    some_audio,
    some_settings,
    speak,
    spread,
    stream,
)
from torch import Tensor, nn

from diarize.checkpoint import load_checkpoint
from diarize.latency import StreamingConfig, format_latency, parse_latency

pytestmark = [
    pytest.mark.parity,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),  # theirs
]

STACKED = 8
"""Rows of features, and of posteriors, in one frame of the encoder."""

PARAMETERS = 99_226_504
"""Of the published model."""


@dataclass(frozen=True)
class Drawn:
    """A model of transformers, and what it was saved as.

    Attributes:
        model: with weights of this run.
        processor: its mode ``drawn`` streams as ``streaming`` says.
        folder: both, as saved.
        streaming: no look-back, which no mode has.
        offline: how whole recordings are cut.
    """

    model: Any
    processor: Any
    folder: Path
    streaming: StreamingConfig
    offline: StreamingConfig


@pytest.fixture(scope="module")
def peer() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers.models.nemotron3_diarization")


@pytest.fixture(scope="module", params=DRAWS)
def drawn(
    request: pytest.FixtureRequest, peer: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Drawn:
    from transformers import NemotronAsrStreamingFeatureExtractor

    generator = draw(3, request.param)
    full = SIZE == "full"
    num_speakers = 8 if full else int(generator.integers(2, 9))
    width = 512 if full else 64
    live = replace(some_settings(generator, num_speakers), left=0)
    live = replace(live, fifo=max(live.fifo, 1))  # the least that the peer takes
    whole = replace(some_settings(generator, num_speakers), cache=live.cache, silence=live.silence)
    config = peer.Nemotron3DiarizationConfig(
        audio_config={"hidden_size": width}
        | ({} if full else {"intermediate_size": 160, "num_hidden_layers": 3})
        | ({} if full else {"num_attention_heads": 4}),
        head_config={
            "hidden_size": 192 if full else 24,
            "num_speakers": num_speakers,
            "audio_hidden_size": width,
        },
        streaming_config={
            "num_speakers": num_speakers,
            "fifo_length": live.fifo,
            "speaker_cache_update_period": live.update,
            "speaker_cache_length": live.cache,
            "speaker_cache_silence_frames_per_speaker": live.silence,
        },
        chunk_length=whole.chunk,
        chunk_left_context=whole.left,
        chunk_right_context=whole.right,
        fifo_length=whole.fifo,
        speaker_cache_update_period=whole.update,
    )
    model = peer.Nemotron3DiarizationForAudioFrameClassification(config).eval()
    processor = peer.Nemotron3DiarizationProcessor(
        NemotronAsrStreamingFeatureExtractor(feature_size=128),
        streaming_modes={"drawn": [live.chunk, live.right]},
        streaming_mode="drawn",
    )
    draw_weights(model, generator)
    features = trimmed(processor, some_audio(generator, 20, 20))
    embedder = model.model.audio_tower.embedder.projection
    with torch.no_grad():
        embedder.weight.sub_(embedder.weight.mean(dim=1, keepdim=True))  # no level, but shapes

    def run() -> None:
        model(features, num_lookahead_frames=0)

    for linear in (embedder, model.model.proj):
        spread(linear, run, deviation=1.0)
    speak(model.classifier.out_proj, run)
    assert not full or sum(p.numel() for p in model.parameters()) == PARAMETERS
    folder = tmp_path_factory.mktemp("nemotron3")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Drawn(model, processor, folder, live, whole)


def trimmed(processor: Any, audio: Tensor) -> Tensor:
    """(1, row, bin), without the row after the last, which the processor leaves there, masked."""
    inputs = processor(audio[0].numpy(), sampling_rate=SAMPLE_RATE)
    features: Tensor = inputs["input_features"]
    return features[:, : inputs["attention_mask"].sum()]


@dataclass
class Watch:
    """What a cache of transformers went through since `clear`.

    Attributes:
        sure: rows of posteriors until the first close call.
        close: whether there was one.
        compressed: how many times the cache was.
    """

    sure: int = 0
    close: bool = False
    compressed: int = 0

    def clear(self) -> None:
        self.sure, self.close, self.compressed = 0, False, 0


@pytest.fixture
def watch(peer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Looks over the shoulder of every cache."""
    watched = Watch()
    cache = peer.Nemotron3DiarizationSpeakerCache
    update, compress = cache.update, cache._compress

    def watched_update(
        self: Any, embeds: Tensor, logits: Tensor, silence: Tensor, num_chunk: int, **rest: Any
    ) -> None:
        watched.sure += 0 if watched.close else num_chunk * STACKED
        update(self, embeds, logits, silence, num_chunk, **rest)

    def watched_compress(self: Any, embeds: Tensor, probs: Tensor, silence: Tensor) -> Any:
        rows = torch.arange(1.0, embeds.shape[1] + 1)[None, :, None]
        shifts = [ROUNDING * torch.sin(1e7 * n * probs) for n in range(5)]
        kept = [compress(self, rows, probs + shift, torch.zeros(1))[0] for shift in shifts]
        watched.close |= any(not torch.equal(k, kept[0]) for k in kept)
        watched.compressed += 1
        return compress(self, embeds, probs, silence)

    monkeypatch.setattr(cache, "update", watched_update)
    monkeypatch.setattr(cache, "_compress", watched_compress)
    yield watched


@torch.no_grad()
def test_every_stage(drawn: Drawn, request: pytest.FixtureRequest) -> None:
    """One session in one chunk: nothing is remembered."""
    generator = draw(3, 1, request.node.callspec.params["drawn"])
    ours = load_checkpoint(drawn.folder)
    audio = some_audio(generator, 0.02, 20)
    num_samples = torch.tensor([audio.shape[1]])
    features = trimmed(drawn.processor, audio)
    logits = drawn.model(features, num_lookahead_frames=0).logits
    print(f"{audio.shape[1]} samples, posteriors deviate by {logits.sigmoid().std():.2f}")

    same("mel", ours.front_end.mel(audio, num_samples)[0], features, 1e-4)
    embedding = drawn.model.model.audio_tower.embedder(features)
    same("embedding", ours.embed(audio, num_samples)[0], embedding, 1e-4)
    same("logits", ours(audio, num_samples)[0][:, : logits.shape[1]], logits, 1e-4)
    posterior = ours.posterior(audio, num_samples)[0][:, : logits.shape[1]]
    same("posterior", posterior, logits.sigmoid(), ROUNDING * 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_filters_are_rounded_as_the_processor_says(
    dtype: str, drawn: Drawn, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from transformers import NemotronAsrStreamingFeatureExtractor

    generator = draw(3, 6, request.node.callspec.params["drawn"])
    processor = type(drawn.processor)(
        NemotronAsrStreamingFeatureExtractor(
            feature_size=128,
            mel_filters_dtype=dtype,
            preemphasis=float(generator.choice([0.9, 0.97])),
        )
    )
    drawn.model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    mel = load_checkpoint(tmp_path).front_end.mel
    audio = some_audio(generator, 0.1, 5)
    features, _ = mel(audio, torch.tensor([audio.shape[1]]))
    same("mel", features, trimmed(processor, audio), 1e-4)


@torch.no_grad()
def test_padded_batches(drawn: Drawn, request: pytest.FixtureRequest) -> None:
    """Theirs lets padding into an item's last frame, which is left out here."""
    generator = draw(3, 2, request.node.callspec.params["drawn"])
    ours = load_checkpoint(drawn.folder)
    items = [some_audio(generator, 0.1, 12)[0] for _ in range(4)]
    inputs = drawn.processor([i.numpy() for i in items], sampling_rate=SAMPLE_RATE)
    logits = drawn.model(**inputs, num_lookahead_frames=0).logits
    num_samples = torch.tensor([len(item) for item in items])
    audio = nn.utils.rnn.pad_sequence(items, batch_first=True)
    posterior = ours.posterior(audio, num_samples)[0]
    for row, valid in enumerate(inputs["attention_mask"].sum(dim=1).tolist()):
        rows = slice(0, (valid - 1) // STACKED * STACKED)
        same(
            f"posterior of item {row}",
            posterior[row, rows],
            logits[row, rows].sigmoid(),
            ROUNDING * 2,
        )


@torch.no_grad()
def test_offline(drawn: Drawn, watch: Watch, request: pytest.FixtureRequest) -> None:
    number = request.node.callspec.params["drawn"]
    generator = draw(3, 3, number)
    ours = load_checkpoint(drawn.folder)
    assert parse_latency("offline", ours.inference["latencies"]) == drawn.offline
    audio = some_audio(generator, *[(1, 10), (10, 40), (40, 90)][number % 3])
    posterior, _ = stream(ours, "offline", audio, generator)

    features = trimmed(drawn.processor, audio)
    logits = drawn.model(features).logits[0]
    told(drawn.offline, audio, watch, len(posterior))
    assert posterior.shape == logits.shape
    same("posterior", posterior[: watch.sure], logits[: watch.sure].sigmoid(), 1e-4)

    # As their page shows it, with a masked row more, which leaks into the last frame.
    watch.clear()
    inputs = drawn.processor(audio[0].numpy(), sampling_rate=SAMPLE_RATE)
    logits = drawn.model(**inputs).logits[0]
    rows = slice(0, min(watch.sure, len(posterior) - STACKED))
    same("posterior, masked", posterior[rows], logits[rows].sigmoid(), 1e-4)


@torch.no_grad()
def hear(model: Any, features: Tensor, config: StreamingConfig) -> tuple[Tensor, Any]:
    """Logits of their stream, (row, slot), and its cache, fed as NeMo's and ours are."""
    total, chunk = features.shape[1], config.chunk * STACKED
    logits, cache = [], None
    for start in range(0, total, chunk):
        end = min(start + chunk, total)
        left, right = min(config.left * STACKED, start), min(config.right * STACKED, total - end)
        heard = model(
            features[:, start - left : end + right],
            speaker_cache=cache,
            num_lookback_frames=left // STACKED,
            num_lookahead_frames=-(-right // STACKED),
        )
        cache = heard.speaker_cache
        logits.append(heard.logits[0])
    return torch.cat(logits), cache


@torch.no_grad()
def test_streams(drawn: Drawn, watch: Watch, request: pytest.FixtureRequest) -> None:
    number = request.node.callspec.params["drawn"]
    generator = draw(3, 4, number)
    ours = load_checkpoint(drawn.folder)
    config = replace(drawn.streaming, left=int(generator.integers(0, 5)))
    for _ in range(8):
        watch.clear()
        audio = some_audio(generator, *[(1, 10), (10, 40), (40, 90)][number % 3])
        posterior, streaming = stream(ours, format_latency(config), audio, generator)
        logits, cache = hear(drawn.model, trimmed(drawn.processor, audio), config)
        told(config, audio, watch, len(posterior))
        assert posterior.shape == logits.shape
        same("posterior", posterior[: watch.sure], logits[: watch.sure].sigmoid(), 1e-4)
        if not watch.close:
            break
    else:
        pytest.fail("eight streams had a close call each, so that none was compared to its end")
    memory, length = streaming._memory, cache.num_cache_frames
    assert (memory.cache_posterior is None) != cache.is_compressed
    same("cache", memory.cache, cache.embeds[0, :length], 1e-4)
    same("queue", memory.fifo, cache.fifo[0, : cache.num_fifo_frames], 1e-4)
    same("silence", memory.silence, drawn.model.silence_embeds, 0)
    if memory.cache_posterior is not None:
        same("posterior of the cache", memory.cache_posterior, cache.probs[0, :length], 1e-4)


@torch.no_grad()
def test_sessions_of_the_processor(
    drawn: Drawn, watch: Watch, request: pytest.FixtureRequest
) -> None:
    """Samples through the processor, chunk by chunk; its last chunk is whatever is left."""
    number = request.node.callspec.params["drawn"]
    generator = draw(3, 5, number)
    ours = load_checkpoint(drawn.folder)
    config, processor = drawn.streaming, drawn.processor
    name = f"{0.08 * (config.chunk + config.right):g}s"
    audio = some_audio(generator, *[(1, 10), (10, 40), (40, 90)][number % 3])
    posterior, _ = stream(ours, name, audio, generator)

    samples, total = audio[0].numpy(), audio.shape[1] // 160
    logits, cache, row, last = [], None, 0, False
    while not last:
        first, begin = row == 0, max(processor.audio_chunk_start(row), 0)
        count = processor.num_samples_per_audio_chunk
        if first:
            count = processor.num_samples_first_audio_chunk
        rest = total - row
        last = rest <= processor.num_mel_frames_per_audio_chunk or begin + count > len(samples)
        inputs = processor(
            samples[begin:] if last else samples[begin : begin + count],
            sampling_rate=SAMPLE_RATE,
            is_streaming=True,
            is_first_audio_chunk=first,
            is_last_audio_chunk=last,
        )
        if last:  # said where there is no cache yet to tell that this is a session
            inputs["num_lookahead_frames"] = 0
            sure, close = watch.sure, watch.close
        heard = drawn.model(**inputs, speaker_cache=cache)
        logits.append(heard.logits[0])
        cache, row = heard.speaker_cache, row + processor.num_mel_frames_per_step
    told(config, audio, watch, len(posterior))

    # We cut what is left into chunks; to the end of the first of them that is the same.
    theirs = torch.cat(logits)
    assert theirs.shape == posterior.shape
    if not close and rest <= processor.num_mel_frames_per_audio_chunk:
        sure += min(rest, processor.num_mel_frames_per_step)
    same("posterior", posterior[:sure], theirs[:sure].sigmoid(), 1e-4)


def told(config: StreamingConfig, audio: Tensor, watch: Watch, num_rows: int) -> None:
    print(
        f"{format_latency(config)}: {audio.shape[1]} samples, cache compressed {watch.compressed} "
        f"times, {min(watch.sure, num_rows)} of {num_rows} rows before a close call"
    )
