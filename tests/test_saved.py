"""A saved past is what was written or is refused in one sentence: flipped bits, headers by hand, folders, devices."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from attime.errors import AttimeError
from attime.hub import attach
from attime.hub.attached import Attached
from attime.memory import saved
from attime.memory.chained import Chain, chain
from attime.memory.coded import Coder
from attime.memory.evict import SinkWindow
from attime.memory.past import Past
from attime.memory.place import Contiguous
from attime.memory.quantize import Quantize
from attime.memory.retrieve import InMemory, OnDisk, Retrieve
from attime.memory.saved import load_pasts, save_pasts

WINDOW = chain(SinkWindow(sinks=2, window=14, every=4), Contiguous(), Quantize(bits=4, recent=4, every=4))
PARKED = chain(Retrieve(sinks=2, window=14, block=4, blocks=2, every=4))


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2)
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1)).eval()


def read(model: Any, policy: Chain, path: Path, *, coder: Coder | None = None) -> Attached:
    """A cache that has read a text is saved there; the model is still attached."""
    attached, text = attach(model, policy), torch.randint(0, 32, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cache = attached.cache()
        model(text, past_key_values=cache)
        cache.save(path, coder=coder)
    return attached


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the header, and make the checksum right again."""
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {})["attime"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = json.dumps(change(header))
    checksum = saved._checksum(text, tensors)
    save_file(tensors, path, {"attime": text, "checksum": checksum})


@pytest.mark.parametrize(("policy", "name"), [(WINDOW, "past"), (PARKED, "past"), (PARKED, "past.parked")])
def test_a_flipped_bit_anywhere_is_recognised(model: Any, tmp_path: Path, policy: Chain, name: str) -> None:
    draw = random.Random(0)
    with read(model, policy, tmp_path / "past") as attached:
        whole = (tmp_path / name).read_bytes()
        for _ in range(60):
            at = draw.randrange(len(whole))
            flipped = bytes([whole[at] ^ 1 << draw.randrange(8)])
            (tmp_path / name).write_bytes(whole[:at] + flipped + whole[at + 1 :])
            with pytest.raises(AttimeError) as error:
                attached.load(tmp_path / "past")
            assert "\n" not in str(error.value)
        (tmp_path / name).write_bytes(whole)
        attached.load(tmp_path / "past")
        for other in (whole + b"\0", whole[:-1], b""):
            (tmp_path / name).write_bytes(other)
            with pytest.raises(AttimeError):
                attached.load(tmp_path / "past")
        (tmp_path / name).unlink()
        with pytest.raises(AttimeError):
            attached.load(tmp_path / "past")


def kind(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(header: dict[str, Any]) -> dict[str, Any]:
        header["pasts"][0]["banks"][0]["stores"][0] = name
        return header

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header: [1], "another format"),
        (lambda header: 3, "another format"),
        (lambda header: header | {"format": "attime-memory-2"}, "another format"),
        (kind("attime.memory.nowhere:Exact"), "damaged"),
        (kind("attime.memory.store:Nobody"), "damaged"),
        (kind("attime.memory.store:Mapping"), "damaged"),
        (kind("os:system"), "damaged"),
        (kind("Exact"), "damaged"),
        (lambda header: header | {"extra": {}}, "damaged"),
        (lambda header: header | {"extra": {"columns": 40, "lag": None}}, "damaged"),
        (lambda header: header | {"extra": header["extra"] | {"columns": "many"}}, "damaged"),
        (lambda header: header | {"extra": None}, "damaged"),
        (lambda header: header | {"pasts": header["pasts"][:1]}, "damaged"),
        (lambda header: header | {"pasts": [header["pasts"][0]] * 2}, "damaged"),
        (lambda header: header | {"pasts": []}, "damaged"),
        (lambda header: {name: header[name] for name in ("format", "model", "policy")}, "damaged"),
    ],
)
def test_headers_that_cannot_be_are_told_and_nothing_is_taken_in(
    model: Any, tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    with read(model, WINDOW, tmp_path / "past") as attached:
        cache = attached.load(tmp_path / "past")
        before = [(layer.columns, layer.pasts) for layer in cache.memory]
        rewritten(tmp_path / "past", lambda header: header)
        cache.copy().restore(tmp_path / "past")
        rewritten(tmp_path / "past", change)
        with pytest.raises(AttimeError, match=words):
            cache.restore(tmp_path / "past")
        assert [(layer.columns, layer.pasts) for layer in cache.memory] == before


def test_a_file_without_a_checksum_is_refused(model: Any, tmp_path: Path) -> None:
    with read(model, WINDOW, tmp_path / "past") as attached:
        with safe_open(tmp_path / "past", framework="pt") as file:
            known = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_file(tensors, tmp_path / "past", {"attime": known["attime"]})
        with pytest.raises(AttimeError, match="checksum"):
            attached.load(tmp_path / "past")


def test_an_empty_cache_comes_back(model: Any, tmp_path: Path) -> None:
    with attach(model, WINDOW) as attached:
        attached.cache().save(tmp_path / "empty")
        assert attached.load(tmp_path / "empty").nbytes == 0


def test_links_are_followed_and_nothing_but_files_is_written_over(model: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").touch()
    mode = (tmp_path / "target").stat().st_mode
    with read(model, WINDOW, tmp_path / "link") as attached:
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").stat().st_mode == mode
        attached.load(tmp_path / "target")
        with pytest.raises(AttimeError, match="device"):
            attached.cache().save(tmp_path / "fifo")
        assert (tmp_path / "fifo").is_fifo()


def test_what_was_parked_goes_with_the_memory_that_is_saved_over(model: Any, tmp_path: Path) -> None:
    with read(model, PARKED, tmp_path / "past"):
        assert (tmp_path / "past.parked").exists()
    with read(model, WINDOW, tmp_path / "past") as attached:
        assert not (tmp_path / "past.parked").exists()
        attached.load(tmp_path / "past")


def test_nothing_is_left_where_it_cannot_be_written(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with read(model, PARKED, tmp_path / "past") as attached:
        cache = attached.load(tmp_path / "past")
        (tmp_path / "folder").mkdir()
        (tmp_path / "other.parked").mkdir()
        here = sorted(tmp_path.rglob("*"))
        for path in ("", ".", "folder", "folder/", "other", "past/inside", "no/such/folder"):
            with pytest.raises(AttimeError, match="nothing of it is lost"):
                cache.save(path)
            assert sorted(tmp_path.rglob("*")) == here, path
        monkeypatch.setattr(os, "replace", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache.save(tmp_path / "past")
        assert sorted(tmp_path.rglob("*")) == here


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_folder_for_parked_blocks_that_is_gone_is_told_as_such(model: Any, tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    policy = chain(
        Retrieve(sinks=2, window=14, block=4, blocks=2, every=4, where=OnDisk(path=str(tmp_path / "blocks")))
    )
    with read(model, policy, tmp_path / "past") as attached:
        for each in (tmp_path / "blocks").iterdir():
            each.unlink()
        (tmp_path / "blocks").rmdir()
        with pytest.raises(AttimeError, match="OnDisk needs a folder"):
            attached.load(tmp_path / "past")


def devices(past: Past) -> set[str]:
    tensors = [each for bank in past.banks for each in (bank.lanes, bank.shift, bank.when.now)]
    tensors += [each for bank in past.banks for store in bank.stores for each in store.tensors().values()]
    return {each.device.type for each in tensors if each is not None}


@pytest.mark.parametrize("coder", [None, Coder(chunk=20)])
def test_a_past_is_read_onto_a_device(model: Any, tmp_path: Path, coder: Coder | None) -> None:
    with read(model, WINDOW, tmp_path / "past", coder=coder) as attached:
        policy = repr(attached.policy)
        for device in ("cpu", "meta"):
            made, _ = load_pasts(
                tmp_path / "past", model=attached.fingerprint, policy=policy, device=torch.device(device)
            )
            assert [devices(past) for past in made] == [{device}] * 2
        cache = attached.cache().restore(tmp_path / "past", device=torch.device("cpu"))
        assert cache.memory[0].columns == 40


def test_what_is_parked_in_many_pieces_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy = Retrieve(sinks=0, window=4, block=1, blocks=2, every=2, contiguous=False, where=InMemory())
    past = Past(heads=2)
    for _ in range(700):
        past.append(torch.randn(2, 2, 4), torch.randn(2, 2, 4))
        policy.act(past)
    save_pasts(tmp_path / "past", [past], model="m", policy="p", extra={})
    [again], _ = load_pasts(tmp_path / "past", model="m", policy="p")
    parked = [each.banks[0].parked for each in (past, again)]
    ours, theirs = (each.blocks for each in parked if each is not None)
    assert theirs.count == ours.count > 1024 / 2
    assert torch.equal(theirs.pool.read(theirs.numbers.now), ours.pool.read(ours.numbers.now))
