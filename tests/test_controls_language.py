"""Controls of language and vision-language models: equations on constructed maps, and real classes under generate and padding."""

from itertools import permutations

import pytest
import torch

from attime.control import Call
from attime.control.language import (
    AnyOrder,
    LocalView,
    SinkCalibration,
    VisualBoost,
    VisualHeads,
    VisualSinks,
    assembled,
    helpful_heads,
    local_and_summary,
    most_relevant,
    relevance,
    text_only,
)
from attime.errors import AttimeError
from attime.hub import steer, watch
from attime.lens import head_divergence, massive_dims, massive_tokens, word_divergence
from attime.site import Site
from attime.streams.world.scene import SHAPES
from attime.streams.world.tell import encode
from attime.tasks.video.begun import begun, habits
from attime.zoo import load
from attime.zoo.habit import endings, primed
from attime.zoo.watcher import Watcher
from attime.zoo.watching import levels
from tiny_models import MODELS

SITE = Site(name="layers.3.attention", part="language", kind="self", layer=3, heads=2)
SEEING = {"qwen2.5-vl": 8, "llava-onevision": 13}  # visual tokens of a prompt
CONTROLS = {
    "sinks": lambda visual: SinkCalibration(threshold=0.05),
    "heads": lambda visual: VisualHeads(),
    "visual sinks": lambda visual: VisualSinks(dims=(1, 3, 5), threshold=1.2, visual_least=0.05, sinks_most=0.95),
    "boost": lambda visual: VisualBoost(
        local=torch.arange(visual)[None] % 2 == 0, summary=torch.arange(visual)[None] == 1
    ),
    "local view": lambda visual: LocalView(keep=torch.arange(visual)[None] % 3 == 0),
}


def called(maps=None, *, queries=None, visual=None, stream=None, mask=None, layer=3):
    """A call with such a map, or with random queries and keys."""
    keys = 6 if maps is None else maps.shape[3]
    queries = queries or (keys if maps is None else maps.shape[2])
    q, k = torch.randn(1, 2, queries, 4), torch.randn(1, 2, keys, 4)
    site = Site(name=f"layers.{layer}.attention", part="language", kind="self", layer=layer, heads=2)
    return Call(site=site, step=0, q=q, k=k, v=k, scale=0.5, mask=mask, visual=visual, stream=stream)


def causal(length):
    return torch.zeros(length, length).masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)


def test_calibrated_sinks_give_to_the_others_what_they_lose():
    mask = causal(6)
    logits = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    logits[0, 0, :, 0] += 3  # the first sink, in both heads
    logits[0, :, :, 3] += 3  # a sink that comes later
    maps = (logits + mask).softmax(-1)
    call = called(maps, mask=mask)
    received = maps.sum(2) / torch.arange(6, 0, -1)
    made = SinkCalibration(chosen=((3, 0), (2, 1)), threshold=0.3).maps(maps, call)
    assert (received[0, 0] > 0.3).nonzero()[:, 0].tolist()[0] == 0
    late = [place for place in (received[0, 0] > 0.3).nonzero()[:, 0].tolist() if place > 0]
    assert 3 in late
    wanted = maps[0, 0].clone()
    others = [place for place in range(6) if place not in late]
    wanted[:, late] *= 0.4
    freed = 0.6 * maps[0, 0][:, late].sum(1, keepdim=True)
    wanted[:, others] += freed * maps[0, 0][:, others] / maps[0, 0][:, others].sum(1, keepdim=True)
    torch.testing.assert_close(made[0, 0], wanted)
    assert torch.equal(made[0, 1], maps[0, 1])
    torch.testing.assert_close(made.sum(-1), torch.ones(1, 2, 6, dtype=torch.float64))
    assert torch.equal(SinkCalibration().maps(maps[:, :, -1:], call), maps[:, :, -1:])


def test_heads_are_chosen_by_what_each_does_alone():
    worth = {(2, 0): 0.1, (2, 1): -0.1, (3, 1): 0.0, (5, 0): 0.3}

    def score(control):
        return 0.5 if control.strength == 0 else 0.5 + sum(worth[head] for head in control.chosen)

    assert helpful_heads(SinkCalibration(), worth, score) == ((2, 0), (5, 0))


