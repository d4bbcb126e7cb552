"""Bad input: one clear message, with the place, what was found and what fixes it; the documented exit code."""

import json
import shutil

import pytest

from tests.conftest import RECIPE, refused

HOOKS = """\
import torch
from torch import nn
from torch.utils.data import DataLoader

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()

def load():
    return (X, Y), None
def build(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, num_classes))
def loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)
def step(model, batch, loss, optimizer):
    optimizer.zero_grad()
    value = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    return value
"""
OWN = {
    "load": "data={source='u.py:load'}",
    "build": "model={name='u.py:build'}",
    "loss": "loss={name='u.py:loss'}",
    "step": "train.step='u.py:step'",
    "evaluate": "train.evaluate='u.py:evaluate'",
    "metric": "train.metric='u.py:metric'",
    "augment": "data.augment=['u.py:augment']",
    "optimizer": "optimizer={name='u.py:optimizer', lr=0.1}",
    "schedule": "schedule={name='u.py:schedule'}",
}
SIGNATURES = {
    "load": "",
    "build": "input_shape, num_classes",
    "loss": "outputs, targets",
    "step": "model, batch, loss, optimizer",
    "evaluate": "model, batches, loss",
    "metric": "outputs, targets",
    "augment": "inputs, targets, generator",
    "optimizer": "params, lr",
    "schedule": "optimizer, total_steps",
}


@pytest.fixture
def own(command, tmp_path):
    """A function that runs check-init with one hook of u.py replaced."""

    def run(kind, definition, *arguments, stage="check-init"):
        (tmp_path / "small.toml").write_text(RECIPE)
        (tmp_path / "u.py").write_text(f"{HOOKS}\n{definition}\n")
        sets = [OWN[kind], "train.batch_size=8", *arguments]
        return command(stage, "small.toml", *(part for text in sets for part in ("--set", text)))

    return run


# -- the recipe -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('source = "digits"', 'source = ["digits"]', "small.toml:5: data.source: input should be a valid string"),
        ("[data]", "[[data]]", "small.toml:4: data: must be a table: [data]"),
        ("[stages.coarse]", "[[stages.coarse]]", "stages.coarse: must be a table: [stages.coarse]"),
        ("batch_size = 64", 'batch_size = "64"', "small.toml:18: train.batch_size: input should be a valid integer"),
        ("batch_size = 64", "batch_size = true", "train.batch_size: input should be a valid integer (got True)"),
        ("batch_size = 64", "batch_size = -1", "train.batch_size: input should be greater than or equal to 1 (got -1)"),
        ("lr = 0.1", 'lr = "1e-3"', "small.toml:14: optimizer.lr: input should be a valid number"),
        ("lr = 0.1", "lr = inf", "small.toml:14: optimizer.lr: input should be a finite number (got inf)"),
        ("lr = 0.1", "lr = nan", "optimizer.lr: input should be"),
        ("seed = 0", "seed = 99999999999999999999", "small.toml:2: seed: "),
        ("epochs = 2", 'epochs = "two"', "small.toml:25: stages.coarse.epochs: input should be a valid integer"),
        ('name = "small"', 'name = "../x"', "small.toml:1: name: letters, digits, '.', '_' and '-' only"),
        ('source = "digits"', 'source = "digits"\naugment = [3]', "data.augment.0: must be a name, or a table"),
        ('name = "mlp"', "name = mlp", "small.toml:8: not valid TOML: "),
        ('name = "mlp"', "name = mlp", ": name = mlp"),
        ("batch_size = 64", "batch_size = 0\nprecision = 'fp64'", "precision: input should be 'auto'"),
    ],
)
def test_a_recipe_is_refused_with_its_line(command, tmp_path, old, new, message):
    (tmp_path / "small.toml").write_text(RECIPE.replace(old, new, 1))
    refused(command("check-init", "small.toml"), 2, message)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ('"model.widht" = { choices = [16, 32] }', "search.model.widht: mlp() takes no such argument - did you mean"),
        ('"model.width" = { choices = [16, -3] }', "search.model.width: with -3: must be an integer of at least 1"),
        ('"train.batch_size" = { low = -8, high = 64 }', "search.train.batch_size: input should be greater than"),
        ('"train.batch_size" = { choices = [64, 4000] }', "with 4000: larger than the train split, which has 1150"),
        ('"optimizer.name" = { choices = ["sgd", "adamm"] }', "with 'adamm': unknown optimizer 'adamm' - did you mean"),
        ('"optimizer.name" = { choices = ["sgd", "adam"] }', "with 'adam': optimizer.momentum: Adam() takes no such"),
        ('"optimizer.lr" = { low = -1.0, high = 0.1 }', "small.toml:34: search.optimizer.lr: input should be greater"),
        (
            '"optimizer.lr" = { low = 0.01, high = 0.1, when = { "optimizer.name" = "adam" } }',
            "when: optimizer.name is 'sgd' in this recipe: never varied",
        ),
        (
            "optimizer.lr = { low = 0.01, high = 0.1 }",
            "search.optimizer: not a dotted key of the recipe - did you mean",
        ),
        ('"model.width" = { choices = [] }', "choices: expected a list that is not empty (got [])"),
    ],
)
def test_a_search_that_no_trial_could_follow_is_refused(command, tmp_path, search, message):
    (tmp_path / "small.toml").write_text(f"{RECIPE}\n[search]\n{search}\n")
    refused(command("check-init", "small.toml"), 2, message)


