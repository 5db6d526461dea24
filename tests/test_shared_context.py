"""Sessions in both modes: solvable from the context, in the format of the benchmark, and what a cut cache does to them."""

import json
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from attime.errors import AttimeError
from attime.tasks.cached_reader import CachedReader, LayerCache
from attime.tasks.sessions import Rereader, Session, Turn, read_sessions
from attime.tasks.shared_context import SharedContext

EXAMPLES = SharedContext.examples()
MODES = ("multi-turn", "multi-request")


class Shortsighted:
    """Keeps of the context only the lines that the first query is about; reads on as usual."""

    def read(self, text, state=None):
        if state is None:
            *facts, query = text.split("\n")
            name = query.split()[0]
            return "\n".join([*(fact for fact in facts if fact.startswith(name)), query])
        return f"{state}\n{text}"

    def say(self, length, state):
        return SharedContext().oracle().say(length, state)


@pytest.mark.parametrize("task", EXAMPLES, ids=lambda task: task.protocol)
@pytest.mark.parametrize("mode", MODES)
def test_the_oracle_looks_everything_up(task, mode) -> None:
    scores = task.score(task.oracle(), mode=mode)
    assert set(scores) == {"accuracy", *(f"turn {number}" for number in range(1, task.turns + 1))}
    assert set(scores.values()) == {1.0}


@pytest.mark.parametrize("task", EXAMPLES, ids=lambda task: task.protocol)
def test_nothing_is_known_without_the_context(task) -> None:
    empty = [replace(session, context=session.context[:0]) for session in task.items()]
    scores = task.grade(empty, Rereader(lambda text: text), mode="multi-request")
    assert scores["accuracy"] <= task.chance()["accuracy"]
    assert task.items(seed=1) == task.items(seed=1) != task.items(seed=2)


def test_parts_are_shared_but_pairs_of_them_are_not() -> None:
    for session in SharedContext(kind="prefix-suffix", facts=16, turns=16, sessions=3).items():
        parts = [line.split("-") for line in str(session.context).splitlines()]
        assert len({(first, last) for first, _, last in parts}) == len(parts) == 16
        assert len({first for first, _, _ in parts}) == len({last for _, _, last in parts}) == 4


def test_what_is_cut_for_the_first_query_is_missing_at_the_second() -> None:
    scores = SharedContext(turns=3, sessions=5).score(_forgiving(Shortsighted()))
    assert scores["turn 1"] == 1
    assert scores["turn 2"] == scores["turn 3"] == 0


def _forgiving(reader):
    """A reader that says nothing where the oracle behind it cannot."""
    said = reader.say

    def say(length, state):
        try:
            return said(length, state)
        except IndexError:
            return ""

    reader.say = say
    return reader


def test_a_conversation_goes_on_with_right_answers_and_requests_with_none() -> None:
    read: list[str] = []

    def answer(text: str) -> str:
        read.append(text)
        return "wrong"

    session = Session(context="c", turns=(Turn(query="q1", answer="a1"), Turn(query="q2", answer=("b", "d"))))
    assert session.play(Rereader(answer)) == [0.0, 0.0]
    assert session.play(Rereader(answer), mode="multi-request") == [0.0, 0.0]
    assert read == ["c\nq1", "c\nq1\na1\nq2", "c\nq1", "c\nq2"]
    assert session.play(Rereader(lambda text: "a1 b")) == [1.0, 0.5]
    with pytest.raises(AttimeError, match="multi-turn or multi-request"):
        session.play(Rereader(answer), mode=cast(Any, "both"))


def test_the_benchmarks_own_files_are_read(tmp_path) -> None:
    rows = [
        {
            "id": 0,
            "context": "k = v",
            "multi_turns": [{"input": "k is ", "answer": "v"}, {"input": "?", "answer": "v"}],
        },
        {"input": "VAR a = 1", "multi_turns": [{"input": "which?", "answer": ["a", "b"]}]},
        {"context": [3, 1, 2], "multi_turns": [{"input": "largest", "answer": 3}]},
    ]
    path = tmp_path / "scbench_kv.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    sessions = read_sessions(path)
    assert [len(session.turns) for session in sessions] == [2, 1, 1]
    assert sessions[1].turns[0].answer == ("a", "b")
    assert sessions[2] == Session(context="[3, 1, 2]", turns=(Turn(query="largest", answer="3"),))
    assert SharedContext.grade(sessions[:1], Rereader(lambda text: "v")) == {"accuracy": 1, "turn 1": 1, "turn 2": 1}
    path.write_text('{"context": "c"}')
    with pytest.raises(AttimeError, match="line 1"):
        read_sessions(path)


def _llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128,
            num_attention_heads=4,
            num_key_value_heads=2,
            bos_token_id=None,
            eos_token_id=None,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
        )
    )


def test_reading_in_pieces_is_reading_at_once_and_leaves_states_alone() -> None:
    model = _llama()
    text = tuple(torch.randint(128, (24,)).tolist())
    reader = CachedReader(model)
    whole, first = reader.read(text), reader.read(text[:10])
    said = reader.say(3, first)
    later = reader.read(text[10:], first)
    assert torch.allclose(whole.logits, later.logits, atol=1e-5)
    assert reader.say(3, first) == said, "asking changed the state"
    assert first.entries == 10
    assert later.position == later.entries == 24
    with torch.no_grad():
        greedy = model(input_ids=torch.tensor([[*text, *reader.say(2, whole)]])).logits.argmax(-1)
    assert reader.say(3, whole) == tuple(greedy[0, -3:].tolist())
    with pytest.raises(AttimeError, match="encode"):
        reader.read("text")


def test_compression_comes_once_and_keeps_positions() -> None:
    seen: list[tuple[int, ...]] = []

    def first_half(layer: LayerCache):
        seen.append(tuple(layer.attention.shape))
        assert torch.allclose(layer.attention.sum(-1), torch.ones(()), atol=1e-5)
        half = layer.keys.shape[2] // 2
        return layer.keys[:, :, :half], layer.values[:, :, :half]

    model = _llama()
    text = tuple(torch.randint(128, (24,)).tolist())
    reader = CachedReader(model, compress=first_half)
    state = reader.read(text)
    assert seen == [(1, 4, 24, 24)] * 2
    later = reader.read(text[:2], state)
    assert len(seen) == 2
    assert (state.entries, later.entries, later.position) == (12, 14, 26)
    same = CachedReader(model, compress=lambda layer: (layer.keys, layer.values)).read(text)
    assert torch.allclose(same.logits, CachedReader(model).read(text).logits, atol=1e-5)
    assert model.config._attn_implementation == "sdpa"


def test_impossible_sessions_are_refused() -> None:
    wrongs: list[dict[str, Any]] = [{"kind": "poem"}, {"turns": 0}, {"facts": 99}, {"kind": "variables", "facts": 9}]
    for wrong in wrongs:
        with pytest.raises(AttimeError):
            SharedContext(**wrong)
