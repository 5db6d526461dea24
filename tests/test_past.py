"""The past of softmax mixers: grows without copying, stays a value, forgets by the span; and the mixers that use it."""

import copy

import pytest
import torch
from torch import Tensor

from attime.attention.past import Past, attend_past
from attime.attention.rotary import rotate, turns
from attime.attention.softmax import Bidirectional, Softmax
from attime.attention.spans import Causal, Window
from attime.attention.sparse import SlidingWindow
from attime.errors import AttimeError


def _tokens(count: int, start: int = 0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed + start)
    keys, values = (torch.randn(2, 3, count, 4, generator=generator) for _ in range(2))
    return keys, values, torch.arange(start, start + count).expand(2, -1)


def _grown(counts: list[int]) -> Past:
    past = Past.empty(torch.zeros(2, 1), 3, 4)
    for count in counts:
        past = past.append(*_tokens(count, past.slots))
    return past


@torch.no_grad()
def test_appending_writes_in_place_only_at_the_newest_end() -> None:
    old = _grown([5, 1])
    kept = copy.deepcopy(old)
    first = old.append(*_tokens(1, 6))
    assert first.keys.data_ptr() == old.keys.data_ptr(), "the newest view copied its buffer"
    second = old.append(*_tokens(1, 6, seed=9))
    assert second.keys.data_ptr() != old.keys.data_ptr(), "a branch wrote into its sister's slots"
    torch.testing.assert_close(old.keys, kept.keys)
    torch.testing.assert_close(first.keys[:, :, 6:], _tokens(1, 6)[0])
    torch.testing.assert_close(second.values[:, :, 6:], _tokens(1, 6, seed=9)[1])


@torch.no_grad()
def test_growing_seldom_copies() -> None:
    past, places = _grown([100]), set()
    for _ in range(400):
        past = past.append(*_tokens(1, past.slots))
        places.add(past.keys.data_ptr())
    assert len(places) <= 6
    assert past.nbytes == 2 * 500 * (2 * 3 * 4 * 4 + 8)
    assert past.spare_bytes <= (500 // 8 + 64) / 500 * past.nbytes
    assert past.when[0].tolist() == list(range(500))


@torch.no_grad()
@pytest.mark.parametrize("change", ["select", "to", "detach", "deepcopy", "batch"])
def test_changed_states_do_not_write_into_the_original(change: str) -> None:
    past = _grown([4, 2])
    changed = {
        "select": lambda: past.select(torch.tensor([1, 0])),
        "to": lambda: past.to(torch.float64),
        "detach": past.detach,
        "deepcopy": lambda: copy.deepcopy(past),
        "batch": lambda: past.map(lambda each: each[:1]),
    }[change]()
    tokens = _tokens(1, 6, seed=5)
    grown = changed.append(*(each[: changed.batch] for each in tokens))
    also = past.append(*_tokens(1, 6, seed=7))
    torch.testing.assert_close(also.keys[:, :, 6:], _tokens(1, 6, seed=7)[0])
    torch.testing.assert_close(grown.keys[:, :, 6:], tokens[0][: changed.batch].to(grown.keys.dtype))
    torch.testing.assert_close(grown.keys[:, :, :6], changed.keys)


def test_nothing_is_written_in_place_where_gradients_are_recorded() -> None:
    with torch.no_grad():
        past = _grown([4, 2])
    keys, values, when = _tokens(1, 6)
    q = torch.randn(2, 3, 1, 4, requires_grad=True)
    one = past.append(keys, values, when)
    out = attend_past(q, one, Causal())
    with torch.no_grad():
        past.append(keys, values, when)
        one.append(keys, values, when + 1)
    out.sum().backward()
    assert one.keys.data_ptr() != past.keys.data_ptr()


@torch.inference_mode()
def test_inference_mode_grows_in_place_too() -> None:
    past = _grown([5, 1])
    assert past.append(*_tokens(1, 6)).keys.data_ptr() == past.keys.data_ptr()


def test_a_past_from_inference_mode_goes_on_outside() -> None:
    with torch.inference_mode():
        past = _grown([5, 1])
    with torch.no_grad():
        assert past.append(*_tokens(1, 6)).slots == 7


@torch.no_grad()
def test_padding_moves_to_the_front() -> None:
    keys, values, when = _tokens(4)
    when = when.clone()
    when[0, 1:] = -1
    past = Past.empty(keys, 3, 4).append(keys, values, when).aligned()
    assert past.when.tolist() == [[-1, -1, -1, 0], [0, 1, 2, 3]]
    assert past.seen.tolist() == [1, 4]
    assert not past.even
    torch.testing.assert_close(past.keys[0, :, 3], keys[0, :, 0])
    assert past.latest(1).even, "a row's last token is there"
    both = when.clone()
    both[:, 2:] = -1
    assert Past.empty(keys, 3, 4).append(keys, values, both).aligned().slots == 2, "slots that no row uses were kept"


@torch.no_grad()
def test_a_long_clip_is_let_go() -> None:
    past = _grown([500]).latest(10)
    assert past.keys.untyped_storage().nbytes() == past.keys.numel() * 4
    assert past.when[0].tolist() == list(range(490, 500))


@torch.no_grad()
def test_rows_of_different_length_attend_to_their_own() -> None:
    mixer = Softmax(8, heads=4, kv_heads=2).double()
    x, more = torch.randn(3, 9, 8).double(), torch.randn(3, 6, 8).double()
    valid = torch.arange(9) < torch.tensor([9, 2, 5])[:, None]
    _, state = mixer(x, valid=valid)
    assert state is not None
    for chunk in (more, more[:, :1]):
        y, _ = mixer(chunk, state)
        for row, count in enumerate((9, 2, 5)):
            alone, _ = mixer(torch.cat([x[row, None, :count], chunk[row, None]], 1))
            torch.testing.assert_close(y[row], alone[0, count:])


@torch.no_grad()
@pytest.mark.parametrize("sinks", [0, 3])
def test_a_window_of_one_sees_itself(sinks: int) -> None:
    mixer = SlidingWindow(8, window=1, sinks=sinks).double()
    x = torch.randn(2, 7, 8).double()
    y, _ = mixer(x)
    torch.testing.assert_close(y, mixer.reference(x))
    state, pieces = None, []
    for token in x.split(1, 1):
        piece, state = mixer(token, state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, 1), y)