def test_a_misspelt_accepted_code_is_refused(command, tmp_path):
    (tmp_path / "small.toml").write_text(f'{RECIPE}\n[accept]\ncodes = ["IN1O4"]\nreason = "meant"\n')
    message = "small.toml:34: accept.codes: no rule has the code 'IN1O4' - did you mean 'IN1"
    refused(command("check-init", "small.toml"), 2, message)


def test_a_report_of_nothing_says_so(command, tmp_path):
    (tmp_path / "small.toml").write_text(RECIPE)
    refused(command("report", "small.toml"), 3, "no step of runs/small has finished")


def test_a_conditional_search_key_is_tried_only_where_its_condition_holds(command, tmp_path):
    recipe = RECIPE.replace("momentum = 0.9\n", "")
    search = '"optimizer.name" = { choices = ["sgd", "adam"] }\n'
    search += '"optimizer.momentum" = { low = 0.8, high = 0.99, when = { "optimizer.name" = "sgd" } }\n'
    (tmp_path / "small.toml").write_text(f"{recipe}\n[search]\n{search}")
    assert command("check-init", "small.toml").code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lr", "expected key=value"),
        ("=3", "expected key=value"),
        ("optimizer..lr=3", "expected key=value"),
        ("optimizer.lr=0.1\nseed=3", "is not a TOML value"),
        ("foo.bar=1", "--set: foo: unknown key"),
        ("stages.coarse.trials=0", "--set: stages.coarse.trials: input should be greater than or equal to 1"),
        ("seed.x=1", "a key leads through a value that is no table"),
        ("search=3", "--set: search: must be a table"),
    ],
)
def test_an_override_is_refused_as_such(recipe, command, text, message):
    refused(command("check-init", "small.toml", "--set", text), 2, message)


def test_an_override_that_only_a_try_refuses_is_named_as_such(recipe, command):
    done = command(
        "check-init", "small.toml", "--set", "model.widht=3", "--set", "search.'model.depht'={choices=[1,2]}"
    )
    refused(done, 2, "error: --set: model.widht: mlp() takes no such argument - did you mean 'width'?")
    assert "\n--set: search.model.depht: mlp() takes no such argument - did you mean 'depth'?" in done.err
    refused(command("check-init", "small.toml", "--seed", "-1"), 2, "error: --seed: seed: input should be greater")


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"\xef\xbb\xbf" + RECIPE.encode(), 0, ""),
        (RECIPE.replace("\n", "\r\n").encode(), 0, ""),
        (
            RECIPE.replace("small", "sm\xe4ll").encode("latin-1"),
            2,
            "small.toml:1: not valid TOML: byte 0xe4 is not UTF",
        ),
        (b"", 2, "small.toml: name: this key is missing"),
    ],
    ids=["byte order mark", "windows line ends", "latin-1", "empty"],
)
def test_recipes_of_other_editors(command, tmp_path, content, code, message):
    (tmp_path / "small.toml").write_bytes(content)
    done = command("check-init", "small.toml")
    assert (done.code, message in done.err) == (code, True), done.err


