"""Retrieval: what comes back is exact, in its place, from memory and from disk; nothing is lost and no file is left."""

import errno
import gc
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from attime.errors import AttimeError
from attime.hub import attach
from attime.memory import Policy, chain
from attime.memory.evict import Action, Compensate, Evict, KeyNorm, SinkWindow
from attime.memory.merge import Nearest
from attime.memory.past import Past
from attime.memory.place import Contiguous
from attime.memory.quantize import ThinKeys
from attime.memory.reader import read
from attime.memory.retrieve import OnDisk, Recycled, Retrieve, on_disk
from attime.memory.rotary import Rotary
from attime.memory.saved import load_pasts, save_pasts

ROWS, HEADS, GROUPS, TIME, DIM = 2, 2, 2, 90, 8
SMALL: dict[str, Any] = dict(sinks=2, window=20, block=4, every=8)
DISK = OnDisk()
ROTARY = Rotary(0.1 ** torch.arange(DIM // 2, dtype=torch.float64))


def stream(time: int = TIME) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    sizes = (HEADS * GROUPS, HEADS, HEADS)
    q, k, v = (torch.randn(ROWS, h, time, DIM, generator=random, dtype=torch.float64) for h in sizes)
    return q, k, v


def run(policy: Policy, time: int = TIME, past: Past | None = None) -> tuple[Tensor, Past]:
    past = past or Past(heads=HEADS, rotate=ROTARY)
    return read(past, chain(policy), *stream(time)), past


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2)
    heads: dict[str, Any] = dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096)
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, pad_token_id=63)).eval().requires_grad_(False)


def text(time: int = 150, seed: int = 0) -> Tensor:
    return torch.randint(0, 60, (1, time), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("where", [{}, {"where": DISK}])
def test_all_blocks_brought_back_are_attention_to_everything(where: dict[str, Any]) -> None:
    plain, _ = run(chain())
    for contiguous in (True, False):
        ours, past = run(Retrieve(blocks=100, contiguous=contiguous, **SMALL, **where))
        parked = past.banks[0].parked
        assert parked is not None
        assert parked.entries > 60
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-9)


def test_a_short_past_is_untouched_and_the_window_alone_is_sinks_and_window() -> None:
    torch.testing.assert_close(run(Retrieve(**SMALL), 14)[0], run(chain(), 14)[0], rtol=0, atol=1e-12)
    quiet, past = run(Retrieve(by="question", **{**SMALL, "block": 1}))
    window, other = run(chain(SinkWindow(sinks=2, window=20, every=8), Contiguous()))
    torch.testing.assert_close(quiet, window, rtol=0, atol=1e-9)
    assert torch.equal(past.banks[0].when.now, other.banks[0].when.now)


@pytest.mark.parametrize("by", ["token", "question"])
@pytest.mark.parametrize("contiguous", [True, False])
def test_the_last_token_attends_to_the_blocks_of_the_highest_product(contiguous: bool, by: Any) -> None:
    q, k, v = stream()
    policy, past = chain(Retrieve(blocks=2, contiguous=contiguous, by=by, **SMALL)), Past(heads=HEADS, rotate=ROTARY)
    read(past, policy, *(each[:, :, :-1] for each in (q, k, v)))
    parked = past.banks[0].parked
    assert parked is not None
    parked.asked = by == "question"
    ours = read(past, policy, *(each[:, :, -1:] for each in (q, k, v)))
    when, size, positions = past.banks[0].when.now, 4, torch.arange(TIME).expand(ROWS * HEADS, -1)
    keys, values = k.flatten(0, 1), v.flatten(0, 1)
    bare = ROTARY(keys, -positions)
    for lane in range(ROWS * HEADS):
        row, head = divmod(lane, HEADS)
        mine = q[row, head * GROUPS : (head + 1) * GROUPS, -1]
        guide = ROTARY(mine.mean(0)[None, None], torch.tensor([[1 - TIME]]))[0, 0]
        means = bare[lane, 2 : 2 + parked.entries].unflatten(0, (-1, size)).mean(1)
        best = (means @ guide).topk(2).indices.sort().values
        back = (2 + best[:, None] * size + torch.arange(size)).flatten()
        seen = torch.cat([when[lane, :2], back, when[lane, 2:]])
        place = torch.arange(TIME - len(seen), TIME) if contiguous else seen
        near = ROTARY(keys[None, lane, seen], (place - seen)[None])[0]
        want = (mine @ near.T / DIM**0.5).softmax(-1) @ values[lane, seen]
        torch.testing.assert_close(ours[row, head * GROUPS : (head + 1) * GROUPS, -1], want, rtol=0, atol=1e-9)


