"""The speaker cache against stored outputs of NeMo 3.0.0 (``shared/parity/README.md``)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diarize.cache import SpeakerCache, judge, keep
from diarize.latency import StreamingConfig

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("case", range(7))
def test_silence_and_compression_equal_nemo(case: int, shared: Path) -> None:
    stored = np.load(shared / "parity" / "nemo" / "units.npz")

    def of(name: str) -> torch.Tensor:
        return torch.as_tensor(stored[f"aosc{case}_{name}"])

    length, silence = of("par").tolist()
    config = StreamingConfig(cache=length, silence=silence)
    width, num_slots = of("emb").shape[2], of("preds").shape[2]
    for item in (0, 1, slice(0, 2)):  # each alone, and both together
        posterior, embedding = of("preds")[item], of("emb")[item]
        memory = SpeakerCache(config, width, num_slots)
        memory.silence, memory.num_silence = of("sil0")[item], of("cnt0")[item]
        memory._hear_silence(embedding, posterior)
        assert torch.equal(memory.num_silence, of("cnt1")[item])
        torch.testing.assert_close(memory.silence, of("sil1")[item], atol=1e-6, rtol=0)
        scores = judge(posterior, config)
        kept, kept_posterior = keep(embedding, posterior, scores, of("sil1")[item], config)
        torch.testing.assert_close(kept, of("out_emb")[item], atol=0, rtol=0)
        torch.testing.assert_close(kept_posterior, of("out_preds")[item], atol=0, rtol=0)