def test_a_folder_with_spaces_and_letters_of_all_kinds_holds_recipe_and_files(command, tmp_path):
    folder = tmp_path / "mein Gerät ☃"
    folder.mkdir()
    (folder / "a b.toml").write_text(RECIPE.replace('source = "digits"', 'source = "u.py:load"').replace("= 64", "= 8"))
    (folder / "u.py").write_text(HOOKS)
    done = command("check-init", f"{folder.name}/a b.toml")
    assert done.code == 0, done.err
    assert f"Next:  tuner overfit '{folder.name}/a b.toml'" in done.out.replace("\\\n", "").replace("  ", " ").replace(
        "Next: ", "Next:  "
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--workers", "-1"], 2, "--workers: must be 0 or more (got -1)"),
        (["--run-dir", "small.toml"], 5, "a file stands where a folder is needed"),
        (["--device", "nope"], 2, "unknown device 'nope'"),
        (["--device", "mps"], 5, "there is no 'mps' here"),
    ],
)
def test_flags_are_refused(recipe, command, arguments, code, message):
    done = command("check-init", "small.toml", *arguments, serial="--workers" not in arguments)
    assert done.code == code
    assert message.lower() in done.err.lower()


# -- the user's code ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in OWN])
def test_what_a_hook_raises_is_shown_with_the_users_frames_only(own, tmp_path, kind):
    done = own(kind, f"def {kind}({SIGNATURES[kind]}):\n    raise ValueError('boom')", stage="run")
    line = HOOKS.count("\n") + 3
    assert done.code == 4, done.out + done.err
    assert f"error: {tmp_path}/u.py:{line}: " in done.err and "ValueError: boom" in done.err
    assert "/tuner/" not in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("kind", ["load", "step"])
def test_a_hook_that_exits_is_an_error_too(own, kind):
    refused(own(kind, f"def {kind}({SIGNATURES[kind]}):\n    import sys; sys.exit(0)"), 4, "raised SystemExit: 0")


@pytest.mark.parametrize(
    ("kind", "definition", "code", "message"),
    [
        ("load", "def load(): pass", 2, "data.source: u.py:load returned None"),
        ("load", "def load(): return ((X, Y),)", 2, "returned a tuple of 1"),
        ("load", "def load(): return X, Y", 2, "returned one pair of arrays, not splits"),
        ("load", "def load():\n    yield X", 2, "returned generator"),
        ("load", "def load(): return (X, Y.float()), None", 2, "the targets are real numbers (float32)"),
        ("load", "def load(): return (X, nn.functional.one_hot(Y)), None", 2, "looks one-hot or multi-hot"),
        ("load", "def load(): return DataLoader(X), None", 2, "train is an array of shape (60, 4)"),
        ("load", "def load(path): return (X, Y), None", 2, "load() needs 'path', which the recipe does not give"),
        ("load", "def laod(): pass\ndel load", 2, "u.py has no 'load' - did you mean 'laod'?"),
        ("load", "load = 3", 2, "is not callable, it is of type int"),
        ("load", "def load(:\n    pass", 4, "u.py:21: not valid Python: invalid syntax"),
        ("load", "import no_such_module_at_all", 4, "No module named 'no_such_module_at_all'"),
        ("build", "def build(input_shape, num_classes): pass", 4, "build() must return a torch.nn.Module"),
        ("build", "def build(input_shape, num_classes): return nn.Linear(3, 10)", 2, "does not pass through the model"),
        (
            "build",
            "class M(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.f = nn.LazyLinear(10)\n"
            "    def forward(self, x):\n        return {'a': self.f(x.flatten(1)), 'b': x}\n"
            "def build(input_shape, num_classes): return M()",
            2,
            "the loss fails on the model's outputs",
        ),
        ("loss", "def loss(outputs, targets): return 3.0", 4, "the loss must be a scalar tensor"),
        (
            "loss",
            "def loss(outputs, targets): return nn.functional.cross_entropy(outputs, targets).detach()",
            2,
            "the loss has no gradient",
        ),
        ("step", "def step(model, batch, loss, optimizer): pass", 4, "train.step: must return the loss of the batch"),
        ("step", "def step(model, batch, loss): pass\ndef step(model, extra): pass", 2, "step() needs 'extra'"),
        ("metric", "def metric(outputs, targets): return torch.ones(3)", 4, "the metric must be a number"),
        ("evaluate", "def evaluate(model, batches, loss): return {'acc': 1}", 4, "the dictionary must hold a 'loss'"),
        (
            "augment",
            "def augment(inputs, targets, generator): return inputs",
            2,
            "data.augment: u.py:augment must return",
        ),
        ("optimizer", "def optimizer(params, lr): return [1]", 4, "must return a torch.optim.Optimizer"),
    ],
)
def test_what_a_hook_gives_is_checked(own, kind, definition, code, message):
    refused(own(kind, definition), code, message)


