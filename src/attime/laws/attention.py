"""Laws of the attention room: what `mixer(x, state) -> (y, state)` promises over time, rows and padding."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from attime.attention.contract import Mixer
from attime.laws.contract import Law
from attime.laws.numbers import (
    compiles,
    cost_is_as_stated,
    dtype_is_kept,
    every_weight_learns,
    fast_is_reference,
    large_inputs_stay_finite,
    length_one_works,
)
from attime.laws.probes import clip, close, few

__all__ = ["LAWS"]


def any_chunking_agrees(mixer: Mixer) -> None:
    """Cutting time anywhere gives the outputs, the final state and the gradients of one call."""
    mixer.double().eval()
    x = clip(mixer).requires_grad_()
    whole, end = mixer(x)
    (expected,) = torch.autograd.grad(whole.square().sum(), x, retain_graph=True)

    @few(12)
    @given(st.sets(st.integers(1, x.shape[1] - 1)))
    def check(cuts: set[int]) -> None:
        edges = [0, *sorted(cuts), x.shape[1]]
        state, outputs = None, []
        for start, stop in pairwise(edges):
            y, state = mixer(x[:, start:stop], state)
            outputs.append(y)
        pieces = torch.cat(outputs, dim=1)
        close(pieces, whole, f"outputs change when time is cut at {sorted(cuts)}")
        (gradient,) = torch.autograd.grad(pieces.square().sum(), x, retain_graph=True)
        close(gradient, expected, f"gradients change when time is cut at {sorted(cuts)}")
        more = clip(mixer, seed=2)[:, :3]
        close(
            mixer(more, state)[0],
            mixer(more, end)[0],
            f"the state after cuts at {sorted(cuts)} continues differently",
        )

    check()


def past_ignores_future(mixer: Mixer) -> None:
    """Changing a token leaves every earlier output exactly as it was."""
    mixer.double().eval()
    x = clip(mixer)
    before, _ = mixer(x)

    @few(6)
    @given(st.integers(1, x.shape[1] - 1))
    def check(place: int) -> None:
        changed = x.clone()
        changed[:, place:] += 1 + torch.rand_like(changed[:, place:])
        after, _ = mixer(changed)
        torch.testing.assert_close(
            after[:, :place],
            before[:, :place],
            rtol=0,
            atol=1e-12,
            msg=f"outputs before token {place} moved when tokens from it on changed",
        )

    check()


def last_token_is_seen(mixer: Mixer) -> None:
    """Every output depends on its own token, and the outputs on more than their own tokens."""
    mixer.double().eval()
    x = clip(mixer)
    before, _ = mixer(x)
    moved = x.clone()
    moved[:, -1] += torch.randn_like(moved[:, -1])
    assert not torch.allclose(mixer(moved)[0][:, -1], before[:, -1]), "the last output ignores the last token"
    if x.shape[1] > 2 or mixer.traits.grid:
        moved = x.clone()
        moved[:, -2 if x.shape[1] > 1 else -1] += torch.randn_like(moved[:, -1])
        assert not torch.allclose(mixer(moved)[0][:, -1], before[:, -1]), "the last output ignores the token before it"


def padding_is_ignored(mixer: Mixer) -> None:
    """A row gives the same outputs, and the same future, alone as padded on any side beside a longer row."""
    mixer.double().eval()
    x = clip(mixer)
    length = x.shape[1]

    @few(8)
    @given(st.sets(st.integers(0, length - 1), min_size=1, max_size=length - 1))
    def check(padded: set[int]) -> None:
        valid = torch.ones(x.shape[:2], dtype=torch.bool)
        valid[0, sorted(padded)] = False
        rubbish = torch.where(valid[..., None], x, torch.full_like(x, 1e3))
        y, state = mixer(rubbish, valid=valid)
        alone, alone_state = mixer(x[:1, valid[0]])
        assert bool((y[~valid] == 0).all()), "outputs at padding are not zero"
        close(y[:1][:, valid[0]], alone, f"row with padding at {sorted(padded)} differs from the row alone")
        close(y[1:], mixer(x[1:])[0], "padding in one row changed another row")
        if mixer.traits.causal:
            more = clip(mixer, seed=2)[:, :5]
            close(
                mixer(more, state)[0][:1],
                mixer(more[:1], alone_state)[0],
                f"after padding at {sorted(padded)} the stream goes on differently",
            )

    check()


def rows_are_independent(mixer: Mixer) -> None:
    """A batch gives what its rows give alone; selecting rows of the state goes on with those rows."""
    mixer.double().eval()
    x, more = clip(mixer), clip(mixer, seed=2)
    y, state = mixer(x)
    close(y[1:], mixer(x[1:])[0], "a row's outputs depend on the other rows of the batch")
    if mixer.traits.causal:
        order = torch.tensor([1, 0, 1])
        close(
            mixer(more[order], state.select(order))[0],
            mixer(more, state)[0][order],
            "state.select does not follow its rows",
        )


def state_is_a_value(mixer: Mixer) -> None:
    """A state can be kept, branched from and fed again: using it does not change it."""
    mixer.double().eval()
    x, one, other = clip(mixer), clip(mixer, seed=2), clip(mixer, seed=3)
    with torch.no_grad():
        _, state = mixer(x)
        first, branch = mixer(one[:, :1], state)
        mixer(other, state)
        again, _ = mixer(one[:, :1], state)
        close(again, first, "feeding one state twice gives two answers", exact=True)
        expected, _ = mixer(torch.cat([x, one[:, :1], other], dim=1))
        close(mixer(other, branch)[0], expected[:, x.shape[1] + 1 :], "a second branch disturbed the first")
    assert not any(tensor.requires_grad for tensor in mixer(x)[1].detach().tensors()), "state.detach() keeps gradients"


def bounded_state_stays_bounded(mixer: Mixer) -> None:
    """A long past and one four times as long leave states of the same size."""
    mixer.eval()
    sizes = []
    with torch.no_grad():
        for repeats in (6, 24):
            state = None
            for _ in range(repeats):
                _, state = mixer(clip(mixer, dtype=torch.float32), state)
            assert state is not None
            sizes.append(state.nbytes)
    assert sizes[0] == sizes[1], f"state grew from {sizes[0]} to {sizes[1]} bytes; do not claim bounded=True"


LAWS = (
    Law(any_chunking_agrees, needs=("causal",)),
    Law(past_ignores_future, needs=("causal",)),
    Law(state_is_a_value, needs=("causal",)),
    Law(bounded_state_stays_bounded, needs=("causal", "bounded")),
    Law(padding_is_ignored, needs=("valid",)),
    Law(last_token_is_seen),
    Law(rows_are_independent),
    Law(fast_is_reference),
    Law(every_weight_learns),
    Law(dtype_is_kept),
    Law(length_one_works),
    Law(large_inputs_stay_finite),
    Law(cost_is_as_stated),
    Law(compiles),
)
