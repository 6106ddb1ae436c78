"""Live diarization: samples in as they come, posteriors and turns out after a stated wait.

A streaming model hears a chunk with a little context, behind the frames that it remembers
(`diarize.cache`); what it answers for the chunk stands. Steps, and so results, do not depend on
how many samples are fed at a time, nor on what other streams are fed together with this one.

B streams, F feature frames, M mel bins, T frames, D embedding width, S slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diarize.cache import SpeakerCache
from diarize.errors import ConfigError
from diarize.frontend.mel_stream import MelStream
from diarize.latency import KEYS, LATENCIES, OFFLINE, Chunk, StreamingConfig, parse_latency
from diarize.model import Diarizer, enough_memory
from diarize.postprocess import PostprocessConfig
from diarize.recording import AUDIO
from diarize.stream import Stream
from diarize.turns import Turn

Waveform = NDArray[np.float32]


def refuse_windowed(diarizer: Diarizer) -> None:
    """See that a model can stream.

    Raises:
        ConfigError: if it hears features, or needs the whole recording.
    """
    if diarizer.hears != AUDIO:
        raise ConfigError(
            f"the model hears {diarizer.hears}, but a stream is audio. Judge features in windows: "
            "diarize infer --manifest, without --latency."
        )
    if not hasattr(diarizer.front_end, "mel"):
        raise ConfigError(
            f"the model hears through {type(diarizer.front_end).__name__}, but a stream goes "
            "through log-mel energies. Judge recordings in windows: diarize infer, without "
            "--latency."
        )
    mel = diarizer.front_end.mel.config
    if mel.peak_scaling != "none":
        raise ConfigError(
            f"the model has mel.peak_scaling {mel.peak_scaling}, but a stream needs none: the "
            "peak of a recording is known at its end. Take a streaming model; this one is run in "
            "windows."
        )
    if not mel.streams:
        raise ConfigError(
            f"the model has mel.normalization {mel.normalization} and no prior, but a stream is "
            "normalised by what it has heard so far, which at first is nothing. Give the model a "
            "prior (diarize convert --prior-of), or run it in windows."
        )


class StreamingDiarizer(Stream):
    """One stream of audio.

    Args:
        diarizer: a streaming model: its features are not scaled by what is yet to come, and not
            normalised, or by what was heard so far and a prior.
        latency: settings, or as `parse_latency` takes them; names are the model's.
        postprocess: how turns are cut; default: what the model recommends.
        max_speakers: who comes after so many is not answered for; default: as many as the model
            has slots.
        with_turns: cut turns as well; else `turns` tells none.

    Attributes:
        wait: longest time from a sound to the answer for it, seconds, besides half a Fourier
            transform (16 ms) and computing.

    Raises:
        ConfigError: if the model or the latency cannot stream.
    """

    _diarizer: Diarizer

    def __init__(
        self,
        diarizer: Diarizer,
        latency: str | StreamingConfig = "1.04s",
        postprocess: PostprocessConfig | None = None,
        max_speakers: int | None = None,
        with_turns: bool = True,
    ) -> None:
        refuse_windowed(diarizer)
        mel = diarizer.front_end.mel.config
        config: StreamingConfig | None
        if isinstance(latency, StreamingConfig):
            config = latency
        else:
            config = parse_latency(latency, diarizer.inference.get("latencies", LATENCIES))
        if config is None:
            raise ConfigError(
                f"latency is {OFFLINE}, but a stream has no end to wait for. Name another."
            )
        super().__init__(diarizer, postprocess, max_speakers, with_turns)
        self._config = config
        self._frames = torch.tensor([getattr(config, key) for key in KEYS])
        width = diarizer.front_end.embedding_dim
        learned = diarizer.silence
        silence = None if learned is None else learned.detach().float().cpu()
        self._memory = SpeakerCache(config, width, diarizer.num_slots, silence)
        self._mel = MelStream(diarizer.front_end.mel)
        self._per_frame = diarizer.front_end.grid.hop // mel.hop_samples
        self._features = torch.zeros(0, mel.num_mels)
        self._first = 0  # the row of the recording that stands first in _features
        self._answered = 0  # rows whose chunks are done
        self.wait = (config.chunk + config.right) * diarizer.front_end.grid.frame_shift

    @property
    def duration(self) -> float:
        """Seconds fed so far."""
        return self._mel.num_samples / self._diarizer.grid.sample_rate

    def state_dict(self) -> dict[str, Tensor]:
        """All that the rest of the stream depends on, as tensors on the CPU, model aside."""
        memory, mel = self._memory, self._mel
        state = {
            "cache": memory.cache,
            "fifo": memory.fifo,
            "silence": memory.silence,
            "emphasised": mel.emphasised,
            "last_sample": mel.last_sample,
            "features": self._features,
            "latency": self._frames,
            "untold": torch.tensor(
                [[t.start, t.end, _slot(t), t.confidence or 0.0] for t in self._untold],
                dtype=torch.float64,
            ).reshape(-1, 4),
        }
        if self._live is not None:
            state |= {name: torch.as_tensor(array) for name, array in self._live.state().items()}
        if mel.heard is not None:
            state["heard"] = mel.heard
        if memory.cache_posterior is not None:
            state["cache_posterior"] = memory.cache_posterior
        counts = [memory.num_silence, mel.num_samples, mel.num_frames]
        counts += [self._first, self._answered, int(self._ended)]
        return {name: tensor.clone() for name, tensor in state.items()} | {
            "counts": torch.tensor(counts)
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where another stream of the same model, latency and post-processing stood.

        Raises:
            ConfigError: if it was another model's, or had another latency.
        """
        memory, mel = self._memory, self._mel
        width = state["cache"].shape[1], state["features"].shape[1]
        own = memory.cache.shape[1], self._features.shape[1]
        slots = len(state.get("undecided_since", range(self._diarizer.num_slots)))
        if width != own or slots != self._diarizer.num_slots:
            raise ConfigError(
                f"the state has embeddings and features of widths {width} and {slots} slots, but "
                f"the model's are {own} and {self._diarizer.num_slots}. Restore it with the model "
                "that it was saved from."
            )
        if ("heard" in state) != (mel.heard is not None):
            ways = ["none", "per_feature"]
            saved, its = ways["heard" in state], ways[mel.heard is not None]
            raise ConfigError(
                f"the state has features of mel.normalization {saved}, but the model's is {its}. "
                "Restore it with the model that it was saved from."
            )
        if not torch.equal(state["latency"], self._frames):
            theirs = state["latency"].tolist()
            raise ConfigError(
                f"the state has a latency of {theirs} frames ({', '.join(KEYS)}), but the stream "
                f"has {self._frames.tolist()}. Give both the same."
            )
        state = {name: tensor.clone() for name, tensor in state.items()}
        memory.cache, memory.fifo = state["cache"], state["fifo"]
        memory.cache_posterior = state.get("cache_posterior")
        memory.silence = state["silence"]
        mel.emphasised, mel.last_sample = state["emphasised"], state["last_sample"]
        mel.heard = state.get("heard")
        self._features = state["features"]
        memory.num_silence = state["counts"][0]
        mel.num_samples, mel.num_frames, *own_counts = state["counts"][1:].tolist()
        self._first, self._answered, ended = own_counts
        self._ended = bool(ended)
        if self._live is not None and "undecided" in state:
            self._live.restore({name: tensor.numpy() for name, tensor in state.items()})
        self._untold = [
            Turn(start, end, f"speaker_{slot:.0f}", confidence)
            for start, end, slot, confidence in state["untold"].tolist()
        ]

    def _push(self, samples: Waveform) -> None:
        self._keep(self._mel.push(torch.tensor(samples)))

    def _close(self) -> None:
        self._keep(self._mel.finish())

    @classmethod
    @torch.inference_mode()
    def _run(cls, streams: "Sequence[StreamingDiarizer]") -> None:
        while due := [(s, step) for s in streams if (step := s._next()) is not None]:
            heard = _hear(streams[0]._diarizer, [step for _, step in due])
            for (stream, step), (embedding, posterior) in zip(due, heard, strict=True):
                stream._take(step, embedding, posterior)

    def _keep(self, features: Tensor) -> None:
        self._features = torch.cat([self._features, features])

    def _next(self) -> "_Step | None":
        """The next chunk, once its context has come."""
        known = self._first + len(self._features)
        chunk = self._config.chunk_at(self._answered, known, self._per_frame, self._ended)
        if chunk is None:
            return None
        heard = self._features[chunk.first - self._first : chunk.last - self._first]
        memory = torch.cat([self._memory.cache, self._memory.fifo])
        first = self._memory.first_judged(chunk.own)
        wanted = range(first, len(memory) + chunk.before + chunk.own)
        return _Step(heard, chunk, memory, wanted)

    def _take(self, step: "_Step", embedding: Tensor, posterior: Tensor) -> None:
        """Keep what one step says of its chunk.

        Args:
            step: the step.
            embedding: (T, D), of the chunk and its context.
            posterior: (len(step.wanted) * upsampling, S), of the frames that were asked for.
        """
        finer, chunk = self._diarizer.config.upsampling, step.chunk
        by_frame = posterior.unflatten(0, (-1, finer)).mean(dim=1)
        own = slice(chunk.before, chunk.before + chunk.own)
        known = len(step.memory) - step.wanted.start
        first = known + chunk.before
        answer = posterior[first * finer : first * finer + chunk.num_answers(finer)].numpy()
        self._answered = chunk.end
        spare = max(chunk.end - self._config.left * self._per_frame - self._first, 0)
        self._features, self._first = self._features[spare:].clone(), self._first + spare
        self._memory.remember(by_frame[:known], embedding[own], by_frame[first:])
        self._tell(answer)


