"""A trained model on disk (safetensors and JSON), and what one does with it: forecast, recommend, generate, step."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from attime.attention.state import State
from attime.errors import AttimeError
from attime.models.contract import Model
from attime.models.recipe import Recipe

__all__ = ["Trained", "load", "save"]

WEIGHTS, CARD = "model.safetensors", "model.json"


def save(folder: str | Path, model: Model, recipe: Recipe, *, reading: Mapping[str, Any], **facts: Any) -> None:
    """Write weights and card. `reading` says how raw data becomes inputs; `facts` go into the card as they are."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, folder / WEIGHTS)
    card = {"recipe": asdict(recipe), "reading": dict(reading), **facts}
    (folder / CARD).write_text(json.dumps(card, indent=1))


def load(folder: str | Path) -> "Trained":
    """The model that `save`, or `attime compare`, wrote into `folder`, ready to use."""
    folder = Path(folder)
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise AttimeError(
                f"{folder} holds no trained model: {name} is missing; give the folder that attime compare named."
            )
    try:
        card = json.loads((folder / CARD).read_text())
        recipe = Recipe(**card["recipe"])
        model = recipe.build()
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (json.JSONDecodeError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise AttimeError(f"{folder} does not hold a model that this version can read: {error}.") from None
    return Trained(model.eval(), recipe, card)


class Trained:
    """A trained model with its reading of raw data. `card` holds the protocol, the scores and the settings."""

    def __init__(self, model: Model, recipe: Recipe, card: Mapping[str, Any]) -> None:
        self.model, self.recipe, self.card = model, recipe, card
        self.reading: Mapping[str, Any] = card["reading"]

    def __repr__(self) -> str:
        return f"Trained({self.recipe.mixer}, {self.card.get('protocol', 'unknown protocol')})"

    @torch.inference_mode()
    def step(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """One chunk of a live stream: token ids (batch time) or scaled values (batch time channels), any length >= 1.

        Returns the outputs at every time step, (batch time vocabulary) logits or (batch time horizon channels) scaled
        values, and the state to pass with the next chunk.
        """
        hidden, state = self.model(x, state)
        outputs = self.model.head(hidden.flatten(0, 1))
        return outputs.unflatten(0, hidden.shape[:2]), state

    @torch.inference_mode()
    def generate(self, prompt: str | bytes | Sequence[int], n: int, *, temperature: float = 0.8, seed: int = 0) -> Any:
        """`n` more bytes of text after the prompt (str for str, bytes for bytes), or `n` more tokens after tokens.

        `temperature` 0 takes the most likely token every time.
        """
        self._needs("text", "tokens", what="generate")
        raw = prompt.encode() if isinstance(prompt, str) else prompt
        tokens = torch.tensor([list(raw)], dtype=torch.long)
        if tokens.numel() == 0 or n < 1:
            raise AttimeError(
                f"generate needs a prompt of at least one token and n >= 1; got {tokens.numel()} and n={n}."
            )
        vocabulary = self.recipe.vocabulary or 0
        if int(tokens.max()) >= vocabulary or int(tokens.min()) < 0:
            raise AttimeError(f"generate needs tokens from 0 to {vocabulary - 1}; got {int(tokens.max())}.")
        random, state, made = torch.Generator().manual_seed(seed), None, []
        for _ in range(n):
            logits, state = self.step(tokens, state)
            last = logits[:, -1]
            if temperature > 0:
                tokens = torch.multinomial((last / temperature).softmax(-1), 1, generator=random)
            else:
                tokens = last.argmax(-1, keepdim=True)
            made.append(int(tokens))
        if isinstance(prompt, str):
            return bytes(made).decode(errors="replace")
        return bytes(made) if isinstance(prompt, bytes) else made

    @torch.inference_mode()
    def forecast(self, history: ArrayLike, steps: int | None = None) -> NDArray[np.float64]:
        """The next `steps` values (steps, channels), in the data's own units, after `history` (time, channels).

        More steps than the trained horizon are made by reading the forecast as history. One channel may be given
        as a flat list.
        """
        self._needs("series", what="forecast")
        mean, std = (np.asarray(self.reading[name], dtype=np.float64) for name in ("mean", "std"))
        values = np.asarray(history, dtype=np.float64)
        values = values[:, None] if values.ndim == 1 else values
        horizon = self.recipe.horizon or 1
        steps = horizon if steps is None else steps
        if values.ndim != 2 or values.shape[1] != len(mean) or not len(values) or steps < 1:
            raise AttimeError(
                f"forecast needs a history (time, {len(mean)} channels: {', '.join(map(str, self.reading['names']))}) "
                f"and steps >= 1; got an array of sizes {values.shape} and steps={steps}."
            )
        if not np.isfinite(values).all():
            raise AttimeError("forecast needs a history without gaps; got NaN or infinity: fill or cut them first.")
        x = torch.from_numpy((values - mean) / std).float()[None]
        made, state = [], None
        while sum(map(len, made)) < steps:
            outputs, state = self.step(x, state)
            x = outputs[:, -1]
            made.append(x[0])
        return torch.cat(made)[:steps].double().numpy() * std + mean

    @torch.inference_mode()
    def recommend(self, history: Sequence[Any], k: int = 10) -> list[Any]:
        """The `k` items most likely to come next after `history`, best first, items of the history left out."""
        self._needs("items", what="recommend")
        items = list(self.reading["items"])
        number = {item: place for place, item in enumerate(items)}
        known = [number[item] for item in history if item in number]
        if not known or k < 1:
            raise AttimeError(
                f"recommend needs k >= 1 and a history with at least one of the {len(items)} items it was trained on; "
                f"got k={k} and {list(history)[:3]}."
            )
        offset = int(self.reading.get("offset", 0))
        tokens = torch.tensor([known[-int(self.reading.get("length", len(known))) :]]) + offset
        logits = self.step(tokens)[0][0, -1, offset : offset + len(items)].clone()
        logits[known] = -torch.inf
        best = logits.topk(min(k, len(items) - len(set(known)))).indices
        return [items[place] for place in best.tolist()]

    def _needs(self, *kinds: str, what: str) -> None:
        kind = self.reading["kind"]
        if kind not in kinds:
            use = {"text": "generate", "tokens": "generate", "series": "forecast", "items": "recommend"}.get(
                kind, "step"
            )
            raise AttimeError(f"this model was trained on {kind} and cannot {what}; use {use}() or step().")
