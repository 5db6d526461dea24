"""Laws of the tasks room: truth scores best, chance is chance, nothing is dropped, and time matters where it is said to.

Those of quizzes stand in `attime.laws.quizzes`.
"""

import json
import pickle
from dataclasses import replace

import torch
from torch import Tensor

from attime.laws.contract import Law
from attime.laws.quizzes import QUIZ_LAWS
from attime.tasks.contract import Batch, Predictor, Task, Tokens, Values

__all__ = ["LAWS"]

SPLITS = ("valid", "test")


def truth_scores_best(task: Task) -> None:
    """The oracle beats chance, and no floor scores better than it, in every metric and held-out split."""
    for split in SPLITS:
        best = task.score(task.oracle, split)
        rivals = {name: task.score(floor, split) for name, floor in task.floors().items()}
        assert rivals, "a task needs floors"
        for metric in task.metrics:
            sign = 1.0 if metric.better == "higher" else -1.0
            for name, scores in rivals.items():
                assert sign * (best[metric.name] - scores[metric.name]) >= 0, (
                    f"{name} has {scores[metric.name]} {metric.name} on {split}, the oracle {best[metric.name]}"
                )
    chance, best = task.chance(), task.score(task.oracle)
    for metric in task.metrics:
        sign = 1.0 if metric.better == "higher" else -1.0
        assert sign * (best[metric.name] - chance[metric.name]) > 0, (
            f"the oracle is no better than chance in {metric.name}"
        )


def chance_is_as_stated(task: Task) -> None:
    """Equal logits, or zeros for values, score what `chance` says."""
    stated, found = task.chance(), task.score(lambda batch: torch.zeros(_shape(task, batch)))
    assert set(stated) == {metric.name for metric in task.metrics}
    for name, value in stated.items():
        assert abs(found[name] - value) <= 1e-5 * max(1.0, abs(value)), f"{name}: stated {value}, found {found[name]}"


def same_seed_same_batches(task: Task) -> None:
    """A seed fixes the order of training; another seed gives another; batches have the rows that were asked for."""

    def first(seed: int) -> list[Batch]:
        batches = task.train(seed=seed, batch=5)
        return [next(batches) for _ in range(4)]

    ours, again, other = first(0), first(0), first(1)
    for a, b in zip(ours, again, strict=True):
        assert a.inputs.shape[0] == 5, f"asked for 5 rows, got {a.inputs.shape[0]}"
        assert torch.equal(a.inputs, b.inputs), "the same seed gave other inputs"
        assert torch.equal(a.targets, b.targets), "the same seed gave other targets"
        assert torch.equal(a.scored, b.scored), "the same seed gave other places"
    assert any(
        a.inputs.shape != b.inputs.shape or not torch.equal(a.inputs, b.inputs)
        for a, b in zip(ours, other, strict=True)
    )


def every_sample_counts(task: Task) -> None:
    """A held-out split has the same targets, and predictors the same scores, whatever the batch size."""
    predictors = {**task.floors(), "oracle": task.oracle}
    for split in SPLITS:
        counts = {size: sum(len(batch.targets) for batch in task.split(split, batch=size)) for size in (1, 7, 32)}
        assert len(set(counts.values())) == 1, f"{split} has {counts} targets by batch size"
        for name, predict in predictors.items():
            whole = task.score(predict, split, batch=32)
            for size in (1, 7):
                for metric, value in task.score(predict, split, batch=size).items():
                    assert abs(value - whole[metric]) <= 1e-5 * max(1.0, abs(value)), (
                        f"{name} has {value} {metric} in batches of {size} and {whole[metric]} in batches of 32"
                    )
        rows = [batch.rows for batch in task.split(split, batch=7)]
        known = [each for each in rows if each is not None]
        assert len(known) in (0, len(rows)), "some batches say which samples they hold and some do not"
        if known:
            numbers = torch.cat(known)
            assert len(numbers.unique()) == len(numbers), "a sample comes twice"


def batches_fit_the_space(task: Task) -> None:
    """Inputs, targets, places and what floors and oracle give have the sizes that the space and the places ask for."""
    training = task.train(seed=0, batch=4)
    held_out = [batch for split in SPLITS for batch in task.split(split, batch=16)]
    for batch in (next(training), next(training), *held_out):
        rows, time = batch.inputs.shape[:2]
        places = int(batch.scored.sum())
        assert batch.scored.shape == (rows, time)
        assert len(batch.targets) == places > 0, f"{len(batch.targets)} targets for {places} scored places"
        if batch.valid is not None:
            assert not bool((batch.scored & ~batch.valid).any()), "a place in the padding is scored"
        if batch.when_s is not None:
            assert batch.when_s.shape == (rows, time)
            assert bool((batch.when_s.diff(dim=1) >= 0).all()), "time runs backwards"
        if isinstance(task.space, Tokens):
            assert batch.inputs.dtype == batch.targets.dtype == torch.long
            for tokens in (batch.inputs, batch.targets):
                assert 0 <= int(tokens.min()) <= int(tokens.max()) < task.space.vocabulary
        else:
            assert batch.inputs.dtype == batch.targets.dtype == torch.float32
            assert batch.inputs.shape[2] == task.space.channels
            assert tuple(batch.targets.shape) == _shape(task, batch)
    for batch in held_out[:3]:
        for name, predict in {**task.floors(), "oracle": task.oracle}.items():
            outputs = predict(batch)
            assert tuple(outputs.shape) == _shape(task, batch), f"{name} gives outputs of sizes {tuple(outputs.shape)}"
            assert not bool(outputs.isnan().any()), f"{name} gives NaN"


