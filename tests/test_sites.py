"""Sites of every supported class, and the words that select them."""

from collections import Counter

import pytest
from torch import nn

from attime.errors import AttimeError
from attime.hub import sites
from attime.site import kind, layer, named, part, select
from tiny_models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_every_attention_is_a_site(name):
    model, _ = MODELS[name].made()
    found = sites(model)
    assert Counter(f"{site.part} {site.kind}" for site in found) == MODELS[name].sites
    assert len({site.name for site in found}) == len(found)
    for site in found:
        model.get_submodule(site.name)


def test_words_and_predicates_select_the_same():
    found = sites(MODELS["animatediff"].made()[0])
    assert select(found, "temporal up_blocks.1") == select(found, kind("temporal") & named("up_blocks.1"))
    assert len(select(found, "temporal up_blocks.1")) == 4
    assert select(found, "temporal 2-4") == select(found, kind("temporal") & layer(range(2, 5)))
    assert select(found, kind("temporal", "cross") & ~named("attn1")) == [
        site for site in found if site.kind in ("temporal", "cross") and site.name.endswith("attn2")
    ]
    assert select(found, part("unet")) == select(found, None) == found
    assert select(found, found[3]) == [found[3]] == select(found, [found[3]])
    assert select(found, lambda site: site.layer == 1) == select(found, layer(1))
    assert select(found, kind("temporal") & (lambda site: site.layer == 1)) == select(found, "temporal 1")
    with pytest.raises(AttimeError, match="selects none"):
        select(found, lambda site: False)


@pytest.mark.parametrize("where", [3, [3], ["temporal"], [kind("temporal")], 0.5, b"self"])
def test_what_is_no_selection_is_refused_in_one_sentence(where):
    with pytest.raises(AttimeError, match="where selects sites by words") as error:
        select(sites(MODELS["llama"].made()[0]), where)
    assert "\n" not in str(error.value)


def test_what_selects_nothing_says_what_there_is():
    found = sites(MODELS["llama"].made()[0])
    with pytest.raises(AttimeError, match=r"selects none of the 2 sites; there are: language self"):
        select(found, "temporal")
    with pytest.raises(AttimeError, match="a site is of kind self, cross"):
        kind("sideways")  # pyright: ignore[reportArgumentType]


def test_what_has_no_attention_is_refused():
    with pytest.raises(AttimeError, match="Linear has no module"):
        sites(nn.Linear(2, 2))
    with pytest.raises(AttimeError, match="got a str"):
        sites("a model")
