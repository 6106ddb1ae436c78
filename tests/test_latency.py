"""Latencies by name and in frames."""

import pytest

from diarize.errors import ConfigError
from diarize.latency import LATENCIES, StreamingConfig, format_latency, parse_latency


def test_names_are_the_waits_of_their_settings() -> None:
    for name, config in LATENCIES.items():
        assert (config.chunk + config.right) * 0.08 == pytest.approx(float(name[:-1]))


def test_frames_are_given_by_name() -> None:
    assert parse_latency("chunk=6,right=7") == StreamingConfig(chunk=6, right=7)
    for config in LATENCIES.values():
        assert parse_latency(format_latency(config)) == config
    assert parse_latency("offline") is None


@pytest.mark.parametrize(
    ("latency", "message"),
    [
        ("2s", "latency is '2s', but it is offline, one of 30.4s, 10s, 1.04s, 0.32s, or frames"),
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
