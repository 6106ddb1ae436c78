"""Posteriors to turns: drawings, the reference's own outputs, and a plain state machine."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diarize.errors import ConfigError
from diarize.files import CONF
from diarize.postprocess import Lanes, PostprocessConfig, load_postprocess, to_turns
from diarize.turns import Turn

SHIFT = 0.08
PRESET_OF_REFERENCE = {
    "v1_dh3": "v1_dihard3",
    "v1_ch": "v1_callhome",
    "v2_dh3": "v2_dihard3",
    "v2_ch": "v2_callhome",
}


def spans(
    values: list[float], config: PostprocessConfig, shift: float = SHIFT
) -> list[tuple[float, float]]:
    """Turns of one slot as pairs of times."""
    turns = to_turns(np.array(values)[:, None], shift, config)
    return [(t.start, t.end) for t in turns]


def test_speech_begins_above_onset_and_ends_below_offset() -> None:
    hysteresis = PostprocessConfig(onset=0.6, offset=0.4)
    # Frames of 1 s: equal to onset is not above it, equal to offset is not below it.
    values = [0.5, 0.6, 0.7, 0.5, 0.4, 0.3, 0.5, 0.9, 0.2]
    assert spans(values, hysteresis, 1.0) == [(2.0, 5.0), (7.0, 8.0)]


def test_open_speech_ends_with_the_last_step() -> None:
    # As the reference does: 10 ms short of the session.
    assert spans([1.0] * 375, PostprocessConfig()) == [(0.0, 29.99)]


def test_no_turn_leaves_the_session() -> None:
    padded = PostprocessConfig(pad_onset=0.2, pad_offset=0.2)
    assert spans([1.0] * 25, padded) == [(0.0, 2.0)]
    posterior = np.ones((25, 1))
    assert to_turns(posterior, SHIFT, padded, start=10.0)[0] == Turn(10.0, 12.0, "speaker_0", 1.0)
    cut = to_turns(posterior, SHIFT, padded, start=10.0, duration=1.95)
    assert (cut[0].start, cut[0].end) == (10.0, 11.95)


def test_padding_joins_turns_that_touch() -> None:
    values = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    # Gaps of 1 s and 2 s: 0.43 s + 0.57 s fill the first exactly.
    padded = PostprocessConfig(pad_onset=0.43, pad_offset=0.57)
    assert spans(values, padded, 1.0) == [(0.0, 5.57), (6.57, 8.57)]


def test_short_turns_are_dropped_before_short_gaps_are_filled() -> None:
    values = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    # The middle turn goes first, so that its two gaps are one of 3 s.
    both = PostprocessConfig(min_duration_on=2.0, min_duration_off=2.0)
    assert spans(values, both, 1.0) == [(0.0, 2.0), (5.0, 7.0)]
    # As long as the shortest is long enough; as long as the shortest gap stays a gap.
    gap = PostprocessConfig(min_duration_on=1.0, min_duration_off=1.0)
    assert spans(values, gap, 1.0) == [(0.0, 2.0), (3.0, 4.0), (5.0, 7.0)]
    filled = PostprocessConfig(min_duration_off=1.01)
    assert spans(values, filled, 1.0) == [(0.0, 7.0)]


def test_offset_above_onset_toggles_every_step() -> None:
    values = [0.0, 0.6, 0.0]
    toggling = PostprocessConfig(onset=0.5, offset=0.7)
    assert spans(values, toggling) == [(0.08, 0.09), (0.10, 0.11), (0.12, 0.13), (0.14, 0.15)]
    joined = PostprocessConfig(onset=0.5, offset=0.7, pad_offset=0.01)
    assert spans(values, joined) == [(0.08, 0.16)]


def test_times_are_rounded_as_times_of_the_recording() -> None:
    posterior = np.array([[0.0], [1.0], [0.0]])
    turn = to_turns(posterior, SHIFT, PostprocessConfig(), start=1.007)[0]
    assert (turn.start, turn.end) == (1.09, 1.17)  # 1.087 and 1.167


def test_confidence_is_the_mean_posterior_over_the_turn() -> None:
    posterior = np.array([[0.1], [0.9], [0.7], [0.1]])
    plain = to_turns(posterior, 1.0, PostprocessConfig())[0]
    assert plain.confidence == pytest.approx(0.8)
    padded = to_turns(posterior, 1.0, PostprocessConfig(pad_onset=0.5))[0]
    assert padded.confidence == pytest.approx((0.05 + 0.9 + 0.7) / 2.5)


def test_turns_of_all_slots_by_start() -> None:
    posterior = np.array([[0, 0, 1], [1, 0, 1], [0, 0, 0]])
    assert [(t.start, t.speaker) for t in to_turns(posterior, 1.0, PostprocessConfig())] == [
        (0.0, "speaker_2"),
        (1.0, "speaker_0"),
    ]


def test_nothing_spoken_and_no_frames() -> None:
    assert to_turns(np.zeros((5, 2)), SHIFT, PostprocessConfig()) == []
    assert to_turns(np.zeros((0, 2)), SHIFT, PostprocessConfig()) == []
    assert to_turns(np.zeros((5, 0)), SHIFT, PostprocessConfig()) == []


def test_what_is_no_posterior_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(5,\), but \(frame, slot\)"):
        to_turns(np.zeros(5), SHIFT, PostprocessConfig())
    with pytest.raises(ValueError, match=r"from -3.0 to 4.0, but it lies between 0 and 1"):
        to_turns(np.array([[-3.0], [4.0]]), SHIFT, PostprocessConfig())
    with pytest.raises(ValueError, match="NaN"):
        to_turns(np.array([[0.5], [np.nan]]), SHIFT, PostprocessConfig())


@pytest.mark.parametrize("case", [f"pp{i}" for i in range(4)])
@pytest.mark.parametrize("setting", ["default", *PRESET_OF_REFERENCE])
def test_equals_the_reference_implementation(shared: Path, case: str, setting: str) -> None:
    folder = shared / "parity" / "nemo"
    posterior = np.load(folder / "units.npz")[f"{case}_probs"]
    expected = json.loads((folder / "units.json").read_text())[f"{case}_{setting}"]["segments"]
    config = PostprocessConfig()
    if setting != "default":
        config = load_postprocess(PRESET_OF_REFERENCE[setting])
    turns = to_turns(posterior, SHIFT, config)
    session = round(len(posterior) * SHIFT, 2)
    for slot, segments in enumerate(expected):
        ours = [[t.start, t.end] for t in turns if t.speaker == f"speaker_{slot}"]
        # The reference pads beyond the end of the session; we stop there.
        assert ours == [[begin, min(end, session)] for begin, end in segments]


def state_machine(
    values: np.ndarray, repeat: int, config: PostprocessConfig
) -> list[tuple[int, int]]:
    """The rules of the module's docstring, one 10 ms step after the other, in whole ms."""
    ms = {name: round(value * 1000) for name, value in asdict(config).items()}
    steps = np.repeat(values.astype(np.float32), repeat)
    found, begin = [], None
    for i, value in enumerate(steps):
        if begin is None and value > np.float32(config.onset):
            begin = i
        elif begin is not None and value < np.float32(config.offset):
            found.append((begin, i))
            begin = None
    if begin is not None:
        found.append((begin, len(steps) - 1))
    padded = [(max(0, a * 10 - ms["pad_onset"]), b * 10 + ms["pad_offset"]) for a, b in found]
    joined: list[tuple[int, int]] = []
    for a, b in padded:
        if joined and joined[-1][1] >= a:
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((a, b))
    filled: list[tuple[int, int]] = []
    for a, b in joined:
        if b - a < ms["min_duration_on"]:
            continue
        if filled and a - filled[-1][1] < ms["min_duration_off"]:
            filled[-1] = (filled[-1][0], b)
        else:
            filled.append((a, b))
    end = len(steps) * 10
    return [(a, min(b, end)) for a, b in filled if min(b, end) > a]