def test_heads_may_choose_together_by_the_angle_of_their_joined_keys() -> None:
    q, k, _ = stream(89)
    _, past = run(Retrieve(blocks=1, heads="shared", cosine=True, unrotated=False, contiguous=False, **SMALL), 89)
    parked = past.banks[0].parked
    assert parked is not None
    assert parked.held is not None
    means = k[:, :, 2 : 2 + parked.entries].unflatten(2, (-1, 4)).mean(3).transpose(1, 2).flatten(2)
    guide = q[:, :, 88].unflatten(1, (HEADS, GROUPS)).mean(2).flatten(1)
    want = torch.nn.functional.cosine_similarity(means, guide[:, None], dim=2).argmax(1)
    assert parked.held.blocks.view(ROWS, HEADS).tolist() == want[:, None].expand(-1, HEADS).tolist()


def test_single_steps_read_from_disk_only_what_is_not_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = stream()
    past, policy, counts = Past(heads=HEADS, rotate=ROTARY), chain(Retrieve(blocks=3, where=DISK, **SMALL)), []
    kept = on_disk._File.read
    monkeypatch.setattr(on_disk._File, "read", lambda self, n: counts.append(n.numel()) or kept(self, n))
    steps = [read(past, policy, *(each[:, :, i : i + 1] for each in (q, k, v))) for i in range(TIME)]
    monkeypatch.undo()
    torch.testing.assert_close(torch.cat(steps, dim=2), run(policy)[0], rtol=0, atol=1e-9)
    assert sum(counts) < 0.8 * 3 * ROWS * HEADS * (TIME - 24)


def test_a_question_chooses_once_and_the_stream_goes_on_without_it(model: Any) -> None:
    retrieve = Retrieve(blocks=3, by="question", heads="shared", cosine=True, **SMALL)
    ids, question = text(), text(7, seed=2)
    with attach(model, retrieve) as attached:
        cache = attached.cache()
        model(ids, past_key_values=cache)
        before = cache.nbytes
        whole = torch.cat([ids, question], dim=1)
        options: dict[str, Any] = dict(max_new_tokens=12, min_new_tokens=12, do_sample=False)
        said = [model.generate(whole, past_key_values=cache.ask(), **options) for _ in range(2)]
        assert torch.equal(*said)
        asked = cache.ask()
        model(question, past_key_values=asked)
        parked = [bank.parked for layer in asked.memory for _, past in layer.pasts for bank in past.banks]
        pinned = [each.pinned.clone() for each in parked if each is not None and each.pinned is not None]
        assert [each.shape for each in pinned] == [(2, 3)] * 2
        assert all(torch.equal(one[0], one[1]) for one in pinned), "heads choose together"
        model(text(30, seed=3), past_key_values=asked)
        again = [each.pinned for each in parked if each is not None and each.pinned is not None]
        assert all(torch.equal(one, two) for one, two in zip(again, pinned, strict=True))
        assert cache.nbytes == before, "asking leaves the stream as it was"
        stream = cache.memory[0].pasts[0][1].banks[0].parked
        assert stream is not None
        assert stream.pinned is None
    everything = Retrieve(blocks=999, by="question", **SMALL)
    with attach(model, chain()):
        want = model(torch.cat([text(16), question], dim=1)).logits[:, 16:]
    with attach(model, everything) as attached:
        cache = attached.cache()
        model(text(16), past_key_values=cache)
        torch.testing.assert_close(model(question, past_key_values=cache.ask()).logits, want, rtol=0, atol=1e-5)


def test_chunks_of_any_size_and_saving_on_disk(model: Any, tmp_path: Path) -> None:
    policy, ids = Retrieve(blocks=3, where=OnDisk(path=str(tmp_path)), **SMALL), text()
    with attach(model, policy) as attached:
        whole = model(ids).logits
        for chunk in (1, 37):
            cache = attached.cache()
            parts = [model(part, past_key_values=cache).logits for part in ids.split(chunk, dim=1)]
            torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-5)
        line = next(iter(cache.ledger()))
        assert line.kept + line.parked == line.seen
        cache.save(tmp_path / "past")
        more = text(20, seed=5)
        want = model(more, past_key_values=cache).logits
        loaded = attached.load(tmp_path / "past")
        torch.testing.assert_close(model(more, past_key_values=loaded).logits, want, rtol=0, atol=0)
        assert len(list(tmp_path.glob("*.blocks"))) == 4, "one file a layer, of two caches"
        del cache, loaded, parts
        gc.collect()
        assert not list(tmp_path.glob("*.blocks")), "files outlive their past"
        (tmp_path / "past.parked").write_bytes(b"short")
        with pytest.raises(AttimeError, match="is damaged"):
            attached.load(tmp_path / "past")


