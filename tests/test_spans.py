"""Spans: the dense oracle, the block list, the FlexAttention mask and the eviction rule are one rule."""

import itertools

import pytest
import torch
from torch import Tensor

from attime.attention.spans import (
    Causal,
    Dilated,
    Documents,
    FrameCausal,
    Neighbourhood,
    Prefix,
    Radial,
    Sinks,
    Span,
    Strided,
    Window,
)
from attime.errors import AttimeError

LENGTH, SHORT = 97, 13

ATOMS: list[Span] = [
    Causal(),
    Window(1),
    Window(20),
    Window(7, causal=False),
    Dilated(5, 3),
    Dilated(4, 6, causal=False),
    Sinks(5),
    Prefix(30),
    Documents((7, 30, 1, 59)),
    Strided(3, stride=4, local=2, block=5),
    Strided(8, stride=3, local=1, block=8, shift=2),
    Strided(2, stride=1, local=1, block=8),
    FrameCausal(9),
    Neighbourhood((97,), (7,)),
    Neighbourhood((97,), (6,), (5,)),
    Neighbourhood((97,), (5,), (3,), (True,)),
    Neighbourhood((9, 11), (3, 5)),
    Neighbourhood((9, 11), (3, 5), (3, 2)),
    Neighbourhood((5, 4, 5), (3, 3, 3), (1, 1, 1), (True, False, False)),
    Neighbourhood((6, 4, 5), (2, 1, 2), (3, 2, 2), (True, False, True)),
    Radial(11, 9, block=2),
    Radial(25, 4, block=3, decay=0.5, beside=2),
]
MIXED: list[Span] = [
    (Window(12) | Sinks(3)) & Causal(),
    Causal() | Prefix(40),
    Causal() & Documents((50, 47)) & Window(9),
    FrameCausal(10) & (Window(30, causal=False) | Sinks(10)),
    (Strided(3, stride=5, local=2, block=4) | Sinks(2)) & Causal(),
    Radial(11, 9, block=2) | Sinks(9),
]


def _pairs(span: Span, head: int) -> Tensor:
    """The rule asked about one pair at a time."""
    at = torch.tensor(head)
    every = [
        [bool(span.allows(torch.tensor(query), torch.tensor(key), at)) for key in range(SHORT)]
        for query in range(SHORT)
    ]
    return torch.tensor(every)


@pytest.mark.parametrize("span", ATOMS + MIXED, ids=str)
def test_broadcasting_is_asking_about_every_pair(span: Span) -> None:
    dense = span.dense(SHORT)
    for head in range(span.heads or 1):
        torch.testing.assert_close(dense[head] if span.heads else dense, _pairs(span, head))


@pytest.mark.parametrize("span", ATOMS + MIXED, ids=str)
@pytest.mark.parametrize(("size", "queries", "offset"), [(8, LENGTH, 0), (16, LENGTH, 0), (5, 40, 57), (64, 30, 11)])
def test_the_list_covers_the_mask(span: Span, size: int, queries: int, offset: int) -> None:
    keys = LENGTH
    dense = span.dense(queries, keys, offset=offset).expand(span.heads or 1, queries, keys)
    blocks = span.blocks(queries, keys, offset=offset, size=size)
    tiles = _tiles(dense, size)
    assert bool((blocks.some | ~tiles.any(-1)).all()), "a block that is read is not listed"
    assert bool((tiles.all(-1) | ~blocks.every).all()), "a block that is not whole is listed as whole"
    torch.testing.assert_close(blocks.dense(), dense)


@pytest.mark.parametrize(
    "span", [Causal(), Window(20), Window(7, causal=False), Documents((7, 30, 1, 59)), FrameCausal(9)]
)
def test_simple_lists_are_exact(span: Span) -> None:
    tiles = _tiles(span.dense(LENGTH)[None], 8)
    blocks = span.blocks(LENGTH, size=8)
    torch.testing.assert_close(blocks.some, tiles.any(-1))
    torch.testing.assert_close(blocks.every, tiles.all(-1))


@pytest.mark.parametrize("span", ATOMS + MIXED, ids=str)
@pytest.mark.parametrize("offset", [0, 30])
def test_flex_attention_gets_the_same_mask(span: Span, offset: int) -> None:
    queries, size = LENGTH - offset, 16
    dense = span.dense(queries, LENGTH, offset=offset).expand(span.heads or 1, queries, LENGTH)
    mask = span.block_mask(queries, LENGTH, offset=offset, size=size)
    listed = mask.to_dense()[0].bool()
    assert bool((listed | ~_tiles(dense, size).any(-1)).all())
    head, query, key = torch.meshgrid(*(torch.arange(count) for count in dense.shape), indexing="ij")
    asked = mask.mask_mod(torch.zeros_like(head), head, query, key)
    wide = listed.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, :queries, :LENGTH]
    torch.testing.assert_close(asked & wide, dense)