centiseconds = st.integers(0, 30).map(lambda value: value / 100)
config_strategy = st.builds(
    PostprocessConfig,
    onset=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    offset=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    pad_onset=centiseconds,
    pad_offset=centiseconds,
    min_duration_on=centiseconds,
    min_duration_off=centiseconds,
)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from([0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0]), max_size=40),
    st.sampled_from([1, 2, 8]),
    config_strategy,
)
@example([0.6], 8, PostprocessConfig(onset=0.5, offset=0.7, min_duration_off=0.3))
def test_whole_arrays_equal_the_state_machine(
    values: list[float], repeat: int, config: PostprocessConfig
) -> None:
    expected = [(a / 1000, b / 1000) for a, b in state_machine(np.array(values), repeat, config)]
    assert spans(values, config, repeat / 100) == expected


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0]), max_size=12), max_size=5
    ),
    st.lists(config_strategy, min_size=1, max_size=3),
)
def test_lanes_are_cut_each_as_if_alone(
    columns: list[list[float]], configs: list[PostprocessConfig]
) -> None:
    arrays = [np.array(column, dtype=np.float32) for column in columns]
    firsts = [lane * 1_237_000 for lane in range(len(arrays))]
    lasts = [first + len(a) * 80_000 for first, a in zip(firsts, arrays, strict=True)]
    lanes = Lanes(arrays, SHIFT, firsts, lasts)
    for config in configs:  # one after the other, since thresholds are kept
        cut = lanes.cut(lanes.speech(config.onset, config.offset), config)
        for lane, (array, first) in enumerate(zip(arrays, firsts, strict=True)):
            own = cut.lanes == lane
            alone = to_turns(array[:, None], SHIFT, config, start=first / 1e6)
            assert [(t.start, t.end) for t in alone] == list(
                zip(cut.begins[own] / 1e6, cut.ends[own] / 1e6, strict=True)
            )