def test_a_full_disk_loses_nothing(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, later = text(), text(20, seed=3)
    with attach(model, Retrieve(blocks=99, where=DISK, **SMALL)) as attached:
        fine, cache = attached.cache(), attached.cache()
        for each in (fine, cache):
            model(ids[:, :100], past_key_values=each)

        def full(*_: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "pwrite", full)
        middle = model(ids[:, 100:], past_key_values=cache).logits
        with pytest.raises(AttimeError, match="No space left on device; it is still attended, nothing is lost"):
            model(later, past_key_values=cache)
        monkeypatch.undo()
        torch.testing.assert_close(middle, model(ids[:, 100:], past_key_values=fine).logits, rtol=0, atol=1e-5)
        want = model(later, past_key_values=fine).logits
        torch.testing.assert_close(model(later, past_key_values=cache).logits, want, rtol=0, atol=1e-5)
        assert cache.memory[0].pasts[0][1].banks[0].length <= 22, "what waited is parked now"


def test_a_file_that_may_not_grow_is_a_full_disk(model: Any) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
        with attach(model, Retrieve(where=DISK, **SMALL)) as attached:
            cache = attached.cache()
            model(text()[:, :140], past_key_values=cache)
            with pytest.raises(AttimeError, match="nothing is lost"):
                model(text()[:, 140:], past_key_values=cache)
            line = next(iter(cache.ledger()))
            assert line.kept + line.parked == line.seen
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_memory_stays_flat_and_small_while_the_file_grows() -> None:
    time, dim, policy = (
        4096,
        32,
        chain(Retrieve(sinks=4, window=124, every=32, block=64, blocks=2, by="question", where=DISK)),
    )
    random = torch.Generator().manual_seed(0)
    past, held = Past(heads=1, rotate=ROTARY), []
    for _ in range(4):
        k = torch.randn(1, 1, time // 4, dim, generator=random)
        read(past, policy, k, k, k)
        held.append(past.nbytes)
    assert past.nbytes < time * 2 * dim * 4 / 12
    assert held[-1] - held[-2] < 1.3 * time / 4 * dim * 4 / 64 + 6000, "it grows by its index alone"


def test_recycled_attention_is_full_attention_where_every_step_is_full_and_bounded_otherwise() -> None:
    plain, _ = run(chain())
    torch.testing.assert_close(run(Recycled(entries=999, every=7))[0], plain, rtol=0, atol=1e-9)
    torch.testing.assert_close(run(Recycled(entries=4, every=1))[0], plain, rtol=0, atol=1e-9)
    ours, past = run(Recycled(entries=8, every=20))
    torch.testing.assert_close(ours[:, :, [20, 40, 60, 80]], plain[:, :, [20, 40, 60, 80]], rtol=0, atol=1e-9)
    assert not torch.allclose(ours[:, :, 85], plain[:, :, 85])
    near = past.banks[0].near
    assert near is not None
    assert (near.length, past.banks[0].length) == (8 + 9, TIME)
    q, k, _ = stream()
    rate = (q.unflatten(1, (HEADS, GROUPS))[:, :, :, 80] @ k[:, :, :81].mT / DIM**0.5).softmax(-1).amax(2)
    best = rate.flatten(0, 1).topk(8).indices.sort().values
    assert torch.equal(near.when.now[:, :8], best)


def test_what_is_recycled_is_read_where_it_is_moved_to() -> None:
    policies = SinkWindow(sinks=2, window=40, every=8), Recycled(entries=99, every=9), Contiguous()
    window, recycled, contiguous = policies
    plain = run(chain(window, contiguous))[0]
    near = Recycled(entries=20, every=9)
    _, past = run(chain(window, near, contiguous), 67)  # all of them acted after 64
    [bank] = past.banks
    assert bank.near is not None
    assert bank.shift is not None
    where = torch.searchsorted(bank.when.now.contiguous(), bank.near.when.now.contiguous())[..., None].expand(
        -1, -1, DIM
    )
    torch.testing.assert_close(bank.near.exact.keys(), bank.exact.keys().gather(1, where))
    torch.testing.assert_close(run(chain(window, recycled, contiguous))[0], plain, rtol=0, atol=1e-9)


def test_what_is_recycled_is_saved(model: Any, tmp_path: Path) -> None:
    ids = text(70)
    with attach(model, Recycled(entries=8, every=7)) as attached:
        cache = attached.cache()
        model(ids[:, :45], past_key_values=cache)
        cache.save(tmp_path / "past")
        loaded = attached.load(tmp_path / "past")
        ours, theirs = (model(ids[:, 45:], past_key_values=each).logits for each in (loaded, cache))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_folder_that_is_not_there_is_told_before_the_first_token(model: Any) -> None:
    with attach(model, Retrieve(where=OnDisk(path="/no/such/folder"), **SMALL)) as attached:
        cache = attached.cache()
        with pytest.raises(AttimeError, match="folder that can be written to"):
            model(text(5), past_key_values=cache)
        assert [past.seen for layer in cache.memory for _, past in layer.pasts] == [0]


@pytest.mark.parametrize("action", [Nearest(least=-1.0), Compensate()])
@pytest.mark.parametrize("first", [True, False])
def test_what_stands_for_several_does_so_when_it_comes_back(first: bool, action: Action, tmp_path: Path) -> None:
    retrieve = Retrieve(sinks=2, window=20, block=4, blocks=99, every=5, contiguous=False)
    evict = Evict(score=KeyNorm(), budget=21, action=action, sinks=2, recent=4, every=2)
    policy = chain(retrieve, evict) if first else chain(evict, retrieve)
    ours, past = run(policy)
    [parked], [bank] = [bank.parked for bank in past.banks], past.banks
    assert parked is not None
    assert parked.blocks.log_mass is not None
    assert bank.log_mass is not None
    whole = parked.blocks.log_mass.now.double().exp().sum((1, 2)) + bank.log_mass.now.double().exp().sum(1)
    torch.testing.assert_close(whole, torch.full((ROWS * HEADS,), float(TIME)).double(), rtol=1e-5, atol=0)
    cut, steps = Past(heads=HEADS, rotate=ROTARY), []
    for part in zip(*(each.split(1, dim=2) for each in stream()), strict=True):
        steps.append(read(cut, policy, *part))
    torch.testing.assert_close(torch.cat(steps, dim=2), ours, rtol=0, atol=1e-9)
    records = parked.blocks.pool.read(parked.blocks.numbers.now).unflatten(2, (2, 4, DIM))
    keys, values = (
        torch.cat([records[:, :, i].flatten(1, 2), each], dim=1) for i, each in enumerate((bank.keys(), bank.values()))
    )
    mass = torch.cat([parked.blocks.log_mass.now.flatten(1), bank.log_mass.now], dim=1)
    q, k, v = (each[:, :, -1:] for each in stream())
    torch.testing.assert_close(keys[:, -1], stream()[1].flatten(0, 1)[:, -1])
    save_pasts(tmp_path / "past", [past], model="", policy="", extra={})
    [loaded], _ = load_pasts(tmp_path / "past", model="", policy="")
    loaded.rotate = ROTARY
    logits = q.unflatten(1, (HEADS, GROUPS)).flatten(0, 1)[:, :, 0] @ torch.cat([keys, k.flatten(0, 1)], dim=1).mT
    logits = logits / DIM**0.5 + torch.cat([mass, mass.new_zeros(len(mass), 1)], dim=1)[:, None]
    want = (logits.softmax(-1) @ torch.cat([values, v.flatten(0, 1)], dim=1)).view(ROWS, HEADS * GROUPS, 1, DIM)
    for each in (past, loaded):
        torch.testing.assert_close(read(each, policy, q, k, v), want, rtol=0, atol=1e-6)


def test_mistakes_are_told() -> None:
    wrong: Any = "foo"
    for part, name in ((Retrieve, "by"), (Retrieve, "heads"), (Recycled, "over_heads"), (ThinKeys, "by")):
        with pytest.raises(AttimeError, match=f"needs {name} to be '.*; got 'foo'"):
            part(**{name: wrong})
    with pytest.raises(AttimeError, match="window >= every"):
        Retrieve(window=10, block=8, every=8)
    with pytest.raises(AttimeError, match="contiguous=False if it has that"):
        run(Retrieve(**SMALL), past=Past(heads=HEADS))
    with pytest.raises(AttimeError, match="folder that can be written to"):
        run(Retrieve(where=OnDisk(path="/no/such/folder"), **SMALL))
    with pytest.raises(AttimeError, match="entries >= 1"):
        Recycled(entries=0)
