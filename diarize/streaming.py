"""Live diarization: samples in as they come, posteriors out after a stated wait.

A streaming model hears a chunk with a little context, behind the frames that it remembers
(`diarize.cache`); what it answers for the chunk stands. Steps, and so results, do not depend on
how many samples are fed at a time.

F feature frames, M mel bins, D embedding width, S slots.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diarize.cache import SpeakerCache
from diarize.errors import AudioError, ConfigError
from diarize.frontend.log_mel import LogMel
from diarize.latency import KEYS, OFFLINE, parse_latency
from diarize.model import Diarizer

Waveform = NDArray[np.float32]


class StreamingDiarizer:
    """One stream of audio.

    Args:
        diarizer: a streaming model: its features are neither scaled nor normalised by what is
            yet to come.
        latency: see `parse_latency`.

    Attributes:
        wait: longest time from a sound to the answer for it, seconds, besides half a Fourier
            transform (16 ms) and computing.

    Raises:
        ConfigError: if the model or the latency cannot stream.
    """

    def __init__(self, diarizer: Diarizer, latency: str = "1.04s") -> None:
        mel = diarizer.front_end.mel.config
        if mel.normalization != "none" or mel.peak_scaling != "none":
            raise ConfigError(
                f"the model has mel.normalization {mel.normalization} and peak_scaling "
                f"{mel.peak_scaling}, but a stream needs none of either: they need the whole "
                f"recording. Take a streaming model, or latency {OFFLINE}."
            )
        config = parse_latency(latency)
        if config is None:
            raise ConfigError(
                f"latency is {OFFLINE}, but a stream has no end to wait for. Name another."
            )
        self._diarizer = diarizer.eval()
        self._config = config
        self._frames = torch.tensor([getattr(config, key) for key in KEYS])
        width = diarizer.front_end.embedding_dim
        self._memory = SpeakerCache(config, width, diarizer.num_slots)
        self._mel = _FeatureStream(diarizer.front_end.mel)
        self._per_frame = diarizer.grid.hop // mel.hop_samples
        self._features = torch.zeros(0, mel.num_mels)
        self._first = 0  # the row of the recording that stands first in _features
        self._answered = 0  # rows whose chunks are done
        self._ended = False
        self.wait = (config.chunk + config.right) * diarizer.grid.frame_shift

    def feed(self, samples: Waveform) -> Waveform:
        """Posteriors that these samples decide.

        Args:
            samples: (sample,), the next ones at 16 kHz, -1 to 1; any number.

        Returns:
            (frame, slot) float32, the next frames of 80 ms; often none.

        Raises:
            AudioError: if they are not one channel of finite numbers, or the stream has ended.
        """
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise AudioError(
                f"stream: the samples have shape {samples.shape}, or some are no numbers, but one "
                "channel of finite ones is expected. Look at what made them."
            )
        if self._ended:
            raise AudioError("stream: it has ended, but samples come. Begin another.")
        self._keep(self._mel.push(torch.tensor(samples)))
        return self._answer()

    def finish(self) -> Waveform:
        """The end: posteriors of the frames that are left, (frame, slot)."""
        if not self._ended:
            self._keep(self._mel.finish())
            self._ended = True
        return self._answer()

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
            "mean_silence": memory.mean_silence,
            "emphasised": mel.emphasised,
            "last_sample": mel.last_sample,
            "features": self._features,
            "latency": self._frames,
        }
        if memory.cache_posterior is not None:
            state["cache_posterior"] = memory.cache_posterior
        counts = [memory.num_silence, mel.num_samples, mel.num_frames]
        counts += [self._first, self._answered, int(self._ended)]
        return {name: tensor.clone() for name, tensor in state.items()} | {
            "counts": torch.tensor(counts)
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where another stream of the same model and latency stood.

        Raises:
            ConfigError: if it was another model's.
        """
        memory, mel = self._memory, self._mel
        width = state["cache"].shape[1], state["features"].shape[1]
        own = memory.cache.shape[1], self._features.shape[1]
        if width != own:
            raise ConfigError(
                f"the state has embeddings and features of widths {width}, but the model's are "
                f"{own}. Restore it with the model that it was saved from."
            )
        if not torch.equal(state["latency"], self._frames):
            theirs = state["latency"].tolist()
            raise ConfigError(
                f"the state has a latency of {theirs} frames ({', '.join(KEYS)}), but the stream "
                f"has {self._frames.tolist()}. Give both the same."
            )
        memory.cache, memory.fifo = state["cache"], state["fifo"]
        memory.cache_posterior = state.get("cache_posterior")
        memory.mean_silence = state["mean_silence"]
        mel.emphasised, mel.last_sample = state["emphasised"], state["last_sample"]
        self._features = state["features"]
        memory.num_silence, mel.num_samples, mel.num_frames, *own_counts = state["counts"].tolist()
        self._first, self._answered, ended = own_counts
        self._ended = bool(ended)

    def _keep(self, features: Tensor) -> None:
        self._features = torch.cat([self._features, features])

    @torch.inference_mode()
    def _answer(self) -> Waveform:
        """Run every step whose context has come."""
        config, step = self._config, self._per_frame
        answers = [np.zeros((0, self._diarizer.num_slots), dtype=np.float32)]
        while True:
            known = self._first + len(self._features)
            start, end = self._answered, self._answered + config.chunk * step
            if self._ended:
                if start >= known:
                    break
                end = min(end, known)
            elif end + config.right * step > known:
                break
            left = min(config.left * step, start)
            right = min(config.right * step, known - end)
            rows = self._features[start - left - self._first : end + right - self._first]
            answers.append(self._step(rows, left, right))
            self._answered = end
            spare = max(end - config.left * step - self._first, 0)
            self._features, self._first = self._features[spare:].clone(), self._first + spare
        return np.concatenate(answers)

    def _step(self, features: Tensor, left: int, right: int) -> Waveform:
        """Posteriors of one chunk.

        Args:
            features: (F, M), of the chunk and its context.
            left: rows before the chunk.
            right: rows after it.
        """
        diarizer, memory = self._diarizer, self._memory
        device = next(diarizer.parameters()).device
        num_rows = torch.tensor([len(features)], device=device)
        embedding, _ = diarizer.front_end.subsampling(features[None].to(device), num_rows)
        heard = torch.cat([memory.cache.to(device), memory.fifo.to(device), embedding[0]])[None]
        num_frames = torch.tensor([heard.shape[1]], device=device)
        encoded = diarizer.front_end.encode(heard, num_frames)
        posterior = diarizer.classify(encoded, num_frames)[0].float().sigmoid().cpu()
        before = left // self._per_frame
        end = embedding.shape[1] - -(-right // self._per_frame)
        known = len(memory)
        chunk = posterior[known + before : known + end]
        memory.remember(posterior[:known], embedding[0, before:end].float().cpu(), chunk)
        return chunk.numpy()


class _FeatureStream:
    """Log-mel energies of samples as they come: those of the whole recording.

    Attributes:
        emphasised: (sample,), pre-emphasised samples that frames to come will hear.
        last_sample: (1,), the last one as it came.
        num_samples: samples so far.
        num_frames: frames handed out so far.
    """

    def __init__(self, mel: LogMel) -> None:
        self._mel = mel
        # What a frame hears begins half a Fourier transform before its first sample.
        self.emphasised = torch.zeros(mel.config.num_fft // 2)
        self.last_sample = torch.zeros(1)
        self.num_samples = 0
        self.num_frames = 0

    def push(self, samples: Tensor) -> Tensor:
        """The frames that these samples complete, (F, M)."""
        if not len(samples):
            return torch.zeros(0, self._mel.config.num_mels)
        previous = torch.cat([self.last_sample, samples[:-1]])
        emphasised = samples - self._mel.config.pre_emphasis * previous
        self.emphasised = torch.cat([self.emphasised, emphasised])
        self.last_sample = samples[-1:].clone()
        self.num_samples += len(samples)
        half, hop = self._mel.config.num_fft // 2, self._mel.config.hop_samples
        complete = max((self.num_samples - half) // hop + 1, 0)
        return self._take(min(complete, self.num_samples // hop) - self.num_frames)

    def finish(self) -> Tensor:
        """The frames that hear silence after the last sample, (F, M)."""
        half = self._mel.config.num_fft // 2
        self.emphasised = torch.cat([self.emphasised, torch.zeros(half)])
        return self._take(self.num_samples // self._mel.config.hop_samples - self.num_frames)

    @torch.inference_mode()
    def _take(self, num_frames: int) -> Tensor:
        """The next frames; what no later one hears is forgotten."""
        config = self._mel.config
        if num_frames <= 0:
            return torch.zeros(0, config.num_mels)
        device = self._mel.window.device
        length = (num_frames - 1) * config.hop_samples + config.num_fft
        heard = self.emphasised[None, :length].to(device)
        energies = self._mel.energies(heard, num_frames)[0].cpu()
        self.emphasised = self.emphasised[num_frames * config.hop_samples :].clone()
        self.num_frames += num_frames
        return energies
