"""Sessions are what their turns say, the same for everybody who asks."""

import pickle
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mixing import CONVERSATION, ENDLESS, INDEPENDENT, SHORT, Make, covered, power, samples
from tones import PITCHES, SAMPLE_RATE, tone, write_corpus, write_lines, write_noise

from diarize.config import load_config
from diarize.corpus import Corpus
from diarize.errors import AudioError, ConfigError, ManifestError
from diarize.simulate import SimulationConfig, Simulator
from diarize.turns import merge

# ---- whoever asks, whenever


@pytest.mark.parametrize("style", [INDEPENDENT, CONVERSATION])
def test_a_session_is_the_same_in_any_order_and_process(simulator: Make, style: dict) -> None:
    one, other = simulator(seed=7, **style), pickle.loads(pickle.dumps(simulator(seed=7, **style)))
    first = [one.session(index) for index in (0, 1, 2)]
    again = [other.session(index) for index in (2, 1, 0)][::-1]
    for (waveform, turns), (same_waveform, same_turns) in zip(first, again, strict=True):
        assert np.array_equal(waveform, same_waveform)
        assert turns == same_turns


def test_no_two_indices_or_seeds_make_the_same(simulator: Make) -> None:
    made = [simulator(seed=seed, **SHORT).session(index) for seed in (0, 1) for index in range(4)]
    waveforms = {waveform.tobytes() for waveform, _ in made}
    drawn = {tuple((t.start, t.end) for t in turns) for _, turns in made}
    assert len(waveforms) == len(drawn) == 8


@pytest.mark.parametrize(
    ("style", "digest"),
    [
        (INDEPENDENT, 2946885771),
        (ENDLESS | {"sparse": 0.3}, 786769484),
        (CONVERSATION, 3322261656),
        (CONVERSATION | {"silence_ratio": 0.1, "overlap_ratio": 0.12}, 1976185843),
        (CONVERSATION | {"midst": 0.5, "sparse": 0.2}, 2132328781),
    ],
)
def test_sessions_are_those_that_results_were_measured_on(
    simulator: Make, style: dict, digest: int
) -> None:
    # Who draws others changes the test sets of recipes/mini, and what its RESULTS.md says.
    script = simulator(seed=3, **style, num_speakers=[1, 1, 2]).plan(range(20)).script
    columns = (np.ascontiguousarray(column).tobytes() for column in vars(script).values())
    assert zlib.crc32(b"".join(columns)) == digest


# ---- turns mean speech


@pytest.mark.parametrize("style", [INDEPENDENT, CONVERSATION, ENDLESS])
def test_there_is_sound_in_turns_and_silence_elsewhere(simulator: Make, style: dict) -> None:
    for index in range(4):
        waveform, turns = simulator(**style).session(index)
        assert waveform.dtype == np.float32 and np.abs(waveform).max() <= 1.0
        assert turns == sorted(turns, key=lambda t: (t.start, t.end, t.speaker))
        count = covered(turns, waveform.size)
        assert not waveform[count == 0].any()
        assert count.any()
        for turn in turns:
            assert power(waveform[samples(turn)]) > 1e-4


def test_a_turn_has_the_voice_of_its_speaker(simulator: Make) -> None:
    waveform, turns = simulator(**CONVERSATION, num_speakers=[0, 0, 1]).session(0)
    count = covered(turns, waveform.size)
    heard = set()
    for turn in turns:
        if (count[samples(turn)] == 1).all() and turn.duration > 0.3:
            spectrum = np.abs(np.fft.rfft(waveform[samples(turn)]))
            pitch = float(np.argmax(spectrum)) / turn.duration
            nearest = int(np.argmin([abs(pitch - known) for known in PITCHES]))
            assert turn.speaker == f"speaker_{nearest}"
            heard.add(turn.speaker)
    assert len(heard) == 3


def test_level_is_that_of_each_turn(simulator: Make) -> None:
    waveform, turns = simulator(**INDEPENDENT, num_speakers=[1], level=-30.0).session(0)
    for turn in turns[:-1]:  # the last may be cut by the end
        assert 10 * np.log10(power(waveform[samples(turn)])) == pytest.approx(-30.0, abs=0.1)


