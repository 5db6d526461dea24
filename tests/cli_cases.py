"""What tests of the command line share: a text, a small model of it in a folder, and commands as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from attime.cli import main

__all__ = ["TEXT", "saved_model", "told", "wrong"]

TEXT = "def total(values):\n    return sum(values)\n\n\nclass Ledger:\n    lines: list[int]\n"


def saved_model(path: Path) -> Path:
    """A tiny Llama with a tokenizer of whole words, as save_pretrained leaves them."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = sorted({word for word, _ in split.pre_tokenize_str(TEXT * 2)})
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["?", *words])}, unk_token="?"))
    made.pre_tokenizer = split
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?").save_pretrained(path)
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=len(words) + 1, hidden_size=32, intermediate_size=48, num_attention_heads=4)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_hidden_layers=2)).save_pretrained(path)
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def wrong(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("attime: ")
    assert error.count("\n") == 1, f"more than a sentence: {error}"
    return error
