"""`attime stream --model`: models and tokenizers from a folder, read in pieces as the whole, and those that do not fit."""

from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from attime.cli import main
from attime.hub.opened import Pieces, text_model
from cli_cases import TEXT, told

LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def test_a_model_from_a_folder_reads_the_tokens_of_the_whole_text(
    capsys: pytest.CaptureFixture[str], text: Path, folder: Path
) -> None:
    _, encode = text_model(str(folder))
    whole = encode(text.read_bytes()).tolist() + encode(b"").tolist()
    pieces = [text.read_bytes()[start : start + 7] for start in range(0, len(TEXT) * 8, 7)]
    assert [number for piece in [*pieces, b""] for number in encode(piece).tolist()] == whole
    assert 0 not in whole, "no word was cut"
    said = told(capsys, "stream", str(text), "--model", str(folder), "--memory", "sinks=4,window=28", "--chunk", "99")
    assert said["tokens"] == len(whole)
    assert said["perplexity"] < 200


def _trained(kind: str) -> Any:
    """A tokenizer that has learnt a text, and treats the beginning of one in its own way."""
    made, metaspace = Tokenizer(models.BPE()), pre_tokenizers.Metaspace(prepend_scheme="first")
    split = pre_tokenizers.Split(Regex(LLAMA_3), "isolated")
    parts = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    made.pre_tokenizer = pre_tokenizers.Sequence(parts) if kind == "llama-3" else metaspace
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "llama-3" else ["\n"]
    lines = [TEXT] if kind == "llama-3" else TEXT.splitlines()
    made.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    if kind == "prepend":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made)


@pytest.mark.parametrize("kind", ["llama-3", "metaspace", "prepend"])
@pytest.mark.parametrize("size", [7, 64])
def test_pieces_are_read_as_the_whole_whatever_a_tokenizer_puts_before_a_text(kind: str, size: int) -> None:
    tokenizer, data = _trained(kind), (TEXT * 3 + "x_\n);\n\n  y").encode()
    encode = Pieces(tokenizer, 1 << 20)
    pieces = [*(data[start : start + size] for start in range(0, len(data), size)), b""]
    found = [number for piece in pieces for number in encode(piece).tolist()]
    assert found == tokenizer(data.decode(), add_special_tokens=False)["input_ids"]


def test_models_that_do_not_fit_are_told(
    capsys: pytest.CaptureFixture[str], text: Path, folder: Path, tmp_path: Path
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sizes: dict[str, Any] = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    words = len(tokenizer)
    bert = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=words, intermediate_size=48, **sizes))
    few = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=words - 3, intermediate_size=48, **sizes))
    short = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=words, n_embd=32, n_layer=1, n_head=4, n_positions=64)
    )
    for name, model in {"bert": bert, "few": few, "short": short}.items():
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    few.save_pretrained(tmp_path / "alone")
    (tmp_path / "empty").mkdir()
    capsys.readouterr()

    def said(name: str, *more: str) -> str:
        assert main(["stream", str(text), "--model", str(tmp_path / name), *more]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "a token sees those behind it" in said("bert")
    assert f"one has {words} tokens and the other {words - 3}" in said("few")
    assert said("alone").endswith("there is none: save it there too.")
    assert said("empty").endswith("has no config.json.")
    for more in (["--memory", "sinks=4,window=20"], ["--disk", str(tmp_path / "disk")]):
        assert "at most 64 tokens whatever a memory forgets" in said("short", *more)
    assert "at most 64 tokens" in said("short")
    (tmp_path / "little").write_text(TEXT)
    assert (
        told(capsys, "stream", str(tmp_path / "little"), "--model", str(tmp_path / "short"))["memory"]
        == "Chain(policies=(), every=1)"
    )