@pytest.mark.parametrize("style", [INDEPENDENT, CONVERSATION])
def test_duration_is_exact(simulator: Make, style: dict) -> None:
    for index in range(3):
        waveform, turns = simulator(**style | {"duration": 3.21}).session(index)
        assert waveform.size == round(3.21 * SAMPLE_RATE)
        assert max(turn.end for turn in turns) <= 3.21


def test_session_too_short_for_a_first_word_is_silent(simulator: Make) -> None:
    made = [
        simulator(**INDEPENDENT | {"silence": 5.0, "duration": 0.2}).session(i) for i in range(9)
    ]
    assert {waveform.size for waveform, _ in made} == {3200}
    assert any(not turns and not waveform.any() for waveform, turns in made)


@pytest.mark.parametrize("style", [CONVERSATION, ENDLESS])
def test_nobody_overlaps_himself(simulator: Make, style: dict) -> None:
    busy = {"overlap": 0.9, "hold": 0.1, "backchannel": 0.9, "pause": 0.2}
    for index in range(8):
        waveform, turns = simulator(**style | busy, num_speakers=[0, 0, 1]).session(index)
        assert merge(turns) == turns  # no two turns of one speaker touch
        count = covered(turns, waveform.size)
        assert count.max() <= 3


# ---- who


def test_numbers_of_speakers_follow_their_weights(simulator: Make) -> None:
    one_each = {"min_utterances": 1, "max_utterances": 1}
    maker = simulator(**ENDLESS | one_each, num_speakers=[1, 0, 3])
    counts = [len({turn.speaker for turn in maker.session(i)[1]}) for i in range(150)]
    assert set(counts) == {1, 3}
    assert np.mean(np.array(counts) == 3) == pytest.approx(0.75, abs=0.12)


def test_a_speaker_who_says_too_little_is_not_used(simulator: Make, speech: Corpus) -> None:
    shortened = speech.length.copy()
    shortened[speech.voice == 2] = 1600
    little = replace(speech, length=shortened)
    maker = Simulator(SimulationConfig(**INDEPENDENT, min_voice=0.5), little)
    assert maker.voices == ["speaker_0", "speaker_1", "speaker_3"]
    heard = {turn.speaker for i in range(20) for turn in maker.session(i)[1]}
    assert heard == set(maker.voices)


def test_each_speed_is_another_voice(tmp_path: Path) -> None:
    config = SimulationConfig(**INDEPENDENT, min_voice=0.5, speed=[0.9, 1.0, 1.0])
    maker = Simulator.from_manifests(config, write_corpus(tmp_path, 4, 3, 0.4), cache=tmp_path)
    assert maker.voices[:2] == ["speaker_0@0.9", "speaker_0"]
    assert len(maker.voices) == 8
    heard = {turn.speaker for i in range(30) for turn in maker.session(i)[1]}
    assert heard == set(maker.voices)


def test_utterances_repeat_only_when_all_were_used(simulator: Make) -> None:
    settings = ENDLESS | {"min_utterances": 3, "max_utterances": 3}
    for index in range(5):
        _, turns = simulator(**settings, num_speakers=[1]).session(index)
        assert sorted(round(turn.duration, 3) for turn in turns) == [0.4, 0.5, 0.6]


def test_sparse_sessions_hold_hardly_a_word(simulator: Make, noise: Corpus) -> None:
    for style in (INDEPENDENT, CONVERSATION):
        spoken, heard = {}, []
        for sparse in (0.0, 1.0):
            maker = simulator(noises=noise, **style, noise=1.0, sparse=sparse)
            made = [maker.session(index) for index in range(20)]
            spoken[sparse] = sum(turn.duration for _, turns in made for turn in turns)
            heard += [power(waveform) for waveform, turns in made if not turns]
        assert 0 < spoken[1.0] < 0.25 * spoken[0.0]
        # Where nobody speaks the noise is as loud as beside speech of the mean level, -26 dB.
        assert heard and all(10**-5.2 <= each <= 10**-3.0 for each in heard)


