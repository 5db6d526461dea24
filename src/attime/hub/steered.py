"""`with steer(pipeline, control):` attention at some sites is changed, as long as this lasts."""

from contextlib import ExitStack
from types import TracebackType
from typing import Any

from attime.control.call import Call
from attime.control.contract import Control
from attime.errors import AttimeError
from attime.hub.located import sites
from attime.hub.tap import Listener
from attime.site import Chosen, select

__all__ = ["Steered", "Under", "steer"]

NEEDS = {
    "visual": ("which tokens are of pictures", "vision-language"),
    "layout": ("which tokens are of which frame", "video"),
    "stream": ("what its block was given", "language"),
    "rotary": ("how queries and keys were turned", "language"),
}


def steer(model: object, *controls: Control, where: Chosen = None) -> "Steered":
    """Put controls under the attention of a model, or of the models of a pipeline, inside a `with`.

    Several act one after the other, those of an outer `with` first. Without `where` each acts at the sites for which it is
    meant. A control of strength 0 changes nothing, bit for bit (a model whose attention is "eager" computes by "sdpa"
    meanwhile); afterwards the model is as it was.

    Three lines around what is there already. More motion in an AnimateDiffPipeline:

    >>> from attime.control.diffusion import FourierGain
    >>> from attime.hub import steer
    >>> with steer(pipe, FourierGain(steps=range(5))):
    ...     frames = pipe("a cat runs", num_inference_steps=25).frames[0]

    What happens in the second half of the clip comes first, in a CogVideoXPipeline:

    >>> from attime.control.diffusion import FrameOrder
    >>> from attime.hub import steer
    >>> with steer(pipe, FrameOrder(order=(1, 0), steps=range(20))):
    ...     frames = pipe("a cat runs", num_inference_steps=50).frames[0]

    Answers that look harder at the clip, from a Qwen2_5_VLForConditionalGeneration:

    >>> from attime.control.language import VisualBoost
    >>> from attime.hub import steer
    >>> with steer(model, VisualBoost()):
    ...     answer = model.generate(**inputs, max_new_tokens=100)
    """
    return Steered(model, controls, where)


class Steered:
    """A model under controls; see `steer`."""

    def __init__(self, model: object, controls: tuple[Control, ...], where: Chosen) -> None:
        wrong = [each for each in controls if not isinstance(each, Control)]
        if wrong or not controls:
            raise AttimeError(
                f"steer needs controls such as TemporalPrior(strength=1.0); got {wrong[0] if wrong else 'none'!r}."
            )
        self._under = [Under(model, control, where) for control in controls]

    def __enter__(self) -> "Steered":
        with ExitStack() as stack:
            for each in self._under:
                stack.enter_context(each)
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


class Under(Listener):
    """One control and its notes."""

    def __init__(self, model: object, control: Control, where: Chosen) -> None:
        there, kinds = sites(model), control.traits.kinds
        own = [site for site in there if not kinds or site.kind in kinds]
        if not own:
            raise AttimeError(
                f"{type(control).__name__} steers {' or '.join(kinds)} attention; {type(model).__name__} has only "
                f"{', '.join(sorted({f'{site.part} {site.kind}' for site in there}))}."
            )
        super().__init__(model, select(own, control.where if where is None else where))
        control.check(self.sites)
        self.control, self.notes = control, dict[str, Any]()

    def open(self) -> None:
        self.notes.clear()
        super().open()

    def controls(self, call: Call) -> list[tuple[Control, dict[str, Any]]]:
        if not self.control.acts(call):
            return []
        for need, (what, model) in NEEDS.items():
            if getattr(self.control.traits, need) and getattr(call, need) is None:
                raise AttimeError(
                    f"{type(self.control).__name__} must know {what}, and {call.site.name} does not tell: use it on a "
                    f"{model} model, called as a whole."
                )
        return [(self.control, self.notes)]
