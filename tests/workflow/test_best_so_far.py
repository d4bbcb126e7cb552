"""Whatever moment a search is stopped, there is a best model so far, and it can be tested."""

import json
import shutil

import pytest

from tests.cli.test_budget import interrupted_after


def winner_of(folder):
    return json.loads((folder / "runs/small/winner.json").read_text())


@pytest.fixture
def swept(finished):
    """A run of which steps 1 to 3 are done."""
    for name in ("coarse", "fine", "diagnose", "test", "winner.json", "test-looks.json"):
        path = finished / "runs/small" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return finished


def test_a_search_stopped_after_its_first_trial_has_a_model_to_test(swept, command):
    interrupted_after(1, command, "coarse", "small.toml")
    winner = winner_of(swept)
    assert winner["so_far"] == "coarse" and (swept / "runs/small" / winner["checkpoint"]).exists()
    done = command("test", "small.toml")
    assert done.code == 0, done.err
    assert "The search has not ended: this is the best trial of coarse so far" in " ".join(done.out.split())


def test_the_best_so_far_is_the_best_of_both_searches_until_fine_names_the_winner(swept, command):
    assert command("coarse", "small.toml").code == 0
    coarse = json.loads((swept / "runs/small/coarse/result.json").read_text())["choice"]
    assert winner_of(swept)["trial"] == coarse["trial"] and winner_of(swept)["score"] == coarse["top"][0]["score"]
    interrupted_after(2, command, "fine", "small.toml")
    assert winner_of(swept)["score"] >= coarse["top"][0]["score"]
    assert command("test", "small.toml").code == 0
    assert command("fine", "small.toml").code == 0
    fine = json.loads((swept / "runs/small/fine/result.json").read_text())["choice"]
    assert set(winner_of(swept)) == {"round", "trial", "checkpoint", "params"}
    assert winner_of(swept)["trial"] == fine["trial"]
    stored = command("test", "small.toml")
    assert "This result is stale" in stored.out + stored.err, "another look needs --force"


def test_a_search_of_another_recipe_forgets_the_best_so_far_of_the_one_before(swept, command):
    assert command("coarse", "small.toml").code == 0
    coarse = winner_of(swept)
    interrupted_after(1, command, "fine", "small.toml")
    path = swept / "runs/small/winner.json"
    path.write_text(json.dumps({**winner_of(swept), "so_far": "fine", "rank": 10.0}))  # nothing comes near it
    interrupted_after(0, command, "fine", "small.toml", "--epochs", "4")
    assert winner_of(swept)["so_far"] == "coarse" and winner_of(swept)["trial"] == coarse["trial"]
    interrupted_after(1, command, "fine", "small.toml", "--epochs", "4")
    assert winner_of(swept)["rank"] < 1.0


def test_the_last_trial_before_a_kill_is_heard_of_by_the_next_command(swept, command):
    interrupted_after(1, command, "coarse", "small.toml")
    first = winner_of(swept)
    (swept / "runs/small/winner.json").unlink()  # as the kill came right after the trial's line
    interrupted_after(0, command, "coarse", "small.toml")
    assert winner_of(swept) == first


def test_a_search_that_ran_again_names_its_winner_although_it_was_killed_right_before(finished, command, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    older = {"round": 1, "trial": "0" * 12, "checkpoint": "fine/checkpoints/000000000000.pt", "params": {}}
    (finished / "runs/small/winner.json").write_text(json.dumps(older))
    with monkeypatch.context() as patch:
        patch.setattr("tuner.workflow.outputs.write_winner", killed)
        assert command("fine", "small.toml", "--seeds", "1").code == 130
    assert (finished / "runs/small/fine/manifest.json").exists() and winner_of(finished) == older
    done = command("fine", "small.toml", "--seeds", "1")
    assert done.code == 0 and "nothing was run" in done.out, done.out
    fine = json.loads((finished / "runs/small/fine/result.json").read_text())["choice"]
    assert winner_of(finished)["trial"] == fine["trial"]
    assert not (finished / "runs/small/fine/.attempts.json").exists()


def test_a_named_winner_is_not_replaced_by_a_search_that_begins_again(finished, command):
    before = winner_of(finished)
    interrupted_after(1, command, "coarse", "small.toml", "--fresh")
    assert winner_of(finished) == before