@pytest.mark.parametrize("style", [INDEPENDENT, CONVERSATION], ids=["independent", "conversation"])
def test_a_session_may_be_heard_from_its_midst_on(simulator: Make, style: dict) -> None:
    style = style | {"duration": 20.0, "min_utterances": 60, "max_utterances": 60}
    cut = 0
    for index in range(12):
        waveform, turns = simulator(**style, midst=1.0).session(index)
        assert waveform.size == 20 * SAMPLE_RATE
        speaks = covered(turns, waveform.size) > 0
        assert power(waveform[speaks]) > 0 and not waveform[~speaks].any()
        # A word that had begun before goes on from the first sample, and is no whole one.
        cut += any(turn.start == 0.0 and turn.duration not in (0.4, 0.5, 0.6) for turn in turns)
    assert cut >= 2
    begun = [simulator(**style).session(index)[1] for index in range(12)]
    assert not any(turn.start == 0.0 for turns in begun for turn in turns)


# ---- independent speakers


def test_silences_are_exponential_with_their_mean(simulator: Make) -> None:
    maker = simulator(**ENDLESS | {"silence": 2.0})
    silences, numbers = [], []
    for index in range(40):
        _, turns = maker.session(index)
        for speaker in {turn.speaker for turn in turns}:
            own = [turn for turn in turns if turn.speaker == speaker]
            ends = [0.0, *(turn.end for turn in own)]
            silences += [turn.start - end for turn, end in zip(own, ends, strict=False)]
            numbers.append(len(own))
    assert np.mean(silences) == pytest.approx(2.0, abs=0.2)
    assert np.std(silences) == pytest.approx(2.0, abs=0.3)
    assert np.median(silences) == pytest.approx(2.0 * np.log(2), abs=0.2)
    assert min(numbers) == 10 and max(numbers) == 20


def test_session_without_duration_ends_with_its_last_word(simulator: Make) -> None:
    waveform, turns = simulator(**ENDLESS).session(0)
    assert waveform.size == round(max(turn.end for turn in turns) * SAMPLE_RATE)


def test_packaged_settings_are_those_of_the_paper(root: Path) -> None:
    config = load_config(SimulationConfig, [root / "conf" / "simulate.yaml"])
    assert (config.independent_share, config.duration, config.silence) == (1.0, None, 2.0)
    assert (config.min_utterances, config.max_utterances) == (10, 20)


# ---- from manifests


def write_room(folder: Path, response: np.ndarray, **keys: float) -> Path:
    soundfile.write(folder / "room.wav", response, SAMPLE_RATE, "FLOAT")
    return write_lines(folder / "rir.jsonl", [{"audio_filepath": "room.wav"} | keys])


def test_manifests_name_speech_noise_and_rooms(tmp_path: Path) -> None:
    response = np.zeros((320, 2), dtype=np.float32)
    response[[90, 170], [0, 1]] = 1.0
    rooms = write_room(tmp_path, response, offset=0.005, duration=0.01)
    config = SimulationConfig(**INDEPENDENT, noise=0.5, reverberation=0.5)
    speech, noise = write_corpus(tmp_path), write_noise(tmp_path)
    maker = Simulator.from_manifests(config, speech, noise, rooms, 3, tmp_path / "cache")
    assert maker.voices == ["speaker_0", "speaker_1", "speaker_2"]
    assert maker.noise is not None and maker.noise.length.tolist() == [3 * SAMPLE_RATE]
    assert np.array_equal(maker.rooms[0], response[80:240])
    assert maker.seed == 3
    one = write_room(tmp_path, response, offset=0.005, duration=0.01, channel=1)
    maker = Simulator.from_manifests(config, speech, noise, one, 3, tmp_path / "cache")
    assert np.array_equal(maker.rooms[0], response[80:240, 1:])


def test_a_silent_room_is_refused(tmp_path: Path) -> None:
    rooms = write_room(tmp_path, np.eye(320, 3)[:, [0, 1, 1]] * [1, 1, 0])
    config = SimulationConfig(**INDEPENDENT, reverberation=0.5)
    with pytest.raises(ManifestError, match=r"rir\.jsonl:1: channel 2 of 3 is silent, but"):
        Simulator.from_manifests(config, write_corpus(tmp_path), rir=rooms, cache=tmp_path)


