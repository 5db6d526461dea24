"""A memory of chunks finds what a search through all finds, stays bounded, and a side network reads it beside a frozen model."""

import builtins
import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from attime.attention.sparse import GatedRetrieval, SlidingWindow
from attime.attention.sparse.gated_retrieval import gated
from attime.errors import AttimeError, MissingExtra
from attime.hub import attach
from attime.hub.side import SideNet
from attime.memory.index import Scanned
from attime.memory.retrieve import Chunks, Exhaustive, Faiss, InMemory, OnDisk, Retrieve, Search, Where

ROWS, HEADS, DIM = 2, 3, 8


def stream(time: int, *, seed: int = 0, heads: int = HEADS) -> Tensor:
    return torch.randn(ROWS, heads, time, DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("search", [Exhaustive(), Faiss()], ids=["exhaustive", "faiss"])
@pytest.mark.parametrize("where", [InMemory(), OnDisk()], ids=["memory", "disk"])
def test_chunks_of_one_are_the_nearest_keys(search: Search, where: Where) -> None:
    k, v, q = stream(50), stream(50, seed=1), stream(7, seed=2)
    held = Chunks(capacity=30, chunk=1, entries=4, search=search, where=where).open()
    assert held.recall(q) is None
    for start in range(0, 50, 10):
        held.add(k[:, :, start : start + 10], v[:, :, start : start + 10])
    found = held.recall(q)
    assert found is not None
    best = (q @ k[:, :, 20:].mT).topk(4).indices.sort().values
    for ours, all_ in zip(found, (k[:, :, 20:], v[:, :, 20:]), strict=True):
        expected = all_[:, :, None].expand(-1, -1, 7, -1, -1).gather(3, best[..., None].expand(-1, -1, -1, -1, DIM))
        assert torch.equal(ours, expected)


def test_chunks_come_back_whole_by_their_mean_key_and_the_rest_waits() -> None:
    k, v = stream(11), stream(11, seed=1)
    held = Chunks(capacity=40, chunk=4, entries=4).open()
    for start, stop in ((0, 3), (3, 9), (9, 11)):
        held.add(k[:, :, start:stop], v[:, :, start:stop])
    assert held.length == 8
    q = 100 * k[:, :, 4:8].mean(2, keepdim=True) - 100 * k[:, :, :4].mean(2, keepdim=True)
    found = held.recall(q)
    assert found is not None
    assert torch.equal(found[0][:, :, 0], k[:, :, 4:8])
    held.add(k[:, :, :1], v[:, :, :1])
    assert held.length == 12
    again = held.recall(q)
    assert again is not None
    assert torch.equal(found[1][:, :, 0], v[:, :, 4:8]), "what came back before is left alone"


@pytest.mark.parametrize("search", [Exhaustive(), Faiss(factory="HNSW8,Flat")], ids=["exhaustive", "graph"])
def test_it_stays_bounded_for_ever(search: Search) -> None:
    held, sizes = Chunks(capacity=32, chunk=2, entries=4, search=search).open(), []
    for step in range(30):
        held.add(stream(8, seed=step), stream(8, seed=100 + step))
        sizes.append(held.nbytes)
    assert held.length == 32
    assert max(sizes[10:]) <= 1.05 * max(sizes[4:10])
    latest = stream(8, seed=29)
    found = held.recall(100 * latest[:, :, 6:].mean(2, keepdim=True))
    assert found is not None
    assert torch.equal(found[0][:, :, 0, -2:], latest[:, :, 6:]), "the newest chunk is the most like itself"


def test_a_copy_goes_its_own_way() -> None:
    held = Chunks(capacity=16, chunk=2, entries=4).open()
    held.add(stream(16), stream(16, seed=1))
    other, q = copy.deepcopy(held), stream(5, seed=2)
    before = held.recall(q)
    for step in range(8):
        other.add(stream(8, seed=step + 3), stream(8, seed=step))
    after, apart = held.recall(q), other.recall(q)
    assert before is not None
    assert after is not None
    assert apart is not None
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[0], apart[0])


