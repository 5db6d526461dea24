"""`attime lens` on folders with models of every class that reads something: tiny ones, random weights, their own tokenizer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    ViTImageProcessor,
)

from attime.cli import main
from attime.control.call import Call
from attime.report.lens.asked import windowed
from attime.report.lens.page import Axis
from attime.report.lens.roles import roles, visual_sinks
from attime.report.lens.seen import Side, _joined, cells
from attime.site import Site
from test_page import CHROMIUM, browser, opened
from tiny_models import MODELS

__all__ = ["browser"]

WORDS = ["the", "red", "square", "moves", "left", "what", "happens", "?"]
MADE = ("llama", "qwen2.5-vl", "llava-onevision", "vit", "clip", "siglip", "whisper")


def tokenizer() -> PreTrainedTokenizerFast:
    names = ["<pad>", "<s>", "</s>", "<unk>", *WORDS]
    names += [f"<{number}>" for number in range(len(names), 64)]
    made = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, additional_special_tokens=[f"<{number}>" for number in range(60, 64)], **special
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models with their tokenizers, a picture, a film with sound."""
    folder = tmp_path_factory.mktemp("models")
    for name in MADE:
        model, _ = MODELS[name].made()
        model.save_pretrained(folder / name)
        if name != "vit":
            tokenizer().save_pretrained(folder / name)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    assert (
        main(["world", "--seconds", "3", "--shot", "3", "--events", "0", "1", "--size", "32", str(folder / "f.mp4")])
        == 0
    )
    return folder


