from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diarize.activity import arrival_order
from diarize.checkpoint import load_checkpoint, save_checkpoint
from diarize.config import load_config
from diarize.encoder.sortformer import (
    SortFormer,
    SortFormerConfig,
    by_arrival,
    sinusoidal_places,
)
from diarize.encoder.transformer import Transformer, TransformerConfig
from diarize.errors import ConfigError
from diarize.losses import LossConfig, layer_loss
from diarize.model import Diarizer, DiarizerConfig
from diarize.streaming import StreamingDiarizer

SIZES = {"width": 16, "inner": 24, "num_layers": 3, "num_heads": 2}
NUM_SLOTS = 3


def tiny(**changes: object) -> SortFormer:
    """Three narrow layers, ready to infer, their gates open unless said otherwise."""
    torch.manual_seed(0)
    config = SortFormerConfig(**({"gate": 1.0} | SIZES | changes))
    return SortFormer(config, NUM_SLOTS).eval()


@st.composite
def estimates(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits (B, T, S) and numbers of frames."""
    torch.manual_seed(draw(st.integers(0, 10_000)))
    items, frames, slots = (draw(st.integers(1, most)) for most in (3, 12, 5))
    lean = draw(st.sampled_from([-3.0, -1.0, 0.0]))
    return 2 * torch.randn(items, frames, slots) + lean, torch.randint(0, frames + 1, (items,))


@given(estimates())
@settings(deadline=None)
def test_columns_stand_in_order_of_arrival(drawn: tuple[Tensor, Tensor]) -> None:
    logits, num_frames = drawn
    ordered = by_arrival(logits, num_frames)
    for item, found, frames in zip(logits, ordered, num_frames, strict=True):
        # Above 0.5, where activity counts from 0.5 on: no logit drawn here is 0.
        order = arrival_order(item[:frames].sigmoid().numpy())
        assert torch.equal(found, item[:, order.copy()])
    assert torch.equal(by_arrival(ordered, num_frames), ordered)


def test_a_probability_of_one_half_is_absence_and_ties_keep_the_lower_column() -> None:
    logits = torch.tensor([[[0.0, 1.0, -1.0, 2.0], [1.0, 1.0, -1.0, 1.0]]])
    told = by_arrival(logits, torch.tensor([2]))
    assert torch.equal(told, logits[:, :, [1, 3, 0, 2]])


@given(estimates())
@settings(deadline=None)
def test_the_order_at_a_frame_needs_none_to_come(drawn: tuple[Tensor, Tensor]) -> None:
    logits, num_frames = drawn
    ordered = by_arrival(logits, num_frames, causal=True)
    for until in range(logits.shape[1]):
        known = by_arrival(logits[:, : until + 1], num_frames.clamp(max=until + 1))
        for row, frames in enumerate(num_frames.tolist()):
            if until < frames:
                assert torch.equal(ordered[row, until], known[row, until])


def test_no_frames_are_no_trouble() -> None:
    assert by_arrival(torch.zeros(2, 0, 3), torch.tensor([0, 0])).shape == (2, 0, 3)


def test_gradients_flow_through_the_values_alone() -> None:
    logits = torch.randn(1, 6, 3, requires_grad=True)
    weight = torch.randn(1, 6, 3)
    (by_arrival(logits, torch.tensor([6])) * weight).sum().backward()
    order = arrival_order(logits.detach()[0].sigmoid().numpy())
    expected = torch.empty_like(weight)
    expected[:, :, order.copy()] = weight
    assert torch.equal(logits.grad, expected)


@pytest.mark.parametrize("encoding", ["sinusoidal", "learned"])
@pytest.mark.parametrize("causal", [False, True])
def test_the_encoding_does_not_depend_on_the_order_of_estimates(
    encoding: str, causal: bool
) -> None:
    encoder, num_frames = tiny(encoding=encoding, causal=causal), torch.tensor([9, 7])
    logits = 3 * torch.randn(2, 9, NUM_SLOTS)
    logits[:, :, 0] = -1 - logits[:, :, 0].abs()  # one never comes
    logits[:, 0, 1:], logits[:, 1, 1:] = torch.tensor([1.0, -1.0]), torch.tensor([1.0, 1.0])
    expected = encoder.encode(logits, num_frames)
    sorted_first = encoder.encode(by_arrival(logits, num_frames, causal), num_frames)
    torch.testing.assert_close(sorted_first, expected)
    for order in permutations(range(NUM_SLOTS)):
        found = encoder.encode(logits[:, :, list(order)], num_frames)
        arrived = slice(1, None) if causal else slice(None)  # at 0 one is still to come
        torch.testing.assert_close(found[:, arrived], expected[:, arrived])


def test_who_is_silent_is_hardly_encoded_and_every_set_of_speakers_has_its_own() -> None:
    encoder, num_frames = tiny(), torch.tensor([9])
    sets = torch.tensor([[i >> slot & 1 for slot in range(NUM_SLOTS)] for i in (7, *range(8))])
    encoded = encoder.encode((20.0 * sets - 10)[None], num_frames)[0]
    size = encoded.square().mean(dim=1).sqrt()
    assert size[1] < 0.01 and (size[2:] > 0.8).all() and (size[2:] < 1.0).all()
    apart = torch.cdist(encoded[1:], encoded[1:]) + 10 * torch.eye(8)
    assert apart.min() > 0.3


def test_the_places_are_the_published_kernel() -> None:
    places = sinusoidal_places(4, 192)
    assert places.shape == (4, 192)
    assert places[1, 24] == pytest.approx(1.0)  # sin(2π · 2 · 24 / 192)
    torch.testing.assert_close(places @ places.T, 96 * torch.eye(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("positions", ["none", "sinusoidal", "rotary"])
@pytest.mark.parametrize("causal", [False, True])
def test_with_closed_gates_it_is_the_plain_transformer(
    pre_norm: bool, positions: str, causal: bool
) -> None:
    changes = {"pre_norm": pre_norm, "positions": positions, "causal": causal}
    encoder = tiny(gate=SortFormerConfig().gate, **changes)
    plain = Transformer(TransformerConfig(**SIZES, **changes)).eval()
    plain.load_state_dict(encoder.state_dict(), strict=False)
    embedding, num_frames = torch.randn(2, 9, 16), torch.tensor([9, 5])
    assert torch.equal(encoder(embedding, num_frames), plain(embedding, num_frames))
    supervised = tiny(encoding="none", **changes)
    assert torch.equal(supervised(embedding, num_frames), plain(embedding, num_frames))
    assert {"gates", "places"}.isdisjoint(supervised.state_dict())
    opened = tiny(**changes)(embedding, num_frames)
    assert not torch.allclose(opened, plain(embedding, num_frames), atol=1e-2)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_changes_nothing(pre_norm: bool, causal: bool) -> None:
    encoder = tiny(pre_norm=pre_norm, causal=causal)
    embedding, num_frames = torch.randn(4, 9, 16), torch.tensor([9, 5, 1, 0])
    many, layers = encoder.estimate(embedding, num_frames)
    assert many.isfinite().all() and [layer.shape for layer in layers] == [(4, 9, NUM_SLOTS)] * 2
    for row, frames in enumerate(num_frames):
        one, few = encoder.estimate(embedding[row : row + 1, :frames], num_frames[row : row + 1])
        torch.testing.assert_close(many[row, :frames], one[0])
        torch.testing.assert_close(layers[1][row, :frames], few[1][0])


@pytest.mark.parametrize("causal", [False, True])
def test_frames_that_are_asked_for_are_those_of_all(causal: bool) -> None:
    encoder = tiny(causal=causal)
    embedding, num_frames = torch.randn(2, 9, 16), torch.tensor([9, 5])
    every = encoder(embedding, num_frames)
    torch.testing.assert_close(encoder(embedding, num_frames, slice(3, 7)), every[:, 3:7])


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_causal_answer_needs_no_later_frame(pre_norm: bool) -> None:
    encoder = tiny(pre_norm=pre_norm, causal=True, num_layers=4)
    with torch.no_grad():
        for head in encoder.heads:
            head[1].weight *= 5  # speakers come and go
    embedding = torch.randn(1, 12, 16)
    whole, layers = encoder.estimate(embedding, torch.tensor([12]))
    assert len({tuple(row) for row in (layers[0][0] > 0).tolist()}) > 3
    for until in range(1, 13):
        known, _ = encoder.estimate(embedding[:, :until], torch.tensor([until]))
        torch.testing.assert_close(known, whole[:, :until])


def test_heads_stand_where_they_are_asked_for() -> None:
    assert SortFormerConfig(num_layers=7).estimating == [1, 2, 3, 4, 5, 6]
    assert SortFormerConfig(num_layers=7, estimate_every=3).estimating == [3, 6]
    assert SortFormerConfig(num_layers=6, estimate_every=3).estimating == [3]
    assert SortFormerConfig(num_layers=7, estimate_layers=[5, 2]).estimating == [2, 5]
    assert len(tiny(num_layers=6, estimate_every=2).heads) == 2
    assert len(tiny(num_layers=6, heads="shared").heads) == 1
    assert len(tiny(num_layers=6, heads="shared").gates) == 5


def test_temperature_sharpens_what_is_encoded() -> None:
    logits, num_frames = torch.full((1, 1, NUM_SLOTS), 0.5), torch.tensor([1])
    logits[0, 0, 1:] = -0.5
    sharp, sure = tiny(temperature=0.01), torch.sign(logits) * 50
    torch.testing.assert_close(sharp.encode(logits, num_frames), tiny().encode(sure, num_frames))


@pytest.mark.parametrize("heads", ["each", "shared"])
@pytest.mark.parametrize("encoding", ["sinusoidal", "learned"])
def test_gradients_reach_every_head_gate_and_place(heads: str, encoding: str) -> None:
    encoder = tiny(heads=heads, encoding=encoding, num_layers=4)
    embedding, num_frames = torch.randn(2, 9, 16), torch.tensor([9, 5])
    encoded, layers = encoder.estimate(embedding, num_frames)
    encoded.square().sum().backward(retain_graph=True)  # through the encodings
    reached = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert all((p.grad.abs() > 0).any() for p in encoder.heads.parameters())
    assert (encoder.gates.grad.abs() > 0).all()
    assert ("places" in reached) == (encoding == "learned")
    encoder.zero_grad()
    truth = (torch.rand(2, 9, NUM_SLOTS) < 0.4).float()
    layer_loss(layers, truth, num_frames, LossConfig()).backward()  # through the losses
    assert all((p.grad.abs() > 0).any() for p in encoder.heads.parameters())


@pytest.mark.parametrize("logit", [-4.0, -20.0, -200.0, 200.0])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_however_sure_layers_are(logit: float, precision: torch.dtype) -> None:
    encoder, num_frames = tiny(temperature=0.3), torch.tensor([6])
    logits = torch.full((1, 6, NUM_SLOTS), logit, requires_grad=True)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        encoded = encoder.encode(logits, num_frames)
    assert encoded.dtype == torch.float32  # whatever is computed around it
    encoded.sum().backward()
    assert logits.grad.isfinite().all()


def test_settings_that_mean_nothing_are_refused() -> None:
    for changes, message in (
        ({"encoding": "random"}, "encoding is 'random'"),
        ({"heads": "none"}, "heads is 'none'"),
        ({"num_layers": 1}, "num_layers is 1"),
        ({"temperature": 0.0}, "temperature is 0, but logits are divided by it"),
        ({"temperature": float("nan")}, "temperature is nan, but logits are divided by it"),
        ({"num_layers": 3, "estimate_layers": [1, 3]}, r"\[1, 3\], but with num_layers 3 each"),
        ({"num_layers": 3, "estimate_layers": [1, 1]}, r"\[1, 1\], but with num_layers 3 each"),
    ):
        with pytest.raises(ConfigError, match=message):
            SortFormerConfig(**changes)
    with pytest.raises(ConfigError, match="estimate_every: is 3, but with num_layers 3 no layer"):
        SortFormer(SortFormerConfig(num_layers=3, estimate_every=3), 4)


def diarizer(**changes: object) -> Diarizer:
    """A streaming model with this encoder."""
    front_end = {"width": 16, "num_layers": 1, "num_heads": 2, "subsampling_channels": 4}
    front_end |= {"mel": {"normalization": "none"}}
    config = {
        "front_end": {"_target_": "diarize.frontend.fastconformer.FastConformer"} | front_end,
        "encoder": {"_target_": "diarize.encoder.sortformer.SortFormer", "gate": 1.0} | SIZES,
        "num_slots": NUM_SLOTS,
    }
    torch.manual_seed(1)
    return Diarizer(load_config(DiarizerConfig, values=config | changes)).eval()


def test_it_is_an_encoder_by_configuration_and_layers_share_the_clock_of_the_output() -> None:
    model = diarizer(upsampling=2)
    assert isinstance(model.encoder, SortFormer) and model.config.encoder["gate"] == 1.0
    embedding, num_frames = model.embed(torch.randn(2, 16000), torch.tensor([16000, 9000]))
    logits, layers, _ = model.classify_layers(embedding, num_frames)
    assert [layer.shape for layer in layers] == [logits.shape] * 2
    torch.testing.assert_close(model(torch.zeros(1, 1600), torch.tensor([1600]))[0].isnan().sum(),
                               torch.tensor(0))  # fmt: skip


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    model = diarizer(sort_output=True)
    save_checkpoint(model, tmp_path / "model")
    again = load_checkpoint(tmp_path / "model").eval()
    waveform, num_samples = torch.randn(1, 16000), torch.tensor([16000])
    assert torch.equal(model(waveform, num_samples)[0], again(waveform, num_samples)[0])


def test_output_may_be_sorted() -> None:
    plain, model = diarizer(), diarizer(sort_output=True)
    with torch.no_grad():
        for each in (plain, model):
            each.head.output.weight *= 20
    waveform, num_samples = torch.randn(3, 32000), torch.tensor([32000, 9000, 20000])
    logits, num_frames = plain(waveform, num_samples)
    ordered, _ = model(waveform, num_samples)
    assert torch.equal(ordered, by_arrival(logits, num_frames))
    assert not torch.equal(ordered, logits)


@given(estimates())
@settings(deadline=None)
def test_behind_a_speaker_cache_slots_keep_their_speakers(drawn: tuple[Tensor, Tensor]) -> None:
    chunk, num_frames = drawn
    # A cache holds some frames of each known speaker, slot after slot, as `SpeakerCache` does.
    cache = (20 * torch.eye(chunk.shape[2]) - 10).repeat_interleave(2, dim=0)
    heard = torch.cat([cache.expand(len(chunk), -1, -1), chunk], dim=1)
    assert torch.equal(by_arrival(heard, num_frames + len(cache)), heard)


def test_sorting_the_output_of_a_causal_encoder_needs_no_later_frame() -> None:
    torch.manual_seed(0)
    plain = diarizer(sort_output=True)
    encoder = tiny(causal=True)
    model = Diarizer(replace(plain.config), plain.front_end, encoder).eval()
    with torch.no_grad():
        model.head.output.weight *= 20
    embedding = torch.randn(1, 12, 16)
    whole = model.classify(embedding, torch.tensor([12]))
    for until in range(1, 13):
        known = model.classify(embedding[:, :until], torch.tensor([until]))
        torch.testing.assert_close(known, whole[:, :until])


def test_streams_go_through_it_as_through_any_other() -> None:
    torch.manual_seed(0)
    model, samples = diarizer(), torch.randn(16000 * 6).numpy() / 10
    latency = "chunk=4,left=1,right=1,fifo=6,cache=12,update=4"
    whole = StreamingDiarizer(model, latency)
    stream = StreamingDiarizer(model, latency)
    answers = [whole.feed(samples), whole.finish()]
    pieces = [stream.feed(samples[i : i + 7001]) for i in range(0, len(samples), 7001)]
    pieces.append(stream.finish())
    found, expected = (torch.cat([torch.tensor(p) for p in parts]) for parts in (pieces, answers))
    assert found.shape == (75, NUM_SLOTS) and found.isfinite().all()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
