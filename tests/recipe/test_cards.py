"""The cards of the parts: every built-in has one, with real arguments and honest ranges; "auto" takes the range."""

import inspect

import pytest

from tuner.core.errors import UsageError
from tuner.recipe import cards, registry
from tuner.recipe.file import load_recipe
from tuner.stages import settings_models

KINDS = cards.kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_has_a_card_and_every_card_is_a_built_in(kind):
    known, found = registry.built_ins(kind), {card.name: card for card in cards.cards(kind)}
    assert set(found) == set(known) and found


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_says_what_and_names_arguments_that_the_part_takes(kind):
    known = registry.built_ins(kind)
    for card in cards.cards(kind):
        assert card.what.endswith("."), card.name
        taken = inspect.signature(known[card.name]).parameters
        for argument in card.arguments:
            assert argument.name in taken, (card.name, argument.name)
            must_be_given = taken[argument.name].default is inspect.Parameter.empty
            assert must_be_given == (not argument.default), (card.name, argument.name)
            assert argument.low is None or argument.low < argument.high, (card.name, argument.name)
            assert not argument.log or argument.low > 0, (card.name, argument.name)


def test_most_parts_say_when_and_whence():
    every = [card for kind in KINDS if kind not in ("source", "model") for card in cards.cards(kind)]
    assert len(every) > 100
    assert sum(bool(card.source) for card in every) > 0.85 * len(every)


def test_a_card_is_read_from_its_docstring():
    found = next(card for card in cards.cards("loss") if card.name == "focal")
    assert found.when == "classes of very different size, where most examples are easy."
    assert found.arguments[0] == cards.Argument("gamma", "2.0", 0.5, 5.0, False)
    assert found.source.startswith("T. Lin et al. 2017") and found.key == "loss.name"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("train.clip_norm", {"low": 0.1, "high": 10, "log": True, "int": False}),
        ("optimizer.momentum", {"low": 0.8, "high": 0.99, "log": False, "int": False}),
        ("optimizer.weight_decay", {"low": 1e-6, "high": 1e-2, "log": True, "int": False}),
        ("loss.label_smoothing", {"low": 0, "high": 0.2, "log": False, "int": False}),
        ("schedule.warmup_epochs", {"low": 0, "high": 5, "log": False, "int": False}),
        ("train.batch_size", {"low": 16, "high": 256, "log": True, "int": True}),
        ("model.width", None),
    ],
)
def test_auto_stands_for_the_range_of_the_card(key, expected):
    recipe = {"optimizer": {"name": "sgd"}, "schedule": {"name": "cosine"}, "model": {"name": "mlp"}}
    assert cards.default_range(key, recipe) == expected


def test_auto_in_a_recipe_becomes_the_range(tmp_path):
    path = tmp_path / "a.toml"
    text = 'name = "a"\n[data]\nsource = "digits"\n[model]\nname = "mlp"\n[loss]\nname = "focal"\n[search]\n'
    path.write_text(text + '"optimizer.lr" = "auto"\n"loss.gamma" = "auto"\n"train.clip_norm" = "auto"\n')
    search = load_recipe(path, settings=settings_models()).search
    assert search["optimizer.lr"] == "auto"
    assert search["loss.gamma"] == {"low": 0.5, "high": 5.0, "log": False, "int": False}
    assert search["train.clip_norm"]["high"] == 10
    path.write_text(text + '"model.width" = "auto"\n')
    with pytest.raises(UsageError, match=r"a.toml:9: search.model.width: no range is known of model.width"):
        load_recipe(path, settings=settings_models())


def test_an_unknown_kind_is_named():
    with pytest.raises(UsageError, match="unknown kind 'losses' - did you mean 'loss'"):
        cards.cards("losses")
