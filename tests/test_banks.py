"""Banks of frames: the laws bite, what single banks promise, errors, files."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch

from attime.errors import AttimeError
from attime.laws.banks import LAWS
from attime.memory import chain
from attime.memory.banks import (
    ClipMemories,
    Entry,
    EvenSample,
    FrameBank,
    FrameClusters,
    FramePyramid,
    Kept,
    Latest,
    MemoryBridge,
    Reservoir,
    SceneEnds,
    Together,
    depth_scores,
    scene_cuts,
)
from attime.memory.contract import Traits
from attime.memory.named import find_policy

LAW = {law.name: law for law in LAWS}


@dataclass(frozen=True)
class Halves(FrameBank):
    """The last frame, and the mean of all before it: small, and with everything a bank needs."""

    traits: ClassVar[Traits] = Traits(acts=False, frames=True, merges=True)
    hidden: list[int] = field(default_factory=list)

    def take(self, parts, new):
        if "last" not in parts:
            return {"last": (new,)}
        [last], mean = parts["last"], parts.get("mean", ())
        old = mean[0] if mean else dataclasses.replace(last, weight=0.0)
        weight = old.weight + 1
        merged = dataclasses.replace(
            last,
            frame=old.frame + (last.frame - old.frame) / weight,
            when_s=old.when_s + (last.when_s - old.when_s) / weight,
            weight=weight,
        )
        return {"mean": (merged,), "last": (new,)}

    def budget(self, height, width):
        return 2 * height * width

    @classmethod
    def examples(cls) -> Sequence["Halves"]:
        return [cls()]


class LooksAtTheChunk(Halves):
    def write(self, kept, frames, when_s):
        return super().write(kept, frames - 1e-3 * frames.mean(0), when_s)


class ReadsTooMuch(Halves):
    def shown(self, kept):
        return [*super().shown(kept), *kept.parts["last"], *kept.parts["last"]]


class KeepsKeys(Halves):
    def take(self, parts, new):
        made = super().take(parts, new)
        [last], before = made["last"], parts.get("last")
        key = torch.zeros(0) if before is None else before[0].key
        return {**made, "last": (dataclasses.replace(last, key=torch.cat([key, new.frame[0, 0, :1]])),)}


class CountsAgain(Halves):
    def take(self, parts, new):
        torch.arange(10000 * new.number).sum()
        return super().take(parts, new)


class LastFirst(Halves):
    def entries(self, kept):
        return super().entries(kept)[::-1]


class ForgetsToCount(Halves):
    def take(self, parts, new):
        made = super().take(parts, new)
        return made | {
            "mean": tuple(dataclasses.replace(each, weight=each.weight * 0.99) for each in made.get("mean", ()))
        }


class WritesIntoEntries(Halves):
    def take(self, parts, new):
        made = super().take(parts, new)
        if "mean" in parts:
            parts["mean"][0].frame.copy_(made["mean"][0].frame)
        return made


class KeepsViews(Halves):
    def write(self, kept, frames, when_s):
        for place, at in enumerate(when_s):
            new = Entry(frame=frames[place], when_s=at, number=kept.seen)
            kept = dataclasses.replace(
                kept, seen=kept.seen + 1, last_s=at, dtype=frames.dtype, parts=self.take(kept.parts, new)
            )
        return kept


class ReadsOnce(Halves):
    def shown(self, kept):
        self.hidden.append(1)
        return super().shown(kept)

    def take(self, parts, new):
        return super().take(parts, dataclasses.replace(new, frame=new.frame + len(self.hidden)))


class HidesACount(Halves):
    def take(self, parts, new):
        self.hidden.append(1)
        return super().take(parts, dataclasses.replace(new, frame=new.frame * (1 + len(self.hidden) % 3)))


class AlwaysFloat(Halves):
    def read(self, kept):
        return super().read(dataclasses.replace(kept, dtype=torch.float32))


FAULTS = {
    LooksAtTheChunk: "any_chunking_of_frames_agrees",
    ReadsTooMuch: "it_reads_within_its_budget",
    KeepsKeys: "what_it_holds_stops_growing",
    CountsAgain: "writing_stays_as_cheap",
    LastFirst: "tokens_stand_in_order_of_time",
    ForgetsToCount: "weights_are_the_frames_seen",
    WritesIntoEntries: "the_past_ignores_later_frames",
    KeepsViews: "what_is_kept_is_its_own",
    ReadsOnce: "reading_changes_nothing",
    HidesACount: "nothing_is_hidden",
    AlwaysFloat: "the_dtype_of_frames_is_kept",
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_sound_bank_passes(law) -> None:
    assert law.applies(Halves())
    law.run(Halves())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_fault_is_caught(fault) -> None:
    with pytest.raises((AssertionError, RuntimeError)):
        LAW[FAULTS[fault]].run(fault())


def test_every_law_has_a_fault() -> None:
    assert set(FAULTS.values()) == set(LAW)


FRAMES = torch.randn(12, 4, 4, 6, generator=torch.Generator().manual_seed(3))


def test_a_pyramid_keeps_what_is_distinct_and_coarsens_what_is_not() -> None:
    bank = FramePyramid(frames=(3, 3, 3), cells=(4, 2, 1))
    odd = {0, 5}
    frames = FRAMES[[n + 1 if n in odd else 0 for n in range(20)]]
    kept = bank.write(bank.begin(), frames, range(20))
    sides = {entry.number: len(entry.frame) for entry in bank.entries(kept)}
    assert len(sides) == 9
    assert set(sides.values()) == {4, 2, 1}
    assert odd <= set(sides), "the distinct frames are still there"
    assert sides.get(19) == 4, "the latest frame is there, and fine"


def test_clusters_find_the_scenes_and_a_real_frame_of_each() -> None:
    bank = FrameClusters(count=3, cells=2, shown_fine=3, fine=4)
    scene = [0, 0, 1, 1, 1, 1, 2, 2, 0, 0, 0, 2]
    frames = FRAMES[scene] + 0.01 * FRAMES
    kept = bank.write(bank.begin(), frames, range(12))
    assert sorted(entry.weight for entry in kept.parts["means"]) == [3, 4, 5]
    assert sorted(scene[entry.number] for entry in kept.parts["real"]) == [0, 1, 2]
    for entry in kept.parts["real"]:
        torch.testing.assert_close(entry.frame, frames[entry.number])


def test_clusters_of_identical_frames_stay_finite() -> None:
    bank = FrameClusters(count=3, cells=2, shown_fine=1, fine=2)
    kept = bank.write(bank.begin(), torch.zeros(9, 4, 4, 6), range(9))
    assert bank.read(kept).tokens.isfinite().all()
    assert sum(entry.weight for entry in bank.entries(kept)) == 9


def test_an_even_sample_is_even_and_a_reservoir_is_fair() -> None:
    frames, times = torch.zeros(200, 1, 1, 2), range(200)
    even = EvenSample(frames=9)
    numbers = [entry.number for entry in even.entries(even.write(even.begin(), frames, times))]
    gaps = [after - before for before, after in itertools.pairwise(numbers)]
    assert numbers[0] == 0
    assert numbers[-1] == 199
    assert max(gaps) <= 4 * min(gaps[:-1])
    early = 0
    for seed in range(40):
        lot = Reservoir(frames=10, seed=seed)
        early += sum(entry.number < 100 for entry in lot.entries(lot.write(lot.begin(), frames, times)))
    assert 0.4 < early / 400 < 0.6


def test_scenes_end_where_they_do() -> None:
    looks = FRAMES.flatten(1)
    features = looks.repeat_interleave(5, 0) + 0.05 * torch.randn(60, looks.shape[1])
    assert scene_cuts(features, alpha=1.0).tolist() == [4, 9, 14, 19, 24, 29, 34, 39, 44, 49, 54]
    assert scene_cuts(features, count=3).numel() == 3
    similarity = torch.tensor([0.9, 0.95, 0.2, 0.5, 0.8, 0.7])
    expected = torch.tensor([0.05, 0.0, 1.35, 0.3, 0.0, 0.1])
    torch.testing.assert_close(depth_scores(similarity), expected)
    ends, cuts = SceneEnds(alpha=1.0), []
    for place, value in enumerate(torch.cosine_similarity(features[1:], features[:-1]).tolist()):
        ends, cut = ends.after(value)
        cuts += [place] if cut else []
    assert set(cuts) >= {14, 19, 24, 29, 34, 39, 44, 49, 54}


def test_a_question_chooses_clips_in_order_of_time() -> None:
    torch.manual_seed(0)
    bank = ClipMemories(6, heads=2, layers=1, frames=2, cells=2, tokens=3, chosen=2, clips=5, propagates=False)
    kept = bank.write(bank.begin(), FRAMES, range(12))
    assert len(kept.parts["clips"]) == 5
    key = kept.parts["clips"][1].key
    assert key is not None
    chosen = bank.select(kept, key.detach())
    assert kept.parts["clips"][1].number in [entry.number for entry in chosen]
    assert chosen[0].when_s < chosen[1].when_s
    with pytest.raises(AttimeError, match="dim=6"):
        bank.select(kept, torch.zeros(3))


def test_a_bridge_learns_and_reads_back() -> None:
    torch.manual_seed(0)
    bank = MemoryBridge(6, heads=2, tokens=2, frames=3, cells=2, memories=3)
    kept = bank.write(bank.begin(), FRAMES.repeat_interleave(4, 0)[:20], range(20))
    assert len(kept.parts["memories"]) >= 2
    bank.read(kept).tokens.pow(3).sum().backward()
    assert all(each.grad is not None for each in (bank.start, bank.embedding, bank.retriever.query.weight))


def test_what_is_kept_goes_to_disk_and_back(tmp_path) -> None:
    bank = Together(Latest(frames=2), FrameClusters(count=3, cells=2, shown_fine=1, fine=4))
    kept = bank.write(bank.begin(), FRAMES.bfloat16(), range(12))
    kept.save(tmp_path / "bank.safetensors")
    loaded = Kept.load(tmp_path / "bank.safetensors")
    assert all(torch.equal(one, two) for one, two in zip(bank.read(loaded), bank.read(kept), strict=True))
    (tmp_path / "other").write_text("no")
    with pytest.raises(AttimeError, match="holds no memory"):
        Kept.load(tmp_path / "other")


def test_mistakes_are_told() -> None:
    bank = Latest(frames=2)
    kept = bank.write(bank.begin(), FRAMES[:2], [0, 1])
    for wrong, said in (
        (lambda: bank.write(kept, FRAMES[:1], [0.5]), "in order"),
        (lambda: bank.write(kept, FRAMES[:1, ..., :3], [2]), "dim=6"),
        (lambda: bank.write(kept, FRAMES[:2], [2]), "one when_s for each"),
        (lambda: bank.read(bank.begin()), "seen no frame"),
        (lambda: Latest(frames=0), "frames >= 1"),
        (lambda: FramePyramid(frames=(2,), cells=(4, 2)), "for each level"),
        (lambda: Together(), "needs banks"),
        (lambda: chain(bank), "chain needs policies"),
        (lambda: find_policy("Latest(frames=2)"), "bank over frames"),
    ):
        with pytest.raises(AttimeError, match=said) as told:
            wrong()
        assert "\n" not in str(told.value)
