"""The shipped language models: on unseen source and fresh draws they do what their cards say."""

import pytest
import torch

from attime.errors import AttimeError
from attime.streams.text import standard_library

pytest.importorskip("transformers")

from attime.zoo import load
from attime.zoo.descend import descend
from attime.zoo.recall import KINDS, NEEDLE, PASSAGE, RECALL, Recaller, passages
from attime.zoo.store import SHIPPED
from attime.zoo.text import LENGTH, Bytes

SEED = 2_000_003


@pytest.fixture(scope="module")
def reader() -> Bytes:
    found = load("bytes")
    assert isinstance(found, Bytes)
    return found


@pytest.fixture(scope="module")
def reader_numbers(reader: Bytes) -> dict[str, float]:
    return reader.measure(seed=SEED)


@pytest.fixture(scope="module")
def recaller() -> Recaller:
    if not (SHIPPED / "recall.safetensors").is_file():
        pytest.skip("the recall model is not trained yet")
    found = load("recall")
    assert isinstance(found, Recaller)
    return found


@pytest.fixture(scope="module")
def recaller_numbers(recaller: Recaller) -> dict[str, float]:
    return recaller.measure(seed=SEED)


@pytest.mark.parametrize("goal", Bytes.goals, ids=str)
def test_bytes_meets_its_goals_on_fresh_windows(goal, reader_numbers: dict[str, float]) -> None:
    assert goal.met(reader_numbers), f"{goal}: got {reader_numbers[goal.metric]}"


@pytest.mark.parametrize("goal", Recaller.goals, ids=str)
def test_recall_meets_its_goals_on_fresh_draws(goal, recaller_numbers: dict[str, float]) -> None:
    assert goal.met(recaller_numbers), f"{goal}: got {recaller_numbers[goal.metric]}"


def test_cards_tell_what_was_measured(
    reader: Bytes, reader_numbers: dict[str, float], recaller: Recaller, recaller_numbers: dict[str, float]
) -> None:
    for made, numbers in ((reader, reader_numbers), (recaller, recaller_numbers)):
        assert made.card["met"]
        assert made.card["steps"] == made.steps
        assert made.card["parameters"] == made.parameters
        assert set(made.card["numbers"]) == set(numbers)


def test_source_is_likelier_than_the_same_bytes_in_disorder(reader: Bytes) -> None:
    source = standard_library().test[:2000]
    disorder = source[torch.randperm(len(source)).numpy()]
    assert reader.nats(source) + 2 < reader.nats(disorder)
    assert reader.nats(source.tobytes()) == reader.nats(source.tobytes().decode())


def test_writing_depends_on_the_seed_alone_and_not_at_all_when_greedy(reader: Bytes) -> None:
    prompt = "import os\n\n\ndef read"
    assert reader.write(prompt, length=40, seed=1) == reader.write(prompt, length=40, seed=1)
    assert reader.write(prompt, length=40, seed=1) != reader.write(prompt, length=40, seed=2)
    assert reader.write(prompt, length=40, temperature=0, seed=1) == reader.write(prompt, length=40, temperature=0)


def test_the_cache_changes_nothing(reader: Bytes) -> None:
    prompt = "class Reader:\n    def __init__(self, path):\n        self."
    tokens = torch.tensor([list(prompt.encode())])
    with torch.no_grad():
        for _ in range(30):
            tokens = torch.cat([tokens, reader.model(input_ids=tokens).logits[:, -1:].argmax(-1)], dim=1)
    assert (prompt + reader.write(prompt, length=30, temperature=0)).encode() == bytes(tokens[0].tolist())


def test_it_writes_on_past_its_training_length(reader: Bytes) -> None:
    written = reader.write("def f(x):\n" * 40, length=LENGTH + 50, temperature=0.5)
    assert len(written.encode()) >= LENGTH + 50
    assert max(len(line) for line in written.splitlines()) < 200


@pytest.mark.parametrize(
    "call",
    [
        lambda reader: reader.write(""),
        lambda reader: reader.write("x", length=0),
        lambda reader: reader.write("x", temperature=-1.0),
        lambda reader: reader.nats(b""),
        lambda reader: reader.nats("x"),
    ],
)
def test_bytes_says_what_it_needs(call, reader: Bytes) -> None:
    with pytest.raises(AttimeError, match="needs"):
        call(reader)


