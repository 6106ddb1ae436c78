"""What a model's work asks of any machine: operations, bytes held and moved, tensors made.

Nothing is computed. Weights and audio are torch's fake tensors, which have shapes and a device but
no numbers, so that a model of 117 million weights is counted in a second, and every machine counts
the same. What is whole numbers (lengths, places) is real, for the code decides by it.

- **operations**: two for each multiplication of a matrix product or a convolution; those of Fourier
  transforms and of element by element work are left out, as torch does.
- **bytes held**: of tensors that the work made, the most at one time; neither weights nor input,
  nor what a kernel needs within itself.
- **bytes moved**: what every operation reads and writes, views aside: a fused kernel moves less.
"""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from diarize.latency import StreamingConfig
from diarize.model import Diarizer
from diarize.streaming import StreamingDiarizer, _hear

CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""Which torch's own counter leaves out."""


class Counted(NamedTuple):
    """What some work asked for."""

    operations: int
    bytes_held: int
    bytes_moved: int
    tensors: int


def count(work: Callable[[], object]) -> Counted:
    """What this work asks for, once."""
    held = _Held()
    mapping = {CPU_ATTENTION: _attention}
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    with torch.inference_mode(), counter as operations, held:
        work()
    return Counted(operations.get_total_flops(), held.most, held.moved, held.made)


class Shapes:
    """A model on the CPU, of which only the shapes are left.

    Args:
        diarizer: whose weights are taken away.
    """

    def __init__(self, diarizer: Diarizer) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._diarizer = diarizer.eval()
        for module in diarizer.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    fake = self.tensor(*weight.shape, dtype=weight.dtype)
                    module._parameters[name] = nn.Parameter(fake, requires_grad=False)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = self.tensor(*buffer.shape, dtype=buffer.dtype)

    def tensor(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """One without numbers."""
        with self._mode:
            return torch.empty(shape, dtype=dtype, device="cpu")

    def at_once(self, seconds: float, batch: int = 1) -> Counted:
        """What posteriors of so many windows together ask for."""
        num_samples = round(seconds * self._diarizer.grid.sample_rate)
        waveform = self.tensor(batch, num_samples)
        lengths = torch.full((batch,), num_samples)
        return count(lambda: self._diarizer.posterior(waveform, lengths))

    def step(self, latency: str | StreamingConfig, batch: int = 1) -> Counted:
        """What a step of so many streams asks for, cache and queue full; features aside."""
        stream = StreamingDiarizer(self._diarizer, latency, with_turns=False)
        config, state = stream._config, stream.state_dict()
        rows, width = stream._per_frame, state["cache"].shape[1]
        heard = (config.left + config.chunk + config.right) * rows
        state["cache"] = self.tensor(config.cache, width)
        state["cache_posterior"] = torch.zeros(config.cache, self._diarizer.num_slots)
        state["fifo"] = self.tensor(config.fifo, width)
        state["features"] = self.tensor(heard, state["features"].shape[1])
        # Silence heard; samples and frames fed; first row kept, rows answered; not ended.
        state["counts"] = torch.tensor([0, 0, 0, 0, config.left * rows, 0])
        stream.load_state_dict(state)
        step = stream._next()
        assert step is not None
        return count(lambda: _hear(self._diarizer, [step] * batch))


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Operations of attention, of shapes."""
    return sdpa_flop_count(query, key, value)


class _Held(TorchDispatchMode):
    """Follows storages from the operation that made them until nobody has them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = self.moved = self.made = 0
        self._living: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        known = {each.untyped_storage()._cdata for each in given}
        found = function(*args, **kwargs)
        results = [each for each in tree_leaves(found) if isinstance(each, Tensor)]
        for result in results:
            self._follow(result, known)
        if not function.is_view:
            self.moved += sum(each.numel() * each.itemsize for each in (*given, *results))
        return found

    def _follow(self, result: Tensor, known: set[int]) -> None:
        storage = result.untyped_storage()
        place = storage._cdata
        if place in known or place in self._living:
            return
        size = storage.nbytes()
        self._living.add(place)
        self.made += 1
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._living.discard(place)
        self.now -= size