def test_the_most_visual_heads_speak_louder_and_silenced_ones_do_not():
    visual = torch.tensor([[False, True, True, True, False]])
    out = torch.randn(1, 4, 5, 3)
    without = out[:, None, :, -1].clone().expand(1, 4, 4, 3).clone()
    without[:, 3, 1] += 5  # moved, and louder without the picture: silenced
    out[:, 1] *= 0.1
    without[:, 3, 2] += 0.5 * out[:, 2, -1]
    without[:, 3, 3] += 0.1
    call = called(torch.zeros(1, 4, 5, 5), visual=visual)
    made = VisualHeads(without=without).outputs(out, call)
    gain = (made / out).mean((0, 2, 3))
    assert gain[1] == pytest.approx(1.0)
    assert gain.sort().values.tolist() == pytest.approx([1, 1, 2, 2])
    torch.testing.assert_close(
        head_divergence(out[:, :, -1], without[:, 3]), (out[:, :, -1] - without[:, 3]).norm(dim=-1)
    )
    decoded = VisualHeads(without=without).outputs(out[:, :, -1:], call)
    torch.testing.assert_close(decoded, made[:, :, -1:])
    assert float(word_divergence(torch.tensor([[[3.0, 1.0, 2.0], [0.0, 1.0, 5.0]]]), best=2)) == 11.0


def test_visual_sinks_give_to_visual_tokens_alone():
    visual = torch.tensor([[False, True, True, True, False, False]])
    stream = torch.rand(1, 6, 32) * 0.1
    stream[0, [0, 2], 7] = 40.0
    assert massive_dims(stream, count=1) == (7,)
    assert massive_tokens(stream, (7,), threshold=4.0)[0].tolist() == [True, False, True, False, False, False]
    maps = (torch.randn(1, 2, 6, 6) + causal(6)).softmax(-1)
    maps[0, 0, 4] = torch.tensor([0.3, 0.1, 0.2, 0.2, 0.2, 0.0])
    maps[0, 1, 4] = torch.tensor([0.3, 0.05, 0.4, 0.05, 0.2, 0.0])  # sinks have most of what is visual
    maps[0, :, 5] = torch.tensor([0.5, 0.05, 0.05, 0.05, 0.05, 0.3])  # not image-centric
    call = called(maps, visual=visual, stream=stream)
    made = VisualSinks(dims=(7,), threshold=4.0, strength=0.5).maps(maps, call)
    torch.testing.assert_close(made[0, 0, 4], torch.tensor([0.15, 0.1 + 0.25 / 3, 0.1, 0.2 + 0.5 / 3, 0.2, 0.0]))
    still = torch.ones(1, 2, 6, dtype=torch.bool)
    still[0, 0, 4] = False
    assert torch.equal(made[still], maps[still])
    later = called(maps[:, :, -1:].repeat(1, 1, 1, 1), visual=visual, stream=stream[:, -1:])
    later.notes = {"layers.3.attention": call.notes["layers.3.attention"][:, :5]}
    row = maps[:, :, 4:5]
    moved = VisualSinks(dims=(7,), threshold=4.0, strength=0.5).maps(row, later)
    torch.testing.assert_close(moved, made[:, :, 4:5])


def test_the_last_row_alone_is_boosted():
    visual = torch.tensor([[False, True, True, True, False]])
    call = called(torch.zeros(1, 2, 5, 5), visual=visual, mask=causal(5))
    scores = call.scores
    marks = torch.tensor([[True, False, True]]), torch.tensor([[False, False, True]])
    made = VisualBoost(local=marks[0], summary=marks[1], summary_gain=0.2).scores(scores, call)
    gain = torch.tensor([0.0, 0.7, 0.0, 0.2, 0.0])
    torch.testing.assert_close(made[:, :, -1], scores[:, :, -1] + gain * scores[:, :, -1].abs())
    assert torch.equal(made[:, :, :-1], scores[:, :, :-1])
    late = torch.tensor([[1.0, 1.1, 0.9, 1.0, 9.0, 1.0, 1.2, 1.1]])
    local, summary = local_and_summary(torch.arange(8.0)[None].flip(1), late)
    assert summary.nonzero().tolist() == [[0, 4]]
    assert local.nonzero().tolist() == [[0, 0], [0, 1]]