def test_heads_that_share_keys_choose_together_and_attend_apart() -> None:
    k, v, q = stream(12, heads=1), stream(12, seed=1, heads=1), stream(5, seed=2, heads=4)
    held = Chunks(capacity=16, chunk=1, entries=12).open()
    held.add(k, v)
    found = held.recall(q)
    assert found is not None
    near = stream(5, seed=3, heads=4)
    ours = gated(near, q, *found, torch.zeros(4), scale=0.3)
    torch.testing.assert_close(ours, 0.5 * near + 0.5 * (q @ k.mT * 0.3).softmax(-1) @ v)


def test_an_index_of_faiss_agrees_or_nearly_so() -> None:
    keys, q = stream(400)[0], stream(20, seed=1)[0]
    exact = Scanned(keys).nearest(q, 10).sort(2).values
    flat, graph = (
        each.open(keys[:, :300]) for each in (Faiss(), Faiss(factory="HNSW32,Flat", parameters="efSearch=64"))
    )
    for index in (flat, graph):
        index.append(keys[:, 300:])
        assert torch.equal(index.now, keys)
        assert index.nbytes > keys.nbytes
    assert torch.equal(flat.nearest(q, 10).sort(2).values, exact)
    assert (graph.nearest(q, 10)[..., None] == exact[:, :, None]).any(-1).double().mean() > 0.9
    for index in (flat, graph):
        index.forget(390)
        assert torch.equal(index.take(torch.tensor([2, 0])).now, keys[[2, 0], 390:])
        assert index.nearest(q, 20).shape == (HEADS, 20, 10)


def test_mistakes_with_indices_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (Faiss(factory="IVF4,Flat"), Faiss(factory="no such index"), Faiss(parameters="no_such=1")):
        with pytest.raises(AttimeError, match="'HNSW32,Flat', and parameters"):
            wrong.open(stream(4)[0])
    for chunk, entries, capacity in ((0, 64, 640), (4, 6, 640), (4, 64, 8)):
        with pytest.raises(AttimeError, match="Chunks needs chunk >= 1"):
            Chunks(chunk=chunk, entries=entries, capacity=capacity)
    held = Chunks(capacity=16, entries=4).open()
    held.add(stream(4), stream(4))
    with pytest.raises(AttimeError, match="open another"):
        held.add(stream(4)[:1], stream(4)[:1])
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "faiss":
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"attime\[index\]"):
        Faiss().open(stream(4)[0])


def test_retrieval_under_a_model_asks_the_index(tmp_path: Path) -> None:
    model, read = llama(), text(90)
    sizes: dict[str, Any] = dict(sinks=2, window=20, block=4, blocks=2, every=8)
    outputs = []
    for search in (Exhaustive(), Faiss()):
        with attach(model, Retrieve(**sizes, search=search)) as attached, torch.no_grad():
            cache = attached.cache()
            model(read[:, :70], past_key_values=cache)
            cache.save(tmp_path / "memory")
            outputs += [
                model(read[:, 70:], past_key_values=each).logits for each in (cache, attached.load(tmp_path / "memory"))
            ]
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0])
    with pytest.raises(AttimeError, match="leave out one or the other"):
        Retrieve(**sizes, search=Faiss(), cosine=True)


def gpt(depth: int = 4) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=64, n_embd=32, n_layer=depth, n_head=4, n_positions=64)
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None))


def llama(depth: int = 4) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=depth)
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2))