@dataclass(frozen=True)
class _Step:
    """A chunk that a stream waits for.

    Attributes:
        features: (F, M), of the chunk and its context.
        chunk: where it lies in the recording.
        memory: (n, D), what is remembered.
        wanted: of memory, chunk and context, the frames whose posteriors are used.
    """

    features: Tensor
    chunk: Chunk
    memory: Tensor
    wanted: range


def _hear(diarizer: Diarizer, steps: Sequence[_Step]) -> list[tuple[Tensor, Tensor]]:
    """Embeddings (T, D) of each chunk, and posteriors (len(wanted) * upsampling, S)."""
    device = next(diarizer.parameters()).device
    training = diarizer.training
    diarizer.eval()
    try:
        with enough_memory(device, f"{len(steps)} streams"):
            num_rows = torch.tensor([len(step.features) for step in steps], device=device)
            features = pad_sequence([step.features for step in steps], batch_first=True)
            embedding, num_frames = diarizer.front_end.subsampling(features.to(device), num_rows)
            counts = num_frames.tolist()
            embeddings = [e[:n].float() for e, n in zip(embedding, counts, strict=True)]
            heard = [
                torch.cat([step.memory.to(device), e])
                for step, e in zip(steps, embeddings, strict=True)
            ]
            lengths = torch.tensor([len(row) for row in heard], device=device)
            encoded = diarizer.front_end.encode(pad_sequence(heard, batch_first=True), lengths)
            first = min(step.wanted.start for step in steps)
            asked = range(first, max(step.wanted.stop for step in steps))
            posterior = diarizer.classify(encoded, lengths, asked).float().sigmoid().cpu()
    finally:
        diarizer.train(training)
    finer = diarizer.config.upsampling
    return [
        (e.cpu(), p[(step.wanted.start - first) * finer : (step.wanted.stop - first) * finer])
        for step, e, p in zip(steps, embeddings, posterior, strict=True)
    ]


def _slot(turn: Turn) -> int:
    return int(turn.speaker.removeprefix("speaker_"))