def test_a_room_that_cannot_be_read_is_named_by_its_line(tmp_path: Path) -> None:
    rooms = write_lines(tmp_path / "rir.jsonl", [{"audio_filepath": "gone.wav"}])
    config = SimulationConfig(**INDEPENDENT, reverberation=0.5)
    with pytest.raises(AudioError, match=r"rir\.jsonl:1: .*gone\.wav: cannot be read"):
        Simulator.from_manifests(config, write_corpus(tmp_path), rir=rooms, cache=tmp_path)


@pytest.mark.parametrize(("manifest", "name"), [("noise", "noise"), ("rir", "reverberation")])
def test_what_would_never_be_heard_is_refused(tmp_path: Path, manifest: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"x\.jsonl: has .*, but {name} is 0: .* Set {name}="):
        Simulator.from_manifests(SimulationConfig(), "speech.jsonl", **{manifest: "x.jsonl"})


# ---- mistakes


def test_an_unknown_fit_is_told_before_anything_is_decoded(tmp_path: Path) -> None:
    config = SimulationConfig(**CONVERSATION, turn_taking="party")
    with pytest.raises(ConfigError, match=r"party: is neither a file nor a setting by name"):
        Simulator.from_manifests(config, write_corpus(tmp_path), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_speakers": []}, r"num_speakers is \[\], but"),
        ({"num_speakers": [0, 0]}, r"num_speakers is \[0, 0\], but .* one must be positive"),
        ({"num_speakers": [1, -1]}, r"num_speakers is \[1, -1\], but .* no weight may be negative"),
        ({"duration": None}, r"duration is null and independent_share 0\.5, but"),
        (
            {"duration": None, "independent_share": 1.0, "midst": 0.5},
            r"duration is null and midst 0\.5, but",
        ),
        ({"duration": 0.0}, r"duration is 0, but it is at least 0\.1"),
        ({"hold": 1.5}, r"hold is 1\.5, but a share is from 0 to 1"),
        ({"noise": -0.1}, r"noise is -0\.1, but a share is from 0 to 1"),
        ({"silence": -1.0}, r"silence is -1, but it is at least 0"),
        ({"silence": float("nan")}, r"silence is nan, but it is at least 0"),
        ({"max_turn": 0.0}, r"max_turn is 0, but it is at least 0\.1"),
        ({"min_utterances": 0}, r"min_utterances is 0, but it is at least 1"),
        ({"min_utterances": 30}, r"max_utterances is 20, but min_utterances is 30"),
        ({"snr": [20.0, 5.0]}, r"snr is \[20\.0, 5\.0\], but a range has 2 ends, the lower first"),
        ({"overdrive": [6.0]}, r"overdrive is \[6\.0\], but a range has 2 ends, the lower first"),
        ({"silence_ratio": 0.1}, r"silence_ratio is 0\.1 and overlap_ratio None, but they are"),
        ({"silence_ratio": 1.2}, r"silence_ratio is 1\.2, but a share is from 0 to 1"),
        ({"speed": []}, r"speed is \[\], but it lists at least 1 speed"),
        ({"speed": [1.0, 0.0]}, r"speed is \[1\.0, 0\.0\], but .* all above 0"),
    ],
)
def test_settings_that_mean_nothing(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SimulationConfig(**settings)


def test_more_speakers_than_the_corpus_has(simulator: Make) -> None:
    message = (
        r"/utterances\.jsonl: has 4 speakers with at least 0\.5 s of speech, but .* for 5\. Add"
    )
    with pytest.raises(ConfigError, match=message):
        simulator(**SHORT, num_speakers=[0, 0, 0, 0, 1])
    message = r"utterances\.jsonl: has 0 speakers with at least 99 s of speech, but .* for 2\. Add"
    with pytest.raises(ConfigError, match=message):
        simulator(**SHORT, min_voice=99.0)


def test_seeds_are_not_negative(simulator: Make) -> None:
    with pytest.raises(ConfigError, match=r"seed is -1, but it is at least 0"):
        simulator(seed=-1, **SHORT)


def test_utterances_say_who_speaks(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(200.0, 1.0), SAMPLE_RATE)
    manifest = write_lines(tmp_path / "m.jsonl", [{"audio_filepath": "a.wav"}])
    with pytest.raises(ManifestError, match=r"m\.jsonl:1: has no 'speaker', but"):
        Simulator.from_manifests(SimulationConfig(), manifest, cache=tmp_path)