def test_a_local_view_is_the_map_without_the_hidden_tokens():
    visual = torch.tensor([[False, True, True, True, False]])
    call = called(torch.zeros(1, 2, 5, 5), visual=visual, mask=causal(5))
    made = LocalView(keep=torch.tensor([[True, False, False]])).scores(call.scores, call)
    row = call.scores[:, :, -1].softmax(-1)
    wanted = row * torch.tensor([1, 1, 0, 0, 1])
    torch.testing.assert_close(made.softmax(-1)[:, :, -1], wanted / wanted.sum(-1, keepdim=True))
    assert not made.softmax(-1).isnan().any()
    half = LocalView(keep=torch.tensor([[True, False, False]]), strength=0.5).scores(call.scores, call)
    wanted = row * torch.tensor([1, 1, 0.5, 0.5, 1])
    torch.testing.assert_close(half.softmax(-1)[:, :, -1], wanted / wanted.sum(-1, keepdim=True))


def test_relevance_picks_tokens_and_logits_are_assembled():
    maps, gradients = torch.ones(1, 2, 3, 4), torch.tensor([3.0, -1.0, 1.0, 2.0]).expand(1, 2, 3, 4)
    scores = relevance(maps, gradients)
    assert scores.tolist() == [[3.0, 0.0, 1.0, 2.0]]
    assert most_relevant(scores, match=1.0).tolist() == [[True, False, False, True]]
    assert most_relevant(scores, match=0.5).tolist() == [[True, False, True, True]]
    whole, local = torch.tensor([[2.0, 1.9, -5.0]]), torch.tensor([[0.0, 1.0, 50.0]])
    assert assembled(whole, local).argmax(-1).tolist() == [1]
    assert assembled(whole, local).tolist()[0][2] == -torch.inf
    assert torch.equal(assembled(whole, local, weight=0.0, least=0.0), whole)


