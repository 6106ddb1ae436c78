"""Whole batches sound as single sessions do, in rooms, in noise and over lines."""

from dataclasses import replace

import numpy as np
import pytest
from mixing import CONVERSATION, ENDLESS, INDEPENDENT, Make, power, samples
from tones import SAMPLE_RATE

from diarize.activity import arrival_order, from_turns
from diarize.corpus import Corpus
from diarize.frames import FrameGrid
from diarize.simulate.plan import Plan

# ---- whole batches


SHORTER = CONVERSATION | {"duration": 5.0}


FEW = ENDLESS | {"min_utterances": 1, "max_utterances": 4}


@pytest.mark.parametrize("style", [INDEPENDENT, SHORTER, FEW, SHORTER | {"midst": 1.0}])
def test_a_batch_holds_the_sessions_and_their_activity(
    simulator: Make, noise: Corpus, style: dict
) -> None:
    rooms = [np.random.default_rng(k).normal(size=(400 + k, 3)).astype(np.float32) for k in (0, 1)]
    sound = {"noise": 0.5, "reverberation": 0.5, "telephone": 0.2, "codec": 0.2, "clipping": 0.2}
    maker = simulator(seed=3, noises=noise, rooms=rooms, **style, **sound, num_speakers=[1, 1, 2])
    grid = FrameGrid(SAMPLE_RATE, 1280)
    plan = maker.plan(range(10, 18))
    mixture = maker.mix(plan, grid)
    for row, turns in enumerate(maker.turns(plan)):
        waveform, same_turns = maker.session(10 + row)
        length = int(mixture.num_samples[row])
        assert turns == same_turns and length == waveform.size
        assert mixture.waveform[row, :length].numpy() == pytest.approx(waveform, abs=1e-5)
        assert not mixture.waveform[row, length:].any()
        truth = from_turns(turns, grid, mixture.activity.shape[1], 3).matrix
        active = mixture.activity[row].numpy()
        assert np.array_equal(active[:, arrival_order(active)], truth)


def test_activity_is_where_each_speakers_own_track_has_energy(simulator: Make) -> None:
    maker = simulator(**CONVERSATION, num_speakers=[0, 0, 1])
    plan = maker.plan(range(6))
    active = maker.mix(plan, FrameGrid(SAMPLE_RATE, 160)).activity
    for talker in range(3):
        alone = plan.script.talker == talker
        events = ("session", "talker", "utterance", "first", "start", "length")
        own = {name: getattr(plan.script, name)[alone] for name in events}
        track = maker.mix(
            Plan(replace(plan.script, **own), plan.scene), FrameGrid(SAMPLE_RATE, 160)
        )
        energy = track.waveform[:, : 160 * (track.waveform.shape[1] // 160)]
        energy = energy.reshape(len(energy), -1, 160).square().sum(dim=2) > 1e-6
        assert (energy == (active[:, : energy.shape[1], talker] > 0)).float().mean() > 0.98


# ---- rooms, noise, lines


def test_noise_is_as_loud_as_asked(simulator: Make, noise: Corpus) -> None:
    settings = INDEPENDENT | {"noise": 1.0, "snr": [12.0, 12.0]}
    clean, turns = simulator(**settings).session(1)
    noisy, same_turns = simulator(noises=noise, **settings).session(1)
    assert turns == same_turns
    added = noisy.astype(np.float64) - clean
    assert 10 * np.log10(power(clean) / power(added)) == pytest.approx(12.0, abs=0.05)
    assert added[:1600].any() and added[-1600:].any()  # a short noise is repeated to the end


def test_ratios_of_noise_fill_their_range(simulator: Make, noise: Corpus) -> None:
    settings = INDEPENDENT | {"noise": 1.0, "snr": [5.0, 20.0], "duration": 1.0, "silence": 0.1}
    ratios = []
    for index in range(30):
        clean, _ = simulator(**settings).session(index)
        noisy, _ = simulator(noises=noise, **settings).session(index)
        ratios.append(10 * np.log10(power(clean) / power(noisy.astype(np.float64) - clean)))
    assert 4.9 < min(ratios) < 8.0 and 17.0 < max(ratios) < 20.1


def test_rooms_keep_the_timing(simulator: Make) -> None:
    late = np.zeros((2000, 3), dtype=np.float32)
    late[[900, 1000, 1100], [0, 1, 2]] = 0.5  # the direct path alone, after 56 ms and more
    settings = INDEPENDENT | {"reverberation": 1.0, "num_speakers": [0, 0, 1]}
    dry, turns = simulator(**settings).session(2)
    wet, same_turns = simulator(rooms=[late], **settings).session(2)
    assert turns == same_turns
    assert wet == pytest.approx(dry, abs=1e-5)


def test_a_room_adds_a_tail(simulator: Make) -> None:
    room = np.zeros((4000, 1), dtype=np.float32)
    room[[0, 3200], 0] = 1.0, 0.5  # an echo after 0.2 s
    settings = INDEPENDENT | {"reverberation": 1.0, "num_speakers": [1]}
    waveform, turns = simulator(rooms=[room], **settings).session(2)
    first = turns[0]
    assert not waveform[: samples(first).start - 1].round(6).any()
    assert waveform[samples(first).stop : samples(first).stop + 1600].round(6).any()


def test_a_telephone_passes_its_band_alone(simulator: Make) -> None:
    waveform, turns = simulator(**INDEPENDENT, telephone=1.0).session(0)
    spectrum = np.square(np.abs(np.fft.rfft(waveform)))
    frequency = np.fft.rfftfreq(waveform.size, 1 / SAMPLE_RATE)
    outside = (frequency < 300) | (frequency > 3400)
    assert turns and spectrum[outside].sum() < 1e-6 * spectrum.sum()


def test_a_codec_keeps_the_lower_frequencies(simulator: Make, noise: Corpus) -> None:
    settings = INDEPENDENT | {"noise": 1.0, "codec": 1.0, "codec_band": [4000.0, 6000.0]}
    maker = simulator(noises=noise, **settings)
    highest = []
    for index in range(12):
        spectrum = np.square(np.abs(np.fft.rfft(maker.session(index)[0])))
        frequency = np.linspace(0, SAMPLE_RATE / 2, len(spectrum))
        highest.append(frequency[spectrum > 1e-9 * spectrum.max()].max())
    assert 3900 < min(highest) and max(highest) < 6001 and max(highest) - min(highest) > 800


def test_loud_mixtures_are_scaled_and_not_clipped(simulator: Make) -> None:
    loud, _ = simulator(**INDEPENDENT, level=3.0).session(0)
    quiet, _ = simulator(**INDEPENDENT, level=-26.0).session(0)
    assert np.abs(loud).max() == pytest.approx(1.0)
    assert np.corrcoef(loud, quiet)[0, 1] == pytest.approx(1.0, abs=1e-6)
