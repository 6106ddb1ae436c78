"""Latencies by name and in frames."""

import pytest

from diarize.errors import ConfigError
from diarize.latency import LATENCIES, StreamingConfig, format_latency, parse_latency


def spans(config: StreamingConfig, known: int, ended: bool) -> list[tuple[int, ...]]:
    """First, start, end and last row of every chunk, of rows by twos."""
    found, start = [], 0
    while (chunk := config.chunk_at(start, known, 2, ended)) is not None:
        found.append((chunk.first, chunk.start, chunk.end, chunk.last))
        start = chunk.end
    return found


def test_chunks_follow_one_another_with_their_context() -> None:
    config = StreamingConfig(chunk=3, left=1, right=2)
    assert spans(config, 15, ended=True) == [(0, 0, 6, 10), (4, 6, 12, 15), (10, 12, 15, 15)]
    # Until the context has come, a chunk waits.
    assert spans(config, 15, ended=False) == [(0, 0, 6, 10)]
    assert spans(config, 16, ended=False) == [(0, 0, 6, 10), (4, 6, 12, 16)]
    assert spans(config, 0, ended=True) == spans(config, 9, ended=False) == []
    last = config.chunk_at(12, 15, 2, ended=True)
    assert last is not None and (last.before, last.own) == (1, 2)
    assert [last.num_answers(finer) for finer in (1, 2)] == [2, 3]


def test_names_are_the_waits_of_their_settings() -> None:
    for name in LATENCIES:
        config = parse_latency(name)
        assert config is not None
        assert (config.chunk + config.right) * 0.08 == pytest.approx(float(name[:-1]))


def test_frames_are_given_by_name() -> None:
    assert parse_latency("chunk=6,right=7") == StreamingConfig(chunk=6, right=7)
    for settings in LATENCIES.values():
        config = parse_latency(settings)
        assert config is not None and format_latency(config) == settings
    assert parse_latency("offline") is None


def test_models_bring_names_of_their_own() -> None:
    named = {"default": "chunk=9,left=0,right=4,fifo=264", "offline": "chunk=340,right=40"}
    default = StreamingConfig(chunk=9, left=0, right=4, fifo=264)
    assert parse_latency("default", named) == default
    # What frames leave out is as in the default, what a name leaves out as for all models.
    assert parse_latency("chunk=3", named) == StreamingConfig(chunk=3, left=0, right=4, fifo=264)
    assert parse_latency("offline", named) == StreamingConfig(chunk=340, right=40)
    with pytest.raises(ConfigError, match="but the model has offline, default, or takes frames"):
        parse_latency("1.04s", named)


@pytest.mark.parametrize(
    ("latency", "message"),
    [
        ("2s", "latency is '2s', but the model has offline, 30.4s, 10s, 1.04s, 0.32s, or takes"),
        ("chunk=6,rigth=7", "latency is 'chunk=6,rigth=7', but"),
        ("chunk=1.5", "latency is 'chunk=1.5', but"),
        ("", "latency is '', but"),
        ("chunk=0", "chunk is 0, but it is at least 1"),
        ("update=0", "update is 0, but it is at least 1"),
    ],
)
def test_what_is_no_latency(latency: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_latency(latency)
