"""What a control is: pure functions on what one attention call computes, at the sites and steps where it acts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attime.errors import AttimeError
from attime.given import Given
from attime.part import Part
from attime.site import Kind, Site, Where

__all__ = ["STAGES", "Call", "Control", "Layout", "Traits", "steered"]

Heads = Float[Tensor, "batch heads time head_dim"]
Maps = Float[Tensor, "batch heads query key"]
STAGES = ("heads", "scores", "maps", "outputs")
"""What a control can change, in the order in which an attention call computes it."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which tokens of a call are parts of a clip: `frames` times `places` tokens from `start` on, frame by frame."""

    frames: int
    places: int
    """Tokens of a frame."""
    start: int = 0
    """Tokens (words) before the first frame."""
    rows: int = field(default=1, compare=False)
    """Rows of the batch that belong to one clip: its frames where a call sees one frame, its places where it sees one place."""
    wide: int | None = field(default=None, compare=False)
    """Tokens of a line of a frame, where the call sees whole frames; rows of a line, where it sees one place."""

    @property
    def stop(self) -> int:
        """The token after the last frame."""
        return self.start + self.frames * self.places


@dataclass
class Call:
    """One call of attention at one site: what a control or a measure may look at."""

    site: Site
    step: int
    """Forward passes of the model, or changes of its time step, since the block was entered or another run began in it."""
    q: Heads
    k: Heads
    """As attention sees them, rotated; key-value heads are repeated for their query heads."""
    v: Heads
    scale: float
    mask: Tensor | None = None
    """As the model gave it: added to the scores, or True where a key is seen; broadcasts to (batch heads query key)."""
    causal: bool = False
    """Besides, no query sees a key that comes after it, counted from the first of both."""
    layout: Layout | None = None
    """None where tokens are not parts of a clip."""
    visual: Bool[Tensor, "batch key"] | None = None
    """Which keys are tokens of pictures or clips, in a vision-language model."""
    hidden: Tensor | None = None
    """(batch, time, dim): what the attention module was given."""
    stream: Tensor | None = None
    """(batch, time, dim): what the block around the attention module was given, before any norm."""
    rotary: tuple[Tensor, Tensor] | None = None
    """Cosines and sines (batch or 1, time, at most head_dim), halves alike, by which the queries and their keys were turned."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Whatever a control writes down for its later calls in the same block."""

    @cached_property
    def scores(self) -> Maps:
        """Logits before the softmax, in float32 at least."""
        q, k = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in (self.q, self.k))
        scores = q @ k.transpose(-1, -2) * self.scale
        return scores if self.added is None else scores + self.added

    @cached_property
    def added(self) -> Float[Tensor, "*batch query key"] | None:
        """What is added to the scores, 0 or -inf as a rule, causality included; None where everything is seen."""
        mask, device = self.mask, self.q.device
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=self.q.dtype, device=device).masked_fill(~mask, -torch.inf)
        if self.causal:
            later = torch.ones(self.q.shape[2], self.k.shape[2], dtype=torch.bool, device=device).triu(1)
            never = torch.zeros(later.shape, dtype=self.q.dtype, device=device).masked_fill(later, -torch.inf)
            mask = never if mask is None else mask + never
        return mask

    @cached_property
    def seen(self) -> Bool[Tensor, "*batch query key"]:
        """Which keys the model lets which queries see, padding included; broadcasts to (batch heads query key)."""
        if self.added is None:
            return torch.ones(self.q.shape[2], self.k.shape[2], dtype=torch.bool, device=self.q.device)
        least = torch.finfo(self.added.dtype).min / 2
        return (self.added > least).expand(*self.added.shape[:-2], self.q.shape[2], self.k.shape[2])

    @cached_property
    def maps(self) -> Maps:
        """Softmax of the scores: rows sum to one, or are 0 where nothing is seen, as at padding."""
        nothing = self.scores.amax(-1, keepdim=True) == -torch.inf
        if not nothing.any():
            return self.scores.softmax(-1)
        return self.scores.masked_fill(nothing, 0.0).softmax(-1).masked_fill(nothing, 0.0)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a control claims or needs; each claim is checked by a law."""

    rows: bool = True
    """The maps that it makes have rows of sum one, with no entry below 0."""
    kinds: tuple[Kind, ...] = ()
    """Kinds of sites for which it is meant; empty: any."""
    visual: bool = False
    """Needs to know which tokens are of pictures."""
    layout: bool = False
    """Needs to know which tokens are of which frame."""
    stream: bool = False
    """Needs what the block around the attention module was given."""
    rotary: bool = False
    """Needs to know how queries and keys were turned."""


@dataclass(frozen=True, kw_only=True)
class Control(Given, Part):
    """A frozen, keyword-only dataclass that overrides one or more of the four stages; what it does not override stays fast.

    A stage is a pure function: it returns what shall be used instead and leaves its arguments as they are. What several
    calls share goes into `call.notes`.
    """

    traits: ClassVar[Traits] = Traits()
    where: ClassVar[Where | None] = None
    """The sites where it acts unless the user says otherwise; None: all of its kinds."""
    strength: float = 1.0
    """0 is the identity, bit for bit."""
    steps: range | None = None
    """Steps at which it acts; None: all."""

    def check(self, sites: Sequence[Site]) -> None:
        """AttimeError if it could never act as it should at the sites of a model that it is put on."""

    def heads(self, call: Call) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values before the scores."""
        return call.q, call.k, call.v

    def layout(self, call: Call) -> Layout | None:
        """Where tokens are in what `heads` makes of the call.

        Who overrides it may put queries into other rows, and back into their own in `outputs`: it acts nearest to attention,
        between the `heads` and the `outputs` of all others, whatever the order.
        """
        return call.layout

    def scores(self, scores: Maps, call: Call) -> Maps:
        """Logits before the softmax."""
        return scores

    def maps(self, maps: Maps, call: Call) -> Maps:
        """Attention after the softmax."""
        return maps

    def outputs(self, out: Heads, call: Call) -> Heads:
        """Outputs of every head, before they are mixed."""
        return out

    def acts(self, call: Call) -> bool:
        """Whether it has anything to do at this step."""
        return self.strength != 0 and (self.steps is None or call.step in self.steps)

    @classmethod
    def stages(cls) -> tuple[str, ...]:
        """The stages that this class overrides."""
        return tuple(stage for stage in STAGES if getattr(cls, stage) is not getattr(Control, stage))

    @classmethod
    def regroups(cls) -> bool:
        """Whether it may put queries into other rows."""
        return cls.layout is not Control.layout