PRESETS = CONF / "postprocess"


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_loads(name: str) -> None:
    assert load_postprocess(name) == load_postprocess(PRESETS / f"{name}.yaml")


def test_there_are_presets() -> None:
    assert set(PRESET_OF_REFERENCE.values()) <= {path.stem for path in PRESETS.glob("*.yaml")}


def test_settings_may_stand_under_parameters(tmp_path: Path) -> None:
    path = tmp_path / "nemo.yaml"
    path.write_text("parameters:\n  onset: 0.6\n  min_duration_on: 1\n")
    assert load_postprocess(path) == PostprocessConfig(onset=0.6, min_duration_on=1.0)


def test_an_empty_file_holds_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert load_postprocess(path) == PostprocessConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onst: 0.5", r"bad\.yaml: onst is not a setting of PostprocessConfig\. Did you mean on"),
        ("colour: 0.5", r"colour is not a setting of PostprocessConfig\. It has: onset, offset"),
        ("onset: high", r"bad\.yaml: onset: Value 'high' of type 'str' could not be conv"),
        ("onset: true", r"bad\.yaml: onset: Value 'True' of type 'bool' could not be con"),
        ("onset: 1.4", r"bad\.yaml: onset is 1\.4, but a posterior lies"),
        ("pad_onset: -0.1", r"pad_onset is -0\.1, but it is a length of time"),
        ("min_duration_on: .inf", r"min_duration_on is inf, but it is a length of time"),
        ("parameters: {onset: 1.4}", r"bad\.yaml: onset is 1\.4, but a posterior lies"),
        ("parameters: 3", r"parameters is not a setting of PostprocessConfig"),
        ("- 1\n- 2", r"bad\.yaml: holds a list, but settings are 'key: value' lines"),
        ("onset: [", r"bad\.yaml: is not YAML"),
    ],
)
def test_faults_in_a_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_postprocess(path)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"v3_mars: is neither a file.*v1_callhome, v1_dihard3"):
        load_postprocess("v3_mars")
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read \(No such file"):
        load_postprocess(tmp_path / "gone.yaml")
