"""Simulated sessions, whole batches at once; their truth is made of turns, or on a GPU by it.

B sessions, T frames, S talkers of the largest session.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from diarize.data.batch import Batch, Collate, Example
from diarize.data.sampling import Draw
from diarize.data.windows import FAR, Frames
from diarize.frames import FrameGrid
from diarize.simulate import Simulator
from diarize.simulate.plan import Plan


class Simulated:
    """Sessions that a simulator makes on demand, in one bucket.

    Args:
        simulator: what makes them, and where.
    """

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def on(self, device: torch.device) -> "Simulated":
        """The same sessions, made elsewhere."""
        return Simulated(self._simulator.on(device))

    def fits(self, device: torch.device) -> bool:
        """Whether a quarter of a GPU's memory holds what its sessions are made from."""
        simulator = self._simulator
        held = [simulator.corpus.samples] + [n.samples for n in [simulator.noise] if n is not None]
        share = torch.cuda.get_device_properties(device).total_memory // 4
        return sum(samples.nbytes for samples in held) <= share

    def batch(self, draw: Draw, collate: Collate) -> Batch:
        """The sessions of these numbers, where the simulator makes them."""
        if self._simulator.device.type != "cpu":
            return self.mixed(draw, collate)
        plan = self._simulator.plan(draw.numbers)
        sessions = zip(
            draw.numbers,
            self._simulator.sound(plan).numpy(),
            plan.script.num_samples,
            self._simulator.turns(plan),
            strict=True,
        )
        return collate([
            Example(f"simulated-{number}", waveform[:num_samples], turns)
            for number, waveform, num_samples, turns in sessions
        ])  # fmt: skip

    def mixed(self, draw: Draw, collate: Collate) -> Batch:
        """The same sessions, their truth made without a loop over what is said."""
        plan = self._simulator.plan(draw.numbers)
        mixture = self._simulator.mix(plan, collate.grid)
        order, count = _arrivals(plan, collate.grid)
        device = mixture.activity.device
        columns = torch.from_numpy(order).to(device)
        active = mixture.activity.gather(2, columns[:, None].expand_as(mixture.activity))
        num_slots = collate.num_slots
        activity = torch.nn.functional.pad(active, (0, max(num_slots - active.shape[2], 0)))
        voice = torch.full(active.shape[:2], -1, device=device)
        if collate.voices is not None:
            classes = _classes(plan, order, self._simulator.corpus.speakers, collate.voices)
            voice = _alone(active, torch.from_numpy(classes).to(device))
        num_frames = [collate.grid.num_frames(int(n)) for n in plan.script.num_samples]
        return Batch(
            mixture.waveform,
            mixture.num_samples,
            activity[:, :, :num_slots].contiguous(),
            torch.tensor(num_frames, device=device),
            voice,
            self._simulator.turns(plan),
            [None] * len(num_frames),
            int(count.sum()),
            int(np.maximum(count - num_slots, 0).sum()),
        )


def _arrivals(plan: Plan, grid: FrameGrid) -> tuple[Frames, Frames]:
    """(B, S) talkers in order of arrival, silent ones last; (B,) how many are heard.

    Who begin with the same sample stand in the order of the plan. It is read from there, since
    asking a GPU would wait for it.
    """
    script = plan.script
    first, begin = np.full(script.voice.shape, FAR), np.full(script.voice.shape, FAR)
    last = [grid.num_frames(int(n)) for n in script.num_samples]
    starts, ends = (
        (sample + grid.hop // 2) // grid.hop
        for sample in (script.start, script.start + script.length)
    )
    heard = np.minimum(ends, np.array(last)[script.session]) > starts
    np.minimum.at(first, (script.session[heard], script.talker[heard]), starts[heard])
    np.minimum.at(begin, (script.session, script.talker), script.start)
    return np.lexsort((begin, first)), (first < FAR).sum(axis=1)


def _classes(
    plan: Plan, order: Frames, speakers: tuple[str, ...], voices: Mapping[str, int]
) -> Frames:
    """(B, S) class of the voice of each column; -1 where it has none."""
    known = np.array([voices.get(speaker, -1) for speaker in speakers] + [-1])
    return np.asarray(np.take_along_axis(known[plan.script.voice], order, axis=1))


def _alone(active: Tensor, classes: Tensor) -> Tensor:
    """(B, T) class of whoever talks alone, -1 elsewhere."""
    who = classes.gather(1, active.argmax(dim=2))
    return torch.where(active.sum(dim=2) == 1, who, -1)
