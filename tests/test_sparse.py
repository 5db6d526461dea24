"""Sparse mixers: known values, exact identities, streaming by eviction, bad input."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from attime.attention import spans
from attime.attention.kernels.tiles import Tiles, attend_tiles, attend_tiles_naive
from attime.attention.sparse import BiLevelRouting, CausalNeighbourhood, Neighbourhood, Radial, Sharded
from attime.attention.sparse.neighbourhood import boxes
from attime.errors import AttimeError


def mask_of(tiles: Tiles, places: int) -> torch.Tensor:
    """The dense mask that a table stands for; each query must stand in exactly one tile."""
    mask = torch.zeros(places, places, dtype=torch.bool)
    times = torch.zeros(places, dtype=torch.int64)
    for query, key, seen in zip(tiles.query, tiles.key, tiles.seen, strict=True):
        for place, row in zip(query.tolist(), seen, strict=True):
            if place >= 0:
                times[place] += 1
                mask[place, key[row]] = True
    assert bool((times == 1).all())
    return mask


def test_windows_shift_at_borders_as_in_natten():
    tiles = boxes((1, 1, 7), (1, 1, 3))
    seen = [row.nonzero().flatten().tolist() for row in mask_of(tiles, 7)]
    assert seen == [[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6], [4, 5, 6]]
    even = [row.nonzero().flatten().tolist() for row in mask_of(boxes((1, 1, 5), (1, 1, 2)), 5)]
    assert even == [[0, 1], [0, 1], [1, 2], [2, 3], [3, 4]]  # one more before than after
    dilated = [row.nonzero().flatten().tolist() for row in mask_of(boxes((1, 1, 7), (1, 1, 2), (1, 1, 3)), 7)]
    assert dilated == [[0, 3], [1, 4], [2, 5], [0, 3], [1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize(
    ("sizes", "kernel", "dilation", "causal"),
    [
        ((1, 1, 150), (1, 1, 9), (1, 1, 1), (False, False, False)),
        ((1, 1, 131), (1, 1, 4), (1, 1, 7), (False, False, True)),
        ((1, 19, 11), (1, 7, 3), (1, 2, 3), (False, True, False)),
        ((6, 5, 9), (2, 5, 3), (3, 1, 2), (True, False, False)),
        ((4, 3, 1), (4, 1, 1), (1, 1, 1), (False, False, False)),
    ],
)
def test_boxes_and_span_agree(sizes, kernel, dilation, causal):
    places = sizes[0] * sizes[1] * sizes[2]
    span = spans.Neighbourhood(sizes, kernel, dilation, causal)
    assert torch.equal(mask_of(boxes(sizes, kernel, dilation, causal), places), span.dense(places))


def test_tiles_are_the_equation_with_gradients():
    tiles = boxes((3, 5, 6), (2, 3, 4), (1, 1, 1), (True, False, False))
    inputs = torch.randn(3, 2, 2, 90, 4, dtype=torch.float64)
    results = []
    for form in (attend_tiles, attend_tiles_naive):
        q, k, v = (each.clone().requires_grad_() for each in inputs)
        out = form(q, k, v, tiles, 0.7)
        results.append((out, *torch.autograd.grad(out.square().sum(), (q, k, v))))
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow)


def test_window_over_everything_is_plain_attention():
    q, k, v = torch.randn(3, 1, 2, 4 * 5 * 3, 8, dtype=torch.float64)
    whole = attend_tiles(q, k, v, boxes((4, 5, 3), (4, 5, 3)), 8**-0.5)
    torch.testing.assert_close(whole, F.scaled_dot_product_attention(q, k, v))


def test_short_axes_are_seen_whole():
    x = torch.randn(1, 1, 3, 2, 8)
    mixer = Neighbourhood(8, kernel=7)
    torch.testing.assert_close(mixer(x)[0], mixer.reference(x))


def test_table_grows_with_the_line_and_not_with_its_square():
    sizes = [boxes((1, 1, length), (1, 1, 65)).seen.numel() for length in (1024, 2048, 4096)]
    assert sizes == [sizes[0], 2 * sizes[0], 4 * sizes[0]]


def test_streaming_neighbourhood_is_the_causal_one():
    kernel, dilation = (3, 3, 5), (2, 1, 1)
    stream = CausalNeighbourhood(8, frame=(4, 5), kernel=kernel, dilation=dilation).double()
    whole = Neighbourhood(8, causal=(True, False, False), kernel=kernel, dilation=dilation).double()
    whole.load_state_dict(stream.state_dict())
    x = torch.randn(2, 9, 4, 5, 8, dtype=torch.float64)
    outputs, state = [], None
    for frame in x.split([1, 1, 3, 4], dim=1):
        y, state = stream(frame, state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole(x)[0])
    assert state is not None
    assert state.keys.shape[2] == 4 * 20  # the last (3 - 1) * 2 frames


def test_shards_are_the_rule_written_out():
    mixer = Sharded(8, heads=2, stride=4, local=1, block=2, shift=1)
    mask = mixer.span.dense(17)
    for head, query, key in itertools.product(range(2), range(17), range(17)):
        i, j = query // 2, key // 2
        assert mask[head, query, key] == (key <= query and (i - j < 1 or (j + 2 * head + 1) % 4 == 0))
    assert bool(
        Sharded(8, heads=4, stride=4, local=1, block=2).span.dense(40).any(0).equal(torch.ones(40, 40).tril() > 0)
    )


def test_evicting_by_the_rule_changes_nothing():
    mixer = Sharded(16, heads=4, stride=4, local=2, block=4).double()
    with torch.no_grad():
        mixer.inputs.weight.mul_(4)  # away from uniform, so that a wrong mask shows
        x = torch.randn(1, 301, 16, dtype=torch.float64)
        whole = mixer.reference(x)
        y, state = mixer(x[:, :37])
        outputs, most = [y], 0
        for piece in x[:, 37:].split([200, *[1] * 64], dim=1):
            y, state = mixer(piece, state)
            outputs.append(y)
            most = max(most, state.keys.shape[2])
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole)
    assert most <= 301 / 4 + 2 * 4 + 4


def test_shards_of_rows_that_differ_in_length():
    mixer = Sharded(8, heads=2, stride=3, local=1, block=2).double()
    x, more = torch.randn(2, 11, 8, dtype=torch.float64), torch.randn(2, 6, 8, dtype=torch.float64)
    valid = torch.ones(2, 11, dtype=torch.bool)
    valid[0, 5:] = False
    _, state = mixer(x, valid=valid)
    alone = mixer.reference(torch.cat([x[:1, :5], more[:1]], dim=1))[:, 5:]
    torch.testing.assert_close(mixer(more, state)[0][:1], alone)


def test_radial_bands_narrow_and_thin_out():
    frames, places, block = 9, 32, 8  # L = 64
    mask = spans.Radial(frames, places, decay=0.5, block=block).dense(frames * places)
    pairs = mask.view(frames, places, frames, places)[0, 16]  # the middle place of frame 0
    assert pairs.sum(-1).tolist() == [32, 32, 17, 17, 17, 17, 17, 17, 17]  # L / 2^g = 16, 8, 4: the last, every second
    assert spans.Radial(99, places, block=block).width(17) == -1  # L / 2^5 = 2: one frame in four
    assert spans.Radial(99, places, block=block).width(20) == block
    sink = Radial(8, decay=0.5, block=block).span(frames, places).dense(frames * places)
    assert bool(sink[:, :places].all())
    assert torch.equal(sink[:, places:], mask[:, places:])


def test_wide_bands_are_plain_attention():
    mixer = Radial(8, decay=100.0, block=1, sink=False).double()
    x = torch.randn(2, 4, 3, 5, 8, dtype=torch.float64)
    q, k, v = mixer.inputs(x.flatten(1, 3)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    full = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape_as(x)
    torch.testing.assert_close(mixer(x)[0], mixer.output(full))


@pytest.mark.parametrize("sizes", [(1, 6, 8), (3, 5, 7)])
def test_all_regions_are_plain_attention(sizes):
    mixer = BiLevelRouting(8, regions=(2, 3, 4), topk=24).double()
    x = torch.randn(2, *sizes, 8, dtype=torch.float64)
    q, k, v = mixer.inputs(x.flatten(1, 3)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    full = F.scaled_dot_product_attention(q, k, v, scale=8**-0.5).transpose(1, 2).reshape_as(x)
    values = v.transpose(1, 2).reshape_as(x).flatten(0, 1)
    near = mixer.local(values.movedim(-1, 1)).movedim(1, -1).view_as(x)
    torch.testing.assert_close(mixer(x)[0], mixer.output(full + near))
    assert bool(mixer.reads(x).all())


def test_routes_lead_to_the_like():
    mixer = BiLevelRouting(4, heads=1, regions=(1, 2, 2), topk=1, local=1)
    with torch.no_grad():
        mixer.inputs.weight.copy_(torch.eye(4).repeat(3, 1))
        mixer.inputs.bias.zero_()
    x = torch.eye(4)[torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]])][None, None]
    x[..., 2:, 2:, :] *= 2  # the lower right region has the same direction as the upper left, and is longer
    reads = mixer.reads(x)[0]
    assert reads[0].nonzero().flatten().tolist() == [10, 11, 14, 15]
    assert int(reads.sum()) == 16 * 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: Neighbourhood(8, kernel=0),
        lambda: Neighbourhood(8, heads=3),
        lambda: CausalNeighbourhood(8, frame=(0, 3)),
        lambda: Sharded(8, heads=2, stride=0),
        lambda: Radial(8, decay=0.0),
        lambda: BiLevelRouting(8, local=4),
        lambda: CausalNeighbourhood(8, frame=(4, 4))(torch.randn(1, 1, 4, 5, 8)),
        lambda: Neighbourhood(8)(torch.randn(1, 5, 8)),
    ],
)
def test_mistakes_are_named(make):
    with pytest.raises(AttimeError):
        make()