def prompts(name, words):
    """One row for each list of words behind the same clip, padded on the left."""
    model, inputs = MODELS[name].made()
    start = inputs["input_ids"][0, :-3].tolist()
    rows = [start + each for each in words]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    made = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    for key in ("pixel_values_videos", "video_grid_thw"):
        if key in inputs:
            made[key] = inputs[key].repeat(len(rows), *[1] * (inputs[key].ndim - 1))
    if "mm_token_type_ids" in inputs:
        made["mm_token_type_ids"] = 2 * (ids == 61).int()
    return model, made


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("name", SEEING)
def test_under_generate_a_padded_row_says_what_it_says_alone(name, control):
    model, both = prompts(name, [[1, 2, 3], [4, 5, 6, 7, 8]])
    visual = int((both["input_ids"][0] == 61).sum())
    part = CONTROLS[control](visual)
    how = {
        "max_new_tokens": 4,
        "min_new_tokens": 4,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    plain = model.generate(**both, **how)
    with steer(model, part, where="language"):
        padded = model.generate(**both, **how)
        _, alone = prompts(name, [[1, 2, 3]])
        single = model.generate(**alone, **how)
    assert not any(each.isnan().any() for each in padded.logits)
    assert not torch.equal(padded.logits[0], plain.logits[0]), "nothing is changed"
    torch.testing.assert_close(padded.logits[0][:1], single.logits[0])
    if torch.equal(padded.sequences[0, -4:], single.sequences[0, -4:]):
        for one, two in zip(padded.logits, single.logits, strict=True):
            torch.testing.assert_close(one[:1], two)
    again = model.generate(**both, **how)
    assert all(torch.equal(one, two) for one, two in zip(again.logits, plain.logits, strict=True))


@pytest.mark.parametrize("name", SEEING)
def test_three_lines(name):
    model, inputs = MODELS[name].made()
    with steer(model, VisualBoost(), where="language"):
        answer = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert answer.shape == (1, inputs["input_ids"].shape[1] + 3)


def test_a_sink_found_in_the_prompt_is_a_sink_in_decoding():
    model, inputs = MODELS["qwen2.5-vl"].made()
    control = CONTROLS["visual sinks"](8)
    grown = torch.cat([inputs["input_ids"], torch.tensor([[4, 5]])], dim=1)
    longer = inputs | {
        "input_ids": grown,
        "attention_mask": torch.ones_like(grown),
        "mm_token_type_ids": 2 * (grown == 61).int(),
    }
    with torch.no_grad(), steer(model, control, where="language"):
        whole = model(**longer, use_cache=False).logits[:, -2:]
        positions, _ = model.model.get_rope_index(
            grown, longer["mm_token_type_ids"], video_grid_thw=inputs["video_grid_thw"]
        )
        first = model(**inputs, use_cache=True)
        steps = []
        for place in (-2, -1):
            stop = grown.shape[1] + place + 1
            made = model(
                input_ids=grown[:, stop - 1 : stop],
                attention_mask=torch.ones(1, stop, dtype=torch.long),
                position_ids=positions[:, :, stop - 1 : stop],
                past_key_values=first.past_key_values,
            )
            steps.append(made.logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole)


def test_outputs_without_the_picture_come_from_another_run():
    model, inputs = MODELS["qwen2.5-vl"].made()
    text = {"input_ids": inputs["input_ids"][:, -3:]}
    with torch.no_grad(), watch(model, where="language", keep="outputs") as seen:
        model(**text)
    without = text_only(seen)
    assert without.shape == (1, 2, 4, 4)
    with (
        torch.no_grad(),
        steer(model, VisualHeads(without=without)),
        watch(model, where="language 0", keep="outputs") as made,
    ):
        model(**inputs)
    with torch.no_grad(), watch(model, where="language 0", keep="outputs") as plain:
        model(**inputs)
    gain = (made.records[0].value / plain.records[0].value).mean((0, 2, 3))
    far = head_divergence(plain.records[0].value[:, :, -1], without[:, 0])[0]
    assert sorted(gain.tolist()) == pytest.approx([1, 1, 2, 2])
    assert set(gain.topk(2).indices.tolist()) <= set(far.topk(3).indices.tolist())


def test_what_the_block_was_given_becomes_what_attention_is_given():
    model, inputs = MODELS["llama"].made()
    norm = model.model.layers[1].input_layernorm
    torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    with torch.no_grad(), watch(model, where="1", keep=lambda call: norm(call.stream) - call.hidden) as seen:
        model(**inputs)
    assert seen.records[0].value.abs().max() < 1e-6


@pytest.fixture
def llama():
    model, _ = MODELS["llama"].made()
    for weight in model.parameters():
        weight.data *= 4  # attention that is far from even
    return model.double()


PIECES = ([5, 6, 7], [8, 9, 10, 11], [12, 13], [14, 15, 16, 17, 18])


def in_order(order, before=(1, 2, 3), behind=(20, 21)):
    """A prompt with the pieces in this order, and where they lie."""
    ids, segments = list(before), []
    for each in order:
        segments.append((len(ids), len(ids) + len(PIECES[each])))
        ids += PIECES[each]
    return torch.tensor([[*ids, *behind]]), tuple(segments)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_segments_in_any_order_give_the_same_logits(llama, count):
    said, plain = [], []
    for order in list(permutations(range(count)))[:8]:
        ids, segments = in_order(order)
        with torch.no_grad():
            plain.append(llama(ids).logits[:, -2:])
            with steer(llama, AnyOrder(segments=segments)):
                said.append(llama(ids).logits[:, -2:])
    assert max(float((each - said[0]).abs().max()) for each in said) < 1e-10
    assert max(float((each - plain[0]).abs().max()) for each in plain) > 1e-3


def test_segments_in_any_order_give_the_same_answer_in_decoding(llama):
    made = []
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        ids, segments = in_order(order)
        with steer(llama, AnyOrder(segments=segments)):
            answer = llama.generate(
                ids,
                max_new_tokens=5,
                min_new_tokens=5,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
            with torch.no_grad():
                whole = llama(answer.sequences[:, :-1], use_cache=False).logits[:, -5:]
        torch.testing.assert_close(torch.stack(answer.logits, dim=1), whole, check_dtype=False)
        made.append(answer)
    assert torch.equal(made[0].sequences[:, -5:], made[1].sequences[:, -5:])
    torch.testing.assert_close(torch.stack(made[0].logits), torch.stack(made[1].logits))


def test_one_segment_is_the_model_itself(llama):
    ids, segments = in_order((1,))
    with torch.no_grad():
        plain = llama(ids).logits
        with steer(llama, AnyOrder(segments=segments)):
            torch.testing.assert_close(llama(ids).logits, plain)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SinkCalibration(strength=1.5), "needs strength from 0 to 1"),
        (lambda: VisualHeads(share=0), "a share above 0"),
        (lambda: VisualSinks(dims=()), "needs dims"),
        (lambda: VisualBoost(local_gain=-1), "gains of 0 or more"),
        (lambda: LocalView(keep=torch.ones(1, 2, dtype=torch.bool), strength=2), "from 0 to 1"),
        (lambda: AnyOrder(segments=((0, 3), (4, 6))), "follow each other"),
        (lambda: AnyOrder(segments=((0, 3),), strength=0.5), "on or off"),
        (lambda: assembled(torch.zeros(1, 2), torch.zeros(1, 2), least=2), "least from 0 to 1"),
        (lambda: most_and_least(), "marks of visual tokens"),
    ],
)
def test_mistakes_are_told_in_one_sentence(make, said):
    with pytest.raises(AttimeError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def most_and_least():
    call = called(torch.zeros(1, 2, 5, 5), visual=torch.tensor([[False, True, True, True, False]]))
    VisualBoost(local=torch.ones(1, 2, dtype=torch.bool)).scores(call.scores, call)


def test_a_model_without_pictures_and_padded_rows_are_told():
    model, _ = MODELS["llama"].made()
    with steer(model, VisualHeads()), pytest.raises(AttimeError, match="which tokens are of pictures"):
        model(torch.tensor([[1, 2, 3]]))
    mask = torch.tensor([[0, 1, 1, 1]])
    with steer(model, AnyOrder(segments=((1, 2), (2, 3)))), pytest.raises(AttimeError, match="rows without padding"):
        model(torch.tensor([[0, 1, 2, 3]]), attention_mask=mask)


def test_in_padded_decoding_every_head_is_seen_and_rows_of_padding_are_empty():
    model, both = prompts("qwen2.5-vl", [[1, 2, 3], [4, 5, 6, 7, 8]])
    plain = model.generate(**both, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    with watch(model, where="language") as seen:
        assert torch.equal(model.generate(**both, max_new_tokens=3, min_new_tokens=3, do_sample=False), plain)
    length = both["input_ids"].shape[1]
    assert [tuple(record.value.shape) for record in seen][::2] == [
        (2, 4, length, length),
        (2, 4, 1, length + 1),
        (2, 4, 1, length + 2),
    ]
    prefill = seen.records[0].value
    assert not prefill.isnan().any()
    assert torch.equal(prefill[0, :, :2], torch.zeros(4, 2, length))
    for record in seen.records[2:]:
        torch.testing.assert_close(record.value.sum(-1), torch.ones(2, 4, 1))


def test_sentences_begun_know_what_is_there_and_what_is_usual():
    usual = habits(1)
    asked = begun(levels(1)[-1].worlds[0], usual, shots=6, seed=1)
    assert len(asked.texts) == len(asked.frames) == 12
    assert [SHAPES[each] for each in asked.usual] == [usual[text.split()[-1]] for text in asked.texts]
    assert asked.rates(asked.due) == {"right": 1.0, "hallucination": 0.0}
    by_habit = asked.rates(asked.usual)
    assert by_habit["hallucination"] == 1.0
    assert by_habit["right"] == float((asked.usual == asked.due).mean())


def test_a_primed_watcher_has_read_habits_and_sees_as_before():
    watcher, usual = load("watcher"), habits(0)
    assert isinstance(watcher, Watcher)
    asked = begun(levels(0)[-1].worlds[0], usual, shots=12, seed=0)
    before = {name: weight.clone() for name, weight in watcher.model.state_dict().items()}
    made = primed(watcher, usual, steps=60, seed=0)
    after = watcher.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    changed = {name for name, weight in made.model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed
    assert all("language_model" in name and ".mlp." in name for name in changed)
    with torch.no_grad():
        alone = made.model(input_ids=torch.tensor([[1, *encode(text)] for text in asked.texts])).logits[:, -1]
        sure = asked.rates(endings(watcher, asked).argmax(-1))
        torn = asked.rates(endings(made, asked).argmax(-1))
    words = [encode(SHAPES[each])[0] for each in asked.usual]
    assert alone.argmax(-1).tolist() == words
    assert sure["hallucination"] == 0 < torn["hallucination"]
    assert torn["right"] > 1 / len(SHAPES)
