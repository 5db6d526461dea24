"""Open a model from its folder or hub id, whatever library and class it is of."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

__all__ = ["open_model", "token_labels"]


def open_model(path: str) -> Any:
    """A pipeline or model of diffusers, or a model of transformers of the class that its configuration names."""
    folder = Path(path)
    if (folder / "model_index.json").is_file():
        return DiffusionPipeline.from_pretrained(path)
    known: dict[str, Any] = (
        json.loads((folder / "config.json").read_text()) if (folder / "config.json").is_file() else {}
    )
    if "_diffusers_version" in known:
        import diffusers

        return getattr(diffusers, known["_class_name"]).from_pretrained(path)
    config = transformers.AutoConfig.from_pretrained(path)
    names = [name for name in config.architectures or () if hasattr(transformers, name)]
    kind: Any = getattr(transformers, names[0]) if names else transformers.AutoModel
    return kind.from_pretrained(path).eval()


def token_labels(path: str, ids: Sequence[int]) -> list[str]:
    """What each token of a language model reads, blanks made visible."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    return [tokenizer.decode([number]).replace(" ", "␣").replace("\n", "↵") for number in ids]
