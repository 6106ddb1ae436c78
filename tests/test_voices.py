"""The auxiliary loss: equal to its definition, and zero where there is nothing to tell apart."""

import math

import numpy as np
import pytest
import torch

from diarize.config import load_config
from diarize.errors import ConfigError
from diarize.voices import VoiceConfig, VoiceLoss


def definition(loss: VoiceLoss, embedding: np.ndarray, voice: np.ndarray) -> float:
    """Deng et al. 2019, eq. 3, over the mean embedding of each voice of each session."""
    means, classes = [], []
    for row in range(len(voice)):
        for label in sorted(set(voice[row]) - {-1}):
            means.append(embedding[row][voice[row] == label].mean(axis=0))
            classes.append(label)
    centred = (means - np.mean(means, axis=0)) / np.sqrt(np.var(means, axis=0) + 1e-5)
    weight = loss.weight.detach().double().numpy()
    total = 0.0
    for mean, label in zip(centred, classes, strict=True):
        cosine = weight @ mean / np.linalg.norm(weight, axis=1) / np.linalg.norm(mean)
        logits = loss.config.scale * cosine
        nearer = math.cos(math.acos(cosine[label]) + loss.config.margin)
        logits[label] = loss.config.scale * nearer
        total += np.log(np.exp(logits).sum()) - logits[label]
    return total / len(classes) + np.mean(np.mean(means, axis=0) ** 2)


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_loss_is_its_definition(margin: float) -> None:
    loss = VoiceLoss(6, 5, VoiceConfig(scale=8.0, margin=margin))
    embedding = torch.randn(3, 7, 6)
    voice = torch.randint(-1, 5, (3, 7))
    expected = definition(loss, embedding.double().numpy(), voice.numpy())
    assert loss(embedding, voice).item() == pytest.approx(expected, rel=1e-4)


def test_frames_of_several_or_no_speakers_do_not_matter() -> None:
    loss = VoiceLoss(6, 5, VoiceConfig())
    embedding = torch.randn(2, 4, 6)
    voice = torch.tensor([[0, -1, 0, 1], [-1, 3, 3, -1]])
    changed = torch.where((voice == -1)[:, :, None], 100.0, embedding)
    assert loss(embedding, voice).item() == pytest.approx(loss(changed, voice).item())


def test_a_margin_comes_by_and_by() -> None:
    embedding, voice = torch.randn(2, 5, 6), torch.randint(0, 5, (2, 5))
    loss = VoiceLoss(6, 5, VoiceConfig(margin=0.4, margin_ramp=[10, 30]))
    for step, margin in ((0, 0.0), (10, 0.0), (15, 0.1), (20, 0.2), (30, 0.4), (31, 0.4)):
        fixed = VoiceLoss(6, 5, VoiceConfig(margin=margin))
        fixed.load_state_dict(loss.state_dict())
        expected = fixed(embedding, voice).item()
        assert loss(embedding, voice, step).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("scale=0", r"scale is 0, but logits of 0 tell nothing\. Raise it"),
        ("margin=-0.1", r"margin is -0\.1, but it is at least 0"),
        ("margin=20", r"margin is 20, but it is in radians, below a right angle, 1\.57"),
        ("margin_ramp=[9, 3]", r"margin_ramp is \[9, 3\], but it is 2 steps, the earlier first"),
    ],
)
def test_mistakes_are_told(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(VoiceConfig, overrides=[setting])


@pytest.mark.parametrize("voice", [[[-1, -1]], [[2, 2]], [[-1, 2]]])
def test_fewer_than_two_voices_say_nothing(voice: list[list[int]]) -> None:
    loss = VoiceLoss(6, 5, VoiceConfig())
    embedding = torch.randn(1, 2, 6, requires_grad=True)
    value = loss(embedding, torch.tensor(voice))
    value.backward()
    assert value.item() == 0.0 and value.dtype == torch.float32
    # Every process of several must have every gradient.
    assert not embedding.grad.any() and not loss.weight.grad.any()


def test_one_speaker_of_two_sessions_is_two_voices() -> None:
    assert VoiceLoss(6, 5, VoiceConfig())(torch.randn(2, 1, 6), torch.tensor([[2], [2]])).item() > 0


def test_loss_is_float32_under_mixed_precision() -> None:
    loss = VoiceLoss(6, 5, VoiceConfig())
    embedding, voice = torch.randn(2, 4, 6), torch.tensor([[0, 0, 1, 1], [2, 2, -1, 3]])
    with torch.autocast("cpu", torch.bfloat16):
        low = loss(embedding.bfloat16(), voice)
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(loss(embedding, voice).item(), rel=0.02)


def test_voices_are_learned() -> None:
    torch.manual_seed(1)
    loss = VoiceLoss(8, 4, VoiceConfig())
    voices = torch.randn(4, 8)
    voices = voices - voices.mean(dim=0)
    optimizer = torch.optim.SGD(loss.parameters(), 0.5)
    for _ in range(60):
        voice = torch.arange(4).repeat(2, 1)
        value = loss(voices[voice] + 0.1 * torch.randn(2, 4, 8) + 0.2, voice)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value.item() < 0.04 + 0.1  # of which 0.2^2 is the constant's own