@pytest.mark.parametrize("length", [128, 256, 512])
def test_passages_go_on_as_they_did_before(length: int) -> None:
    batch = next(passages(seed=SEED, batch=5, length=length))
    assert batch.inputs.shape == (5, length)
    row, place = batch.scored.nonzero(as_tuple=True)
    before = (batch.inputs[row] == batch.inputs[row, place][:, None]).int().argmax(1)
    assert (batch.inputs[row, before + 1] == batch.targets).all()
    assert (before < place).all()
    assert len((place - before).unique()) > 5, "a fixed distance would need no looking"


def test_it_recalls_in_the_scores_of_the_tasks_themselves(recaller: Recaller) -> None:
    for task in (RECALL, NEEDLE):
        batch = next(task.train(seed=SEED + 1, batch=100))
        total, count = task.tally(recaller.predict(batch), batch)["accuracy"]
        assert total / count >= 0.98
        assert total / count > 2 * max(
            task.tally(floor(batch), batch)["accuracy"][0] / count for floor in task.floors().values()
        )


def test_it_answers_with_whole_passages(recaller: Recaller) -> None:
    inputs = next(passages(seed=SEED + 2, batch=20)).inputs
    start = inputs.shape[1] // 2 + 3 * PASSAGE
    said = recaller.answer(inputs[:, : start + 1], length=PASSAGE - 1)
    assert (said == inputs[:, start + 1 : start + PASSAGE]).float().mean() > 0.97


def test_without_the_pairs_there_is_nothing_to_recall(recaller: Recaller) -> None:
    batch = next(NEEDLE.train(seed=SEED + 3, batch=200))
    hidden = torch.where(batch.inputs == batch.inputs[:, -1:], KINDS - 1, batch.inputs)
    hidden[:, -1] = batch.inputs[:, -1]
    assert (recaller.answer(batch.inputs)[:, 0] == batch.targets).float().mean() > 0.97
    assert (recaller.answer(hidden)[:, 0] == batch.targets).float().mean() < 0.5


@pytest.mark.parametrize(
    ("inputs", "length"),
    [
        (torch.zeros(2, 0, dtype=torch.long), 1),
        (torch.zeros(3, dtype=torch.long), 1),
        (torch.full((1, 4), KINDS), 1),
        (torch.zeros(1, 4, dtype=torch.long), 0),
    ],
)
def test_recall_says_what_it_needs(inputs: torch.Tensor, length: int, recaller: Recaller) -> None:
    with pytest.raises(AttimeError, match="needs tokens"):
        recaller.answer(inputs, length=length)


def test_one_head_fetches_at_any_length(recaller: Recaller) -> None:
    best = set[int]()
    for length in (128, 512):
        _, retrieval = recaller.heads(next(passages(seed=SEED, batch=8, length=length)))
        assert (retrieval > 0.1).float().mean() <= 0.15
        best.add(int(retrieval.argmax()))
    assert len(best) == 1


def test_looking_at_heads_leaves_the_model_as_it_was(recaller: Recaller) -> None:
    inputs = next(NEEDLE.train(seed=SEED, batch=4)).inputs
    before = recaller.model(input_ids=inputs).logits
    induction, retrieval = recaller.heads(next(NEEDLE.train(seed=SEED, batch=4)))
    assert induction.shape == retrieval.shape
    torch.testing.assert_close(recaller.model(input_ids=inputs).logits, before, rtol=0, atol=0)


def test_muon_steps_the_named_matrices_and_refuses_a_name_of_none() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    x = torch.randn(64, 8)
    losses = list[float]()

    def loss_at(step: int) -> torch.Tensor:
        loss = (model(x) - x.flip(1)).square().mean()
        losses.append(float(loss.detach()))
        return loss

    descend(model, loss_at, steps=150, learning_rate=0.02, log=lambda line: None, warmup=5, muon="0.")
    assert losses[-1] < 0.1 * losses[0]
    with pytest.raises(AttimeError, match="has none"):
        descend(model, loss_at, steps=1, learning_rate=0.02, log=lambda line: None, muon="layers.")
