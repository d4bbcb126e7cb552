import pytest

from tests.search.search_cases import recipe_of
from tuner.core.result import Proposal
from tuner.search.knobs import Knobs

OTHER = {"model.depth": {"low": 1, "high": 3}}  # a search that leaves the keys below alone


def knobs(params=None, epochs=15, search=None, **tables):
    return Knobs(recipe_of(search=search or OTHER, **tables), params or {}, epochs)


@pytest.mark.parametrize(
    ("proposal", "expected"),
    [
        (Proposal("stages.fine.epochs", "lengthen", ""), {"stages.fine.epochs": (15, 23)}),
        (Proposal("stages.fine.epochs", "shorten", "", 2), {"stages.fine.epochs": (15, 6)}),
        (Proposal("schedule.name", "anneal", ""), {"schedule.name": ("constant", "cosine")}),
        (Proposal("optimizer.lr", "multiply", "", 10.0), {"optimizer.lr": (0.1, 1.0)}),
        (Proposal("train.precision", "set", "", "fp32"), {"train.precision": ("auto", "fp32")}),
        (Proposal("optimizer.weight_decay", "lower", ""), {"optimizer.weight_decay": (0.1, 0.01)}),
    ],
)
def test_a_proposal_becomes_the_change_of_this_recipe(proposal, expected):
    given = knobs(optimizer={"lr": 0.1, "weight_decay": 0.1})
    assert changes(given.changes(proposal)) == expected


def test_an_operation_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="no operation 'turn' is known for 'optimizer.lr'"):
        knobs().changes(Proposal("optimizer.lr", "turn", ""))


def changes(found):
    return {change.key: (change.old, change.new) for change in found}


def test_longer_is_half_as_long_again_and_shorter_leaves_room():
    assert changes(knobs(epochs=15).longer("")) == {"stages.fine.epochs": (15, 23)}
    assert changes(knobs(epochs=20).shorter(2, "")) == {"stages.fine.epochs": (20, 6)}
    assert changes(knobs(epochs=5).shorter(2, "")) == {}


@pytest.mark.parametrize(
    ("source", "new"),
    [
        ("digits", [{"name": "random_crop", "padding": 1}]),
        ("cifar10", ["hflip", {"name": "random_crop", "padding": 4}]),
    ],
)
def test_images_without_augmentation_are_augmented(source, new):
    assert changes(knobs(data={"source": source}).regularise(""))["data.augment"] == ([], new)


def test_what_is_augmented_or_no_image_gets_dropout():
    for data in ({"source": "table"}, {"source": "digits", "augment": ["noise"]}):
        assert changes(knobs(data=data).regularise(""))["model.dropout"] == (0.0, 0.2)


def test_a_users_model_gets_no_dropout_that_it_may_not_have():
    mine = {"name": "my.py:build"}
    assert "model.dropout" not in changes(knobs(data={"source": "table"}, model=mine).regularise(""))
    had = changes(knobs(data={"source": "table"}, model={**mine, "dropout": 0.4}).regularise(""))
    assert had["model.dropout"] == (0.4, 0.5)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ({"name": "sgd", "weight_decay": 1e-4}, (1e-4, 3e-4)),
        ({"name": "sgd"}, (0.0, 5e-4)),
        ({"name": "adamw"}, (0.01, 0.03)),
        ({"name": "my.py:build"}, None),
    ],
)
def test_weight_decay_is_tripled_or_begun(optimizer, expected):
    assert changes(knobs(optimizer=optimizer).regularise("")).get("optimizer.weight_decay") == expected


def test_the_winners_own_value_is_the_one_that_changes():
    given = knobs({"optimizer.weight_decay": 2e-3}, optimizer={"weight_decay": 1e-4})
    assert changes(given.regularise(""))["optimizer.weight_decay"] == (2e-3, 6e-3)


def test_a_searched_key_is_left_alone():
    search = {"optimizer.weight_decay": {"low": 1e-5, "high": 1e-2, "log": True}, "model.width": {"choices": [8, 16]}}
    given = knobs({"optimizer.weight_decay": 1e-3}, search=search)
    assert "optimizer.weight_decay" not in changes(given.regularise(""))
    assert changes(given.relax("")) == {}


def test_relaxing_takes_back_and_widens():
    given = knobs(model={"name": "mlp", "width": 16, "dropout": 0.3}, optimizer={"weight_decay": 3e-3})
    assert changes(given.relax("")) == {
        "model.dropout": (0.3, 0.1),
        "optimizer.weight_decay": (3e-3, 1e-3),
        "model.width": (16, 32),
    }


def test_calming_anneals_first_and_lowers_a_fixed_rate_second():
    assert changes(knobs().calm("")) == {"schedule.name": ("constant", "cosine")}
    cosine = {"name": "cosine"}
    assert changes(knobs(schedule=cosine, optimizer={"lr": 0.3}).calm("")) == {"optimizer.lr": (0.3, 0.1)}
    assert changes(knobs(schedule=cosine, search={"optimizer.lr": "auto"}).calm("")) == {}


@pytest.mark.parametrize(
    ("key", "tables", "expected"),
    [
        ("optimizer.weight_decay", {"optimizer": {"weight_decay": 0.1}}, (0.1, 0.01)),
        ("model.dropout", {"model": {"name": "mlp", "dropout": 0.5}}, (0.5, 0.0)),
        ("loss.label_smoothing", {"loss": {"label_smoothing": 0.9}}, (0.9, 0.1)),
        ("loss.label_smoothing", {"loss": {"label_smoothing": 0.1}}, (0.1, 0.0)),
        ("data.augment", {"data": {"source": "digits", "augment": ["hflip"]}}, (["hflip"], [])),
        ("optimizer.weight_decay", {}, None),
    ],
)
def test_a_regulariser_is_taken_back_by_itself(key, tables, expected):
    assert changes(knobs(**tables).less(key, "")).get(key) == expected


def test_a_regulariser_that_is_searched_is_left_alone():
    search = {"optimizer.weight_decay": {"low": 1e-5, "high": 1e-1, "log": True}}
    assert knobs({"optimizer.weight_decay": 0.1}, search=search).less("optimizer.weight_decay", "") == []


def test_a_limit_of_the_gradients_is_raised_and_a_rate_multiplied():
    given = knobs(train={"clip_norm": 0.01}, optimizer={"lr": 0.1})
    assert changes(given.unclipped("")) == {"train.clip_norm": (0.01, 1.0)}
    assert changes(knobs().unclipped("")) == {}
    assert changes(given.rate(10.0, "")) == {"optimizer.lr": (0.1, 1.0)}