def looked(folder: Path, name: str, given: str, *more: str, capsys: pytest.CaptureFixture[str]) -> dict:
    given = str(folder / given) if (folder / given).is_file() else given
    capsys.readouterr()
    assert main(["lens", str(folder / name), given, "-o", str(folder / f"{name}.html"), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "given", "ask", "parts"),
    [
        ("llama", "the red square moves left", "", {"language"}),
        ("vit", "picture.png", "", {"vision"}),
        ("vit", "f.mp4", "", {"vision"}),
        ("clip", "picture.png", "the red square", {"vision", "text"}),
        ("clip", "picture.png", "", {"vision"}),
        ("siglip", "f.mp4", "the red square", {"vision", "text"}),
        ("whisper", "f.mp4", "", {"encoder", "decoder"}),
        ("qwen2.5-vl", "f.mp4", "what happens ?", {"vision", "language"}),
        ("qwen2.5-vl", "picture.png", "what happens ?", {"vision", "language"}),
        ("llava-onevision", "f.mp4", "what happens ?", {"vision", "language"}),
    ],
)
def test_every_class_is_looked_at(folder, name, given, ask, parts, capsys):
    found = looked(folder, name, given, *(["--ask", ask] if ask else []), capsys=capsys)
    sites = sum(count for kind, count in MODELS[name].sites.items() if kind.split()[0] in parts)
    assert {head["part"] for head in found["heads"]} == parts
    assert len({(head["site"]) for head in found["heads"]}) == sites
    page = (folder / f"{name}.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert bool(data["frames"]) == (name not in ("llama", "whisper"))
    for axis in data["axes"].values():
        for marks in (axis["frames"], axis["cells"]):
            assert marks is None or len(marks) == len(axis["labels"])


def test_maps_of_many_tokens_are_joined(folder, capsys):
    whole = looked(folder, "qwen2.5-vl", "picture.png", "--ask", "what happens ?", capsys=capsys)
    less = looked(folder, "qwen2.5-vl", "picture.png", "--ask", "what happens ?", "--tokens", "16", capsys=capsys)
    sizes = [max(head["keys"] for head in found["heads"] if head["part"] == "vision") for found in (whole, less)]
    assert sizes[0] == 5 * 7 * 4  # merged patches of 8 x 8 in 40 x 56, four patches each
    assert sizes[1] <= 16
    assert any("shown" in note and "together" in note for note in less["notes"])


def test_the_folders_own_processor_is_used(folder, tmp_path, capsys):
    MODELS["vit"].made()[0].save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    found = looked(tmp_path, "vit", str(folder / "picture.png"), capsys=capsys)
    assert found["notes"] == []
    assert {head["keys"] for head in found["heads"]} == {5}


def test_windows_of_a_tower_are_put_in_place():
    from transformers.vision_utils import get_vision_window_index

    rows, columns, merge, window = 10, 12, 2, 4
    units, _ = get_vision_window_index(
        torch.tensor([[1, rows, columns]]), spatial_merge_size=merge, window_size=window * merge * 4, patch_size=4
    )
    expected = []
    for unit in units.tolist():
        row, column = divmod(unit, columns // merge)
        expected += [
            (row * merge + below) * columns + column * merge + right for below in range(2) for right in range(2)
        ]
    assert windowed(rows, columns, merge, window) == expected


def test_joined_maps_keep_their_mass():
    grid, there, step = cells(5, 7, 12)
    assert (grid, step) == ((3, 4), 2)
    assert there[:7] == [0, 0, 1, 1, 2, 2, 3]
    maps = torch.rand(2, 35, 35).softmax(-1)
    side = Side(axis=Axis(labels=[str(each) for each in range(12)]), groups=there)
    made = _joined(maps, side, side)
    assert made.shape == (2, 12, 12)
    torch.testing.assert_close(made.sum(-1), torch.ones(2, 12))
    torch.testing.assert_close(made[:, 0, 0], maps[:, [0, 1, 7, 8]][:, :, [0, 1, 7, 8]].sum(-1).mean(-1))


def does(weights: torch.Tensor, frames: Any = None, grid: Any = None, ids: Any = ()) -> dict[str, float]:
    return roles(weights, frames=frames, grid=grid, square=True, ids=ids)


def test_roles_of_constructed_heads():
    place = torch.arange(16)
    first = torch.zeros(16, 16)
    first[:, 0] = 1
    assert set(does(first)) == {"sink"}
    assert set(does(torch.eye(16))) == {"local"}
    assert "retrieval" in does(torch.eye(16)[(place - 3).clamp(min=0)], ids=[5, 6, 7, 8] * 4)
    assert "retrieval" not in does(torch.ones(16, 16).tril() / (place + 1)[:, None], ids=[3] * 16)
    seeing = torch.eye(16)
    seeing[9:] = 0
    seeing[9:, 2] = 1
    assert does(seeing, frames=[-1, *[0] * 4, *[1] * 4, *[-1] * 7])["visual"] == pytest.approx(7 / 8)
    of_class = torch.zeros(17, 17)
    of_class[:, 0] = 1
    assert set(does(of_class, grid=(4, 4))) == {"class token"}
    assert set(does(0.98 * torch.eye(17) + 0.02 / 17, grid=(4, 4))) == {"local"}


def test_attention_on_massive_tokens_of_a_picture_is_a_visual_sink():
    stream = torch.full((1, 5, 512), 0.01)
    stream[0, 0, 7] = stream[0, 2, 7] = 100.0  # the first token shows which dimension it is
    logits = torch.zeros(1, 1, 5, 1)
    logits[0, 0, 2] = 3.0
    call = Call(
        site=Site(name="a", part="language", kind="self", layer=0, heads=1),
        step=0,
        q=torch.ones(1, 1, 5, 1),
        k=logits,
        v=logits,
        scale=1.0,
        visual=torch.tensor([[False, True, True, True, False]]),
        stream=stream,
    )
    found = visual_sinks(call)
    assert found is not None
    assert float(found[0]) == pytest.approx(np.exp(3) / (np.exp(3) + 2))
    call.stream = None
    assert visual_sinks(call) is None


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("vit", ["picture.png", "--ask", "what"], "sees and does not read"),
        ("vit", ["a text"], "a file; a text is none"),
        ("qwen2.5-vl", ["picture.png"], "is asked something: --ask"),
        ("whisper", ["f.mp4", "--ask", "what"], "is not asked: leave out --ask"),
        ("llama", ["text", "--ask", "what"], "reads its INPUT alone"),
        ("llama", [""], "the text is empty"),
        ("llama", ["   "], "the tokenizer makes no tokens of this text"),
        ("llama", ["picture.png"], "reads a text or a file of text in UTF-8"),
        ("clip", ["picture.png", "--ask", ""], "--ask needs words; got ''"),
        ("clip", ["picture.png", "--where", "text"], "this input does not come by these sites"),
    ],
)
def test_mistakes_are_told_in_one_sentence(folder, name, words, said, capsys):
    given = [str(folder / word) if word and (folder / word).is_file() else word for word in words]
    assert main(["lens", str(folder / name), *given, "-o", str(folder / "no.html")]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_model_without_its_tokenizer_or_that_paints(tmp_path, capsys):
    for name, said in (("llama", "does not hold"), ("latte", "look at a painter of the zoo")):
        MODELS[name].made()[0].save_pretrained(tmp_path / name)
        assert main(["lens", str(tmp_path / name), "words", "-o", str(tmp_path / "no.html")]) == 2
        error = capsys.readouterr().err.strip()
        assert said in error
        assert not error.endswith("from one of:")


SMALL: dict[str, Any] = {"vocab_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
SHORT = {
    "gpt2": lambda: GPT2Model(GPT2Config(n_positions=32, **SMALL)),
    "bert": lambda: BertModel(BertConfig(max_position_embeddings=32, **SMALL)),
    "roberta": lambda: RobertaModel(RobertaConfig(max_position_embeddings=34, pad_token_id=1, **SMALL)),
}


@pytest.mark.parametrize("name", [*SHORT, "clip"])
def test_more_tokens_than_places_are_cut_with_a_note(folder, tmp_path, name, capsys):
    many = " ".join(["the red square moves"] * 50)
    if name == "clip":
        found = looked(folder, name, "picture.png", "--ask", many, capsys=capsys)
    else:
        SHORT[name]().save_pretrained(tmp_path / name)
        tokenizer().save_pretrained(tmp_path / name)
        (tmp_path / "many.txt").write_text(many)
        found = looked(tmp_path, name, "many.txt", capsys=capsys)
    assert "Of 200 tokens the first 32 are read: the model has places for no more." in found["notes"]
    assert max(head["keys"] for head in found["heads"] if head["part"] != "vision") == 32


def test_a_tokenizer_of_another_model_is_told(tmp_path, capsys):
    BertModel(BertConfig(**{**SMALL, "vocab_size": 8})).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert main(["lens", str(tmp_path), "what happens ?", "-o", str(tmp_path / "no.html")]) == 2
    assert "makes token 11 of this text, and the model knows 0 to 7" in capsys.readouterr().err


def damaged(folder: Path, how: str) -> None:
    if how == "pipeline":
        (folder / "model_index.json").write_text('{"_class_name": "Nothing", "_diffusers_version": "0.30.0"}')
        return
    MODELS["latte" if how == "class" else "llama"].made()[0].save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    weights = next(folder.glob("*.safetensors"))
    changed = {"class": {"_class_name": "Nothing"}, "sizes": {"intermediate_size": 12}}
    (folder / "config.json").write_text(json.dumps({**config, **changed.get(how, {})}))
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    if how == "junk":
        weights.write_bytes(b"junk")


@pytest.mark.parametrize("how", ["cut", "junk", "sizes", "class", "pipeline"])
@pytest.mark.parametrize("command", ["sites", "lens"])
def test_a_damaged_model_is_told_in_one_sentence(tmp_path, command, how, capsys):
    damaged(tmp_path, how)
    capsys.readouterr()
    given = ["words", "-o", str(tmp_path / "no.html")] if command == "lens" else []
    assert main([command, str(tmp_path), *given]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"attime: {command} needs zoo:NAME, or a folder or id of a model of transformers")
    assert len(said.split(f"{tmp_path}: ")[1]) > 10


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
def test_a_picture_is_drawn_with_what_was_looked_at(browser: Browser, folder, capsys):
    looked(folder, "vit", "picture.png", capsys=capsys)
    with opened(browser, folder / "vit.html") as page:
        assert page.locator(".frame.one").count() == 1
        assert page.locator(".token").all_inner_texts() == ["class"]
        page.locator(".token").click()
        assert page.inner_text("#row-title") == "What “class” looked at"
        page.locator(".picture").click(position={"x": 10, "y": 10})
        assert page.inner_text("#row-title") == "What “line 0, column 0” looked at"