MODEL = """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    def forward(self, x):
        {body}
def build(input_shape, num_classes): return M()
"""
TUPLE_LOSS = """
def loss(outputs, targets):
    if isinstance(outputs, tuple):
        return sum(nn.functional.cross_entropy(item, targets) for item in outputs)
    return nn.functional.cross_entropy(outputs, targets)
"""


@pytest.mark.parametrize(
    ("definition", "sets", "code", "message"),
    [
        (
            "",
            ["optimizer={name='sparseadam'}"],
            2,
            "optimizer.name: one training step raises RuntimeError: SparseAdam does",
        ),
        ("", ["schedule={name='torch.optim.lr_scheduler.StepLR', step_size=0}"], 2, "schedule.name: one training step"),
        ("", ["optimizer={name='adam', betas=[]}"], 2, "optimizer: Adam() does not accept its arguments: IndexError"),
        (
            "",
            ["schedule={name='torch.optim.lr_scheduler.CyclicLR', base_lr=0.1, max_lr=1.0, step_size_up=0}"],
            2,
            "schedule: CyclicLR() does not accept its arguments: ZeroDivisionError: ",
        ),
        (MODEL.format(body="assert x.shape[1] == 224, 'Wrong image height!'"), [], 4, "AssertionError: Wrong image he"),
        (
            MODEL.format(body="y = self.f(x)\n        return dict(a=y, b=y) if self.training else y"),
            ["loss={name='cross_entropy'}"],
            2,
            "In train mode the model returns a dict: write a loss that takes it",
        ),
        (
            MODEL.format(body="if self.training: raise KeyboardInterrupt\n        return self.f(x)"),
            [],
            4,
            "a training step raised KeyboardInterrupt",
        ),
    ],
)
def test_what_a_training_step_raises_fails_step_1(own, definition, sets, code, message):
    refused(own("build", definition or MODEL.format(body="return self.f(x)"), *sets), code, message)


def test_auxiliary_outputs_in_train_mode_work_with_a_loss_that_takes_them(own):
    model = MODEL.format(body="y = self.f(x)\n        return (y, y * 0.5) if self.training else y")
    done = own("build", model + TUPLE_LOSS, "loss={name='u.py:loss'}", "stages.overfit.steps=20")
    assert done.code == 0, done.err


def test_a_bug_of_ours_leaves_its_traceback_in_the_run_or_the_temporary_folder(recipe, command, tmp_path, monkeypatch):
    import tempfile

    from tuner.workflow import freshness

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(freshness.Session, "check_folder", lambda self: 1 / 0)
    done = command("check-init", "small.toml")
    assert done.code == 70 and "a bug of tuner: ZeroDivisionError: division by zero" in done.err
    assert len(list((tmp_path / "runs" / "small").glob("traceback-*.txt"))) == 1
    monkeypatch.setattr("tuner.recipe.file.key_lines", lambda path: 1 / 0)
    shutil.rmtree(tmp_path / "runs")
    assert command("check-init", "small.toml").code == 70
    assert len(list((tmp_path / "temporary").glob("traceback-*.txt"))) == 1
    assert not (tmp_path / "runs").exists() and not list(tmp_path.glob("traceback*"))