def shuffled_time_hurts(task: Task) -> None:
    """Some floor, or the oracle, loses a tenth of what it knows above chance when the inputs are shuffled in time."""
    metric = task.metrics[0]
    sign = 1.0 if metric.better == "higher" else -1.0
    chance = task.chance()[metric.name]
    losses = {}
    for name, predict in {**task.floors(), "oracle": task.oracle}.items():
        known = sign * (task.score(predict)[metric.name] - chance)
        left = sign * (task.score(_after_shuffling(predict))[metric.name] - chance)
        losses[name] = (known - left) / known if known > 0 else 0.0
    assert max(losses.values()) > 0.1, f"shuffling time costs {losses} of what is known; do not claim needs_time=True"


def loss_teaches(task: Task) -> None:
    """The loss is finite with a gradient, the truth has a lower one than no idea, and a step down it is a step down."""
    batch = next(task.train(seed=0, batch=6))
    outputs = torch.randn(_shape(task, batch), generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = task.loss(outputs, batch)
    assert loss.shape == (), f"the loss has sizes {tuple(loss.shape)}"
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert bool(loss.isfinite()), "the loss is not finite"
    assert bool(gradient.isfinite().all()), "the gradient of the loss is not finite"
    assert bool(gradient.abs().sum() > 0), "the loss has no gradient"
    step = 1e-2 * float(outputs.detach().norm() / gradient.norm())
    assert task.loss(outputs.detach() - step * gradient, batch) < loss, "a small step down the gradient raises the loss"
    perfect, blank = task.loss(task.oracle(batch), batch), task.loss(torch.zeros_like(outputs), batch)
    assert perfect < blank, f"the truth has a loss of {float(perfect)}, no idea one of {float(blank)}"


def the_object_is_the_protocol(task: Task) -> None:
    """A task has a name in one word, says how to read raw data, survives a pickle, and does not change by use."""
    assert task.protocol, "a protocol needs a name"
    assert " " not in task.protocol, f"{task.protocol!r} has spaces"
    json.dumps(task.reading())
    before = pickle.dumps(task)
    task.score(next(iter(task.floors().values())))
    assert pickle.dumps(task) == before, "using the task changed it"
    twin = pickle.loads(before)
    assert (twin.protocol, twin.space) == (task.protocol, task.space)
    ours, theirs = (next(each.train(seed=3, batch=4)) for each in (task, twin))
    assert torch.equal(ours.inputs, theirs.inputs), "a copy trains on other batches"


LAWS = (
    Law(truth_scores_best, needs=("batches",)),
    Law(chance_is_as_stated, needs=("batches",)),
    Law(same_seed_same_batches, needs=("batches",)),
    Law(every_sample_counts, needs=("batches",)),
    Law(batches_fit_the_space, needs=("batches",)),
    Law(shuffled_time_hurts, needs=("batches", "needs_time")),
    Law(loss_teaches, needs=("batches",)),
    Law(the_object_is_the_protocol, needs=("batches",)),
    *QUIZ_LAWS,
)


def _shape(task: Task, batch: Batch) -> tuple[int, ...]:
    places, space = int(batch.scored.sum()), task.space
    if isinstance(space, Values):
        return (places, space.horizon, space.channels)
    return (places, space.vocabulary)


def _after_shuffling(predict: Predictor) -> Predictor:
    """The predictor on inputs whose valid places were shuffled in each row; everything else stays."""
    generator = torch.Generator().manual_seed(0)

    def shuffled(batch: Batch) -> Tensor:
        rows, time = batch.inputs.shape[:2]
        padding = torch.zeros(rows, time) if batch.valid is None else 2.0 * ~batch.valid
        places = (padding + torch.arange(time) / time).argsort(dim=1)
        mixed = (padding + torch.rand(rows, time, generator=generator)).argsort(dim=1)
        source = torch.zeros(rows, time, dtype=torch.long).scatter_(1, places, mixed)
        return predict(replace(batch, inputs=batch.inputs[torch.arange(rows)[:, None], source]))

    return shuffled
