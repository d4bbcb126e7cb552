import pytest

from tests.train.training_cases import make_case
from tuner.core.errors import EnvironmentProblem, InputError, UserCodeError
from tuner.train.trial import preflight


def problems(case):
    return [list(problem) for problem in preflight(case.tables, case.env).problems]


def test_a_sound_recipe_has_no_problem_and_a_summary(tmp_path):
    case = make_case(tmp_path)
    answer = preflight(case.tables, case.env)
    assert (answer.problems, answer.hints, answer.device) == ((), (), "cpu")
    assert answer.summary == {
        "task": "classification",
        "score": "accuracy",
        "num_classes": 3,
        "class_names": ["0", "1", "2"],
        "input_shape": [4],
        "train": 40,
        "val": 20,
        "test": 0,
        "parameters": (4 * 6 + 6) + (6 * 3 + 3),
    }


def test_every_problem_of_every_table_is_reported_at_once(tmp_path):
    overrides = {
        "data": {"source": "npz", "path": "x.npz", "val_fracton": 0.3, "augment": ["hflp", "gaussian_noise"]},
        "model.widht": 3,
        "loss.name": "cross_entrpy",
        "optimizer.betas": [0.9, 0.99],
        "schedule.name": "multistep",
        "train.metric": "mine.py:nope",
    }
    case = make_case(tmp_path, overrides=overrides)
    search = {"optimizer.momentun": {"low": 0.8, "high": 0.9}, "model.depht": {"choices": [1, 2]}}
    found = dict(preflight({**case.tables, "search": search}, case.env).problems)
    assert found["data.val_fracton"] == "npz() takes no such argument - did you mean 'val_fraction'? (takes: path)"
    assert found["data.augment"].startswith("unknown augment 'hflp' - did you mean 'hflip'?")
    assert found["search.optimizer.momentun"].startswith("SGD() takes no such argument - did you mean 'momentum'?")
    assert found["search.model.depht"].startswith("mlp() takes no such argument - did you mean 'depth'?")
    assert found["model.widht"].startswith("mlp() takes no such argument - did you mean 'width'?")
    assert found["loss.name"].startswith("unknown loss 'cross_entrpy' - did you mean 'cross_entropy'?")
    assert found["optimizer.betas"].startswith("SGD() takes no such argument")
    assert found["schedule"].startswith("multistep() needs 'milestones'")
    assert "has no 'nope'" in found["train.metric"]
    assert len(found) == 9


@pytest.mark.parametrize(
    ("overrides", "key", "message"),
    [
        (
            {"train.batch_size": 41},
            "train.batch_size",
            "is larger than the train split, which has 40 examples (got 41)",
        ),
        ({"model.width": 0}, "model.width", "must be an integer of at least 1 (got 0)"),
        ({"model.init": "kaiming"}, "model.init", "unknown init 'kaiming'"),
        ({"model": {"name": "convnet"}}, "model.name", "convnet needs images"),
        ({"train.monitor": "val_f1"}, "train.monitor", "'val_f1' is not measured"),
        (
            {"model": {"name": "mine.py:unfit"}},
            "model.name",
            "a batch of shape (2, 4) does not pass through the model: mat1",
        ),
        ({"loss.name": "torch.nn.MSELoss"}, "loss.name", "the loss fails on the model's outputs"),
    ],
)
def test_a_problem_is_found_by_building_and_trying(tmp_path, overrides, key, message):
    code = "def unfit():\n    return nn.Linear(5, 3)\n"
    found = problems(make_case(tmp_path, code, overrides))
    assert [item[0] for item in found] == [key]
    assert found[0][1].startswith(message)


def test_a_head_that_is_too_narrow_is_left_to_check_init(tmp_path):
    case = make_case(tmp_path, "def narrow():\n    return nn.Linear(4, 2)\n", {"model": {"name": "mine.py:narrow"}})
    assert problems(case) == []


def test_errors_that_are_not_the_recipes_are_raised(tmp_path):
    case = make_case(tmp_path, "def build():\n    return 1 / 0\n", {"model": {"name": "mine.py:build"}})
    with pytest.raises(UserCodeError, match=r"mine\.py:\d+: model raised ZeroDivisionError"):
        problems(case)
    case = make_case(tmp_path, overrides={"data": {"source": "npz", "path": str(tmp_path / "gone.npz")}})
    with pytest.raises(InputError, match=r"gone\.npz"):
        problems(case)


def test_a_device_that_is_not_there_is_a_problem_of_the_machine(tmp_path):
    from dataclasses import replace

    case = make_case(tmp_path)
    with pytest.raises(EnvironmentProblem, match="there is no 'cuda:99' here"):
        preflight(case.tables, replace(case.env, device="cuda:99"))


@pytest.mark.parametrize("name", ["cosine", "wsd"])
def test_a_warm_up_of_some_epochs_is_no_problem_for_the_step_that_is_tried(tmp_path, name):
    assert problems(make_case(tmp_path, overrides={"schedule": {"name": name, "warmup_epochs": 2}})) == []