def text(time: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 64, (ROWS, time), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_it_is_the_equation() -> None:
    model = gpt()
    side, tokens = SideNet(model.eval()).eval(), text(9)
    hidden = list(model(tokens, output_hidden_states=True).hidden_states)
    hidden[4] = model.transformer.h[3](hidden[3])
    x = hidden[0]
    for number in range(2):
        x = model.transformer.h[2 * number + 1](x) + hidden[2 * number + 2] - hidden[2 * number]
    torch.testing.assert_close(side(tokens), model.lm_head(model.transformer.ln_f(x)))


@pytest.mark.parametrize("build", [gpt, llama])
def test_only_the_side_network_learns(build: Any) -> None:
    model = build()
    before = copy.deepcopy(model.state_dict())
    side, held = SideNet(model, layer=1), Chunks(capacity=64, entries=8).open()
    assert side.joint == 0
    own = {id(weight) for weight in side.parameters()}
    assert not own & {id(weight) for weight in model.parameters()}
    learnt = [weight for weight in side.parameters() if weight.requires_grad]
    optimiser, losses = torch.optim.Adam(learnt, lr=1e-2), []
    side.remember(text(20), held)
    for _ in range(4):
        loss = F.cross_entropy(
            side(text(12, 1), copy.deepcopy(held))[:, :-1].flatten(0, 1), text(12, 1)[:, 1:].flatten()
        )
        optimiser.zero_grad()
        loss.backward()
        assert all(weight.grad is not None for weight in learnt)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("build", [gpt, llama])
@torch.no_grad()
def test_the_memory_is_of_what_came_before_and_of_ones_own_row(build: Any) -> None:
    side, first, second = SideNet(build()).eval(), text(20), text(12, 1)
    held = Chunks(capacity=64, entries=8).open()
    plain = side(second)
    assert torch.equal(side(first, held), side(first)), "an empty memory changes nothing"
    assert held.length == 20
    changed = first.clone()
    changed[1] = (changed[1] + 1) % 64
    other = Chunks(capacity=64, entries=8).open()
    side.remember(changed, other)
    one, two = side(second, held), side(second, other)
    assert not torch.allclose(one, plain, atol=1e-6)
    torch.testing.assert_close(one[0], two[0])
    assert not torch.allclose(one[1], two[1], atol=1e-6)
    later = second.clone()
    later[:, 8:] = 0
    torch.testing.assert_close(_again(side, first, later)[:, :8], _again(side, first, second)[:, :8])
    side.gate.fill_(-torch.inf)
    torch.testing.assert_close(side(second, held), plain)


@torch.no_grad()
def test_what_is_remembered_has_no_positions() -> None:
    model, seen = llama(), list[Tensor]()
    attention = model.model.layers[2].self_attn
    hook = attention.k_proj.register_forward_hook(lambda module, args, out: seen.append(out))
    side, held = SideNet(model), Chunks(capacity=64, chunk=1, entries=16).open()
    side.remember(text(16), held)
    hook.remove()
    found = held.recall(torch.zeros(ROWS, 4, 1, DIM))
    assert found is not None
    assert side.layer == 2
    torch.testing.assert_close(found[0][:, :, 0], seen[0].unflatten(2, (2, DIM)).transpose(1, 2), atol=1e-6, rtol=1e-5)


def test_models_that_do_not_fit_are_told() -> None:
    with pytest.raises(AttimeError, match="even number of layers"):
        SideNet(gpt(3))
    with pytest.raises(AttimeError, match="layer=4"):
        SideNet(llama(), layer=4)
    with pytest.raises(AttimeError, match="linear head"):
        SideNet(
            GPT2Model(GPT2Config(vocab_size=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None))
        )
    sizes: dict[str, Any] = dict(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=2)
    config = MistralConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, sliding_window=4)
    with pytest.raises(AttimeError, match="attend to everything"):
        SideNet(MistralForCausalLM(config))


@torch.no_grad()
def test_with_a_closed_gate_the_mixer_is_a_window() -> None:
    torch.manual_seed(0)
    ours, window, x = GatedRetrieval(8, window=4, chunk=2, top=2), SlidingWindow(8, window=4), torch.randn(2, 21, 8)
    window.load_state_dict({name: each for name, each in ours.state_dict().items() if name != "gate"})
    torch.testing.assert_close(ours(x)[0][:, :5], window(x)[0][:, :5])
    assert not torch.allclose(ours(x)[0], window(x)[0], atol=1e-4)
    ours.gate.fill_(-torch.inf)
    torch.testing.assert_close(ours(x)[0], window(x)[0])
    with pytest.raises(AttimeError, match="window, chunk and top >= 1"):
        GatedRetrieval(8, top=0)


def _again(side: SideNet, first: Tensor, second: Tensor) -> Tensor:
    held = Chunks(capacity=64, entries=8).open()
    side.remember(first, held)
    return side(second, held)