def steered(
    call: Call,
    controls: list[tuple[Control, dict[str, Any]]],
    fast: Callable[[Heads, Heads, Heads], Heads],
    *,
    explicit: bool = False,
) -> Heads:
    """Outputs of a call under controls, each with its own notes; `fast` is attention where nobody asks for scores or maps.

    With `explicit`, outputs are computed from the map all the same, so that gradients reach it. What the controls made of
    queries, keys, values, scores, maps and layout is what `call` holds afterwards.
    """
    notes = call.notes
    stages = {stage for control, _ in controls for stage in control.stages()}
    explicit = explicit or bool(stages & {"scores", "maps"})
    controls = sorted(controls, key=lambda each: each[0].regroups())
    inner = list[tuple[Control, Call]]()
    for control, own in controls:
        call.notes = own
        (q, k, v), layout = control.heads(call), control.layout(call)
        if control.regroups():
            inner.append((control, replace(call)))
        elif q.shape[:3] != call.q.shape[:3]:
            raise AttimeError(
                f"{type(control).__name__} must keep the queries (batch heads time) of {call.site.name} as they are, "
                f"{tuple(call.q.shape[:3])}, or say by layout how they lie now; it made {tuple(q.shape[:3])}."
            )
        call.q, call.k, call.v, call.layout = q, k, v, layout
    if "heads" in stages:
        for stage in ("scores", "maps"):
            call.__dict__.pop(stage, None)
    if not explicit:
        out = fast(call.q, call.k, call.v)
    else:
        for stage in ("scores", "maps"):
            now = getattr(call, stage)
            for control, own in controls:
                call.notes = own
                now = getattr(control, stage)(now, call)
                if now.shape[-2:] != (call.q.shape[2], call.k.shape[2]):
                    raise AttimeError(
                        f"{type(control).__name__} must keep the {stage} (query key) of {call.site.name} as they are, "
                        f"{call.q.shape[2]} x {call.k.shape[2]}; it made {now.shape[-2]} x {now.shape[-1]}."
                    )
            setattr(call, stage, now)
        out = call.maps.to(call.v.dtype) @ call.v
    whole = call
    for control, whole in reversed(inner):
        out = control.outputs(out, whole)
    for control, own in controls[: len(controls) - len(inner)]:
        whole.notes = own
        out = control.outputs(out, whole)
    call.notes = notes
    return out