def test_a_disk_that_fails_where_nobody_looked_for_it_is_no_bug_of_ours(recipe, command, monkeypatch):
    from tuner.workflow import freshness

    def full(self):
        raise OSError(28, "No space left on device", "runs/small/x")

    monkeypatch.setattr(freshness.Session, "check_folder", full)
    refused(command("check-init", "small.toml"), 5, "runs/small/x: No space left on device", "Free some space")


def test_a_head_that_is_too_narrow_is_a_finding(own):
    done = own("build", "def build(input_shape, num_classes): return nn.Sequential(nn.Flatten(), nn.LazyLinear(7))")
    assert (done.code, "IN108" in done.out, "the model has 7 outputs for 10 classes" in done.out) == (1, True, True)


def test_what_the_users_code_prints_is_not_on_stdout(own):
    done = own("load", "def load():\n    print('HELLO')\n    return (X, Y), None")
    assert (done.code, "HELLO" in done.out, "HELLO" in done.err) == (0, False, True)


def test_a_name_that_is_only_a_file_asks_for_a_function(recipe, command):
    done = command("check-init", "small.toml", "--set", "model={name='u.py'}")
    refused(done, 2, "'u.py' names a file, but no function in it", 'Write "u.py:name".')


WINNER = '{"round": 1, "trial": "x", "checkpoint": "../../x.pt", "params": {}}'


# -- the run folder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("coarse/result.json", "[]", ["fine"], "coarse/result.json: not what tuner wrote (a list, not a dict)"),
        ("coarse/result.json", "{}", ["fine"], "coarse/result.json: not what tuner wrote (it has no 'stage')"),
        ("coarse/result.json", "{", ["fine"], "coarse/result.json: not readable as JSON"),
        ("coarse/manifest.json", '{"outputs": {}}', ["fine"], "coarse/manifest.json: not what tuner wrote"),
        ("coarse/manifest.json", {"stage_table": True}, ["fine"], "not what tuner wrote (stage_table is True"),
        ("coarse/manifest.json", {"stage_table": [[]]}, ["fine"], "not what tuner wrote (stage_table is"),
        ("coarse/trials.jsonl", "", ["fine"], "coarse/trials.jsonl was changed after it was written"),
        ("coarse/trials.csv", "", ["fine"], "coarse/trials.csv was changed after it was written"),
        ("coarse/recipe.json", "[]", ["fine"], "coarse/recipe.json: not what tuner wrote"),
        ("winner.json", "[]", ["test", "--force"], "winner.json: not what tuner wrote"),
        ("winner.json", WINNER, ["test", "--force"], "names a checkpoint that no stage wrote"),
        ("test-looks.json", '{"a": 1}', ["test", "--force"], "test-looks.json: not what tuner wrote"),
        ("coarse/recipe.json", "{}", ["fine"], "coarse/recipe.json: not what tuner wrote (it has no 'name')"),
        ("rounds.json", "[3]", ["status"], "rounds.json: not what tuner wrote"),
        ("rounds.json", "{", ["fine", "--apply"], "rounds.json: not readable as JSON"),
    ],
)
def test_an_artifact_that_tuner_did_not_write_is_named(finished, command, name, content, arguments, message):
    path = finished / "runs" / "small" / name
    path.write_text(content if isinstance(content, str) else json.dumps(json.loads(path.read_text()) | content))
    before = {file: file.read_bytes() for file in path.parent.rglob("*.json")}
    stage, *options = arguments
    refused(command(stage, "small.toml", *options), 3, message)
    assert {file: file.read_bytes() for file in path.parent.rglob("*.json")} == before


