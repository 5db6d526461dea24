"""Laws of the models room: what a composition promises, whatever it is made of."""

import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor

from attime.laws.contract import Law
from attime.models.contract import Model
from attime.models.series import SeriesModel
from attime.models.tokens import TokenModel

__all__ = ["LAWS"]

LENGTH = 17


def any_cutting_agrees(model: Model) -> None:
    """Feeding the inputs in pieces gives the outputs of feeding them at once."""
    model.double().eval()
    inputs = _inputs(model)
    whole, end = _outputs(model, inputs)
    for cuts in ([1], [5], [1, 2, 16], list(range(1, LENGTH))):
        state, pieces = None, []
        for piece in inputs.tensor_split(cuts, dim=1):
            hidden, state = model(piece, state)
            pieces.append(hidden)
        _close(model.head(torch.cat(pieces, dim=1).flatten(0, 1)), whole, f"outputs change when time is cut at {cuts}")
        more = _inputs(model, seed=2)
        _close(model(more, state)[0], model(more, end)[0], f"the state after cuts at {cuts} continues differently")


def padding_is_ignored(model: Model) -> None:
    """Padding before, between or after a row's inputs changes nothing."""
    model.double().eval()
    inputs = _inputs(model)
    for padded in ([0, 1], [LENGTH - 1], [3, 4, 9]):
        valid = torch.ones(inputs.shape[:2], dtype=torch.bool)
        valid[0, padded] = False
        hidden, _ = model(inputs, valid=valid)
        alone, _ = model(inputs[:1, valid[0]])
        _close(hidden[:1, valid[0]], alone, f"a row with padding at {padded} differs from the row alone")


def few_steps_lower_the_loss(model: Model) -> None:
    """Twenty steps of Adam on one batch lower its loss."""
    torch.manual_seed(0)
    model.float().train()
    inputs = _inputs(model)
    inputs = inputs.float() if inputs.is_floating_point() else inputs
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses: list[float] = []
    for _ in range(20):
        outputs, _ = _outputs(model, inputs)
        target = torch.full_like(outputs[..., 0], 0.5)
        loss = (outputs[..., 0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0], f"the loss went from {losses[0]:.4g} to {losses[-1]:.4g} in 20 steps"


def saves_and_loads(model: Model) -> None:
    """A model's weights, written and read, give the same outputs."""
    model.eval()
    inputs = _inputs(model)
    inputs = inputs.float() if inputs.is_floating_point() else inputs
    expected, _ = _outputs(model, inputs)
    with tempfile.TemporaryFile() as file:
        torch.save(model.state_dict(), file)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(1.0)
        file.seek(0)
        model.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(_outputs(model, inputs)[0], expected, rtol=0, atol=0)


LAWS: Sequence[Law] = (
    Law(any_cutting_agrees, needs=("causal",)),
    Law(padding_is_ignored, needs=("causal",)),
    Law(few_steps_lower_the_loss),
    Law(saves_and_loads),
)


def _inputs(model: Model, *, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(model, TokenModel):
        return torch.randint(model.vocabulary, (2, LENGTH), generator=generator)
    channels = model.channels if isinstance(model, SeriesModel) else 3
    return torch.randn(2, LENGTH, channels, generator=generator, dtype=torch.float64)


def _outputs(model: Model, inputs: Tensor) -> tuple[Tensor, object]:
    hidden, state = model(inputs)
    return model.head(hidden.flatten(0, 1)), state


def _close(ours: Tensor, theirs: Tensor, message: str) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8, msg=lambda detail: f"{message}\n{detail}")