@pytest.mark.parametrize("span", [each & Causal() for each in ATOMS] + MIXED, ids=str)
def test_a_key_that_is_still_seen_is_never_thrown_away(span: Span) -> None:
    key = torch.arange(LENGTH)
    dense = span.dense(LENGTH).expand(span.heads or 1, LENGTH, LENGTH)
    for now, head in itertools.product((0, 1, 13, 40, 96), range(span.heads or 1)):
        seen_later = dense[head, now:].any(0)
        kept = span.needed(key, now, torch.tensor(head)).expand(LENGTH)
        assert bool((kept | ~seen_later).all()), f"at {now} a key that is seen later was thrown away"


@pytest.mark.parametrize(
    "span",
    [
        Window(20),
        Dilated(5, 3),
        Strided(3, stride=4, local=2, block=5),
        Documents((7, 30, 1, 200)),
        Window(9) & Causal(),
    ],
    ids=str,
)
def test_a_cache_keeps_no_more_than_it_must(span: Span) -> None:
    now, length = 60, 200
    dense = span.dense(length).expand(span.heads or 1, length, length)
    for head in range(span.heads or 1):
        kept = span.needed(torch.arange(now), now, torch.tensor(head))
        torch.testing.assert_close(kept, dense[head, now:, :now].any(0))


def test_known_masks() -> None:
    assert Window(2).dense(4).int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert (Causal() | Prefix(2)).dense(3).int().tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    # at a border the neighbourhood keeps its size
    assert Neighbourhood((5,), (3,)).dense(5).int().tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
    ]
    # two interleaved grids
    assert Neighbourhood((6,), (2,), (2,)).dense(6)[4].int().tolist() == [0, 0, 1, 0, 1, 0]
    assert Neighbourhood((4, 6, 7), (3, 3, 5)).dense(168).sum(-1).unique().tolist() == [45]


def test_shards_of_all_heads_cover_the_past() -> None:
    dense = Strided(4, stride=4, local=1, block=2).dense(64)
    torch.testing.assert_close(dense.any(0), Causal().dense(64))
    assert bool((dense.sum(-1)[:, -1] < 64 / 2).all()), "no head sees it all"


def test_radial_bands_narrow_and_thin_out() -> None:
    span = Radial(16, 200, block=64)  # L = 256
    assert [span.width(distance) for distance in range(8)] == [200, 200, 64, 64, 64, -1, 64, -1]
    assert [span.width(distance) for distance in (8, 9, 10, 11)] == [64, -1, -1, -1]  # L / 2^4 = 16: every fourth
    assert Radial(16, 200, block=64, decay=0.95).width(2) == 64
    assert Radial(4, 200, block=16, decay=0.95).width(2) == 60
    assert Radial(4, 200, block=16, beside=100).width(1) == 100


def test_a_stream_has_no_last_frame() -> None:
    span = Neighbourhood((2, 3, 4), (2, 3, 3), None, (True, False, False))
    far = span.allows(torch.arange(12 * 9, 12 * 10)[:, None], torch.arange(12 * 8, 12 * 10))
    torch.testing.assert_close(far, span.dense(24)[12:])


def test_lists_are_kept_and_small() -> None:
    span = Window(512)
    assert span.blocks(4096) is Window(512).blocks(4096)
    assert span.blocks(4096).density < 0.15


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Window(0), "size >= 1"),
        (lambda: Documents(()), "lengths >= 1"),
        (lambda: Strided(0), "count"),
        (lambda: Neighbourhood((4, 4), (3,)), "one entry per axis"),
        (lambda: Neighbourhood((4,), (3,), (2,)), "kernel \\* dilation <= size"),
        (lambda: Radial(4, 4, decay=0.0), "decay > 0"),
        (lambda: Strided(3) | Strided(4), "got 3 and 4"),
        (lambda: Strided(3).allows(torch.tensor(1), torch.tensor(0)), "pass head="),
        (lambda: Causal().blocks(4, 3), "offset >= 0"),
    ],
)
def test_mistakes_are_named(wrong, words: str) -> None:
    with pytest.raises(AttimeError, match=words):
        wrong()


def _tiles(dense: Tensor, size: int) -> Tensor:
    """(heads, query blocks, key blocks, pairs), where pairs past the end repeat the last."""
    for axis in (1, 2):
        place = torch.arange(-(-dense.shape[axis] // size) * size).clamp(max=dense.shape[axis] - 1)
        dense = dense.index_select(axis, place)
    return dense.unflatten(1, (-1, size)).unflatten(3, (-1, size)).transpose(2, 3).flatten(3)