@torch.no_grad()
def test_what_a_window_keeps_is_what_its_span_needs() -> None:
    mixer = SlidingWindow(8, window=5, sinks=2)
    _, state = mixer(torch.randn(1, 30, 8))
    kept = set(state.first.when[0].tolist()) | set(state.latest.when[0].tolist())
    assert kept == set(torch.arange(30)[mixer.span.needed(torch.arange(30), 30)].tolist())


@torch.no_grad()
def test_sinks_keep_their_distance_inside_the_cache() -> None:
    mixer = SlidingWindow(8, window=6, sinks=2).double()
    x = torch.randn(1, 7, 8).double()
    short = torch.cat([x[:, :2], x[:, 2:].repeat(1, 4, 1)], 1)
    long = torch.cat([x[:, :2], x[:, 2:].repeat(1, 40, 1)], 1)
    # the window holds the same tokens at the end of both; only the age of the sinks differs
    torch.testing.assert_close(mixer(short)[0][:, -1], mixer(long)[0][:, -1])


def test_rotary_is_a_turn_of_complex_numbers() -> None:
    x, when = torch.randn(2, 3, 5, 8).double(), torch.randint(0, 100, (2, 5))
    turned = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(
        torch.ones((), dtype=torch.float64), when[:, None, :, None] * 10000.0 ** (-torch.arange(4).double() / 4)
    )
    expected = torch.cat([turned.real, turned.imag], -1)
    torch.testing.assert_close(rotate(x, turns(when, 8)), expected, rtol=1e-5, atol=1e-5)


def test_rotary_scores_depend_on_distance_only_even_far_out() -> None:
    q, k = torch.randn(2, 1, 1, 1, 64)
    near, far = (
        rotate(q, turns(torch.tensor([[at + 5]]), 64)) @ rotate(k, turns(torch.tensor([[at]]), 64)).mT
        for at in (0, 10_000_000)
    )
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_attention_of_the_newest_tokens() -> None:
    past = _grown([20, 7])
    q = torch.randn(2, 6, 7, 4)
    out, lse = attend_past(q, past, Window(9), with_lse=True)
    scores = q @ past.keys.repeat_interleave(2, 1).mT / 2
    scores = scores.masked_fill(~Window(9).dense(7, 27), -torch.inf)
    torch.testing.assert_close(out, scores.softmax(-1) @ past.values.repeat_interleave(2, 1))
    torch.testing.assert_close(lse, scores.logsumexp(-1))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Softmax(8, heads=4, kv_heads=3), "kv_heads >= 1 that divide heads"),
        (lambda: Softmax(6, heads=2), "even number of channels per head; got 3"),
        (lambda: Bidirectional(6, heads=2), "even number of channels per head; got 3"),
        (lambda: SlidingWindow(8, window=0), "window >= 1"),
    ],
)
def test_mistakes_are_named(wrong, words: str) -> None:
    with pytest.raises(AttimeError, match=words):
        wrong()