@pytest.mark.parametrize(
    ("stage", "keys", "command_after", "message"),
    [
        ("coarse", ["space", "optimizer.lr", "high"], "fine", "a range has a low and a high"),
        ("coarse", ["top", 0, "params"], "fine", "top.0.params"),
        ("lr-sweep", ["lr_high"], "coarse", "lr_high is not there"),
        ("fine", ["params"], "diagnose", "choice.params is not there"),
        ("fine", ["checkpoint"], "test", "choice.checkpoint is not there"),
    ],
)
def test_a_choice_that_lacks_a_part_is_no_bug(finished, command, stage, keys, command_after, message):
    path = finished / "runs/small" / stage / "result.json"
    whole = json.loads(path.read_text())
    inner = whole["choice"]
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    path.write_text(json.dumps(whole))
    done = command(command_after, "small.toml")
    assert done.code == 3 and message in done.err and f"{stage}/result.json" in done.err, done.err


def test_a_corrupt_step_does_not_keep_status_from_showing_the_others(finished, command):
    (finished / "runs/small/coarse/manifest.json").write_text("{")
    for arguments in (("status",), ("status", "small.toml")):
        done = command(*arguments)
        assert done.code == 0, done.err
        assert "corrupt" in done.out and "check-init  fresh" in done.out


@pytest.mark.parametrize(("step", "shown"), [("fine", True), ("check-init", False)])
def test_a_report_names_what_was_changed_by_hand(finished, command, step, shown):
    with open(finished / f"runs/small/{step}/trials.csv", "a") as file:
        file.write("1,2\n")
    message = f"runs/small/{step}/trials.csv was changed after it was written"
    done = command("report", "small.toml")
    assert done.code == 3 and done.err.count(message) == 1
    assert ("STEP 4" in done.out) is shown
    done = command("report", "small.toml", "--json")
    assert message in json.loads(done.out)["error"]["message"]


def test_a_changed_list_is_stale_like_any_other_key(finished, command):
    done = command("coarse", "small.toml", "--set", "data.augment=['gaussian_noise']")
    refused(done, 3, "data.augment: [] -> ['gaussian_noise']")


def test_a_renamed_recipe_is_another_run(finished, command):
    shutil.copy(finished / "small.toml", finished / "other.toml")
    text = (finished / "other.toml").read_text().replace('name = "small"', 'name = "other"', 1)
    (finished / "other.toml").write_text(text)
    refused(command("fine", "other.toml"), 3, "which is missing in runs/other")


def test_an_accepted_search_change_stales_coarse_and_names_the_key(finished, command):
    done = command("fine", "small.toml", "--set", 'search={"model.width"={choices=[16,32]}}')
    refused(done, 3, "fine needs coarse, whose result is stale", "search.model.width")


def test_test_before_fine_says_what_is_missing(recipe, command):
    missing = "test needs the result of fine, which is missing in runs/small"
    refused(command("test", "small.toml"), 3, missing, "hint: Run it first: tuner run small.toml --through fine")


@pytest.mark.parametrize("name", ["garbage\0", ""])
def test_a_lock_file_with_other_content_does_not_matter(finished, command, name):
    (finished / "runs/small/lock").write_text(name)
    assert command("fine", "small.toml").code == 0


def test_every_error_is_json_with_json(own, command, tmp_path):
    cases = [
        (2, ["--set", "optimizer.lr=inf"]),
        (2, ["--set", "model.widht=3"]),
        (3, ["--set", "data={source='npz', path='no.npz'}"]),
        (4, ["--set", "loss={name='u.py:loss'}"]),
        (5, ["--device", "cuda:99"]),
    ]
    (tmp_path / "small.toml").write_text(RECIPE)
    (tmp_path / "u.py").write_text("def loss(outputs, targets):\n    raise ValueError('boom')\n")
    for code, arguments in cases:
        done = command("check-init", "small.toml", "--json", *arguments)
        error = json.loads(done.out)["error"]
        assert (done.code, error["code"], done.err) == (code, code, ""), arguments
        assert error["message"] and error["hint"]
