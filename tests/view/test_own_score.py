"""Reports and plots name the score that the run maximises, whatever it is."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest

from tests.view.seen import measured, plain_console, read, text_of
from tuner.view.artifacts import loss_in_nats
from tuner.view.console import report
from tuner.view.html.figures import of_search
from tuner.view.plots import coarse, diagnose, fine, overfit
from tuner.view.text import with_unit, words_of


@pytest.fixture(scope="module")
def of_r2(run_dir, tmp_path_factory):
    """The run as if r2 had been measured in the place of accuracy: its files and the metrics of its searches."""
    run = shutil.copytree(
        run_dir, tmp_path_factory.mktemp("r2") / "run", ignore=shutil.ignore_patterns("*.pt", "*.png")
    )
    for path in [*run.glob("*/trials.csv"), *run.glob("*/curves/*.csv")]:
        head, _, rest = path.read_text().partition("\n")
        path.write_text(f"{head.replace('accuracy', 'r2')}\n{rest}")
    searched = {"score_name": "r2", "monitor": "val_r2", "best_val_accuracy": None}
    gone = dict.fromkeys(("train_accuracy", "val_accuracy", "gap", "gap_interval"))
    found = {stage: measured(read(run, stage), **searched) for stage in ("coarse", "fine")}
    found["diagnose"] = measured(read(run, "diagnose"), score_name="r2", **gone)
    found = {stage: replace(result, headline="", findings=[]) for stage, result in found.items()}
    none = dict.fromkeys(("final_accuracy", "eval_accuracy"))
    tried = [replace(entry, final_accuracy=None) for entry in read(run, "overfit").metrics.rates]
    found["overfit"] = replace(measured(read(run, "overfit"), rates=tried, **none), headline="")
    return run, found


@pytest.mark.parametrize("stage", ["coarse", "fine", "diagnose"])
def test_a_report_names_it_and_no_accuracy(of_r2, stage):
    run, found = of_r2
    console, file = plain_console()
    report(found[stage], run / stage, "", console)
    text = text_of(file)
    assert "r2" in text and "accuracy" not in text


def test_of_a_task_without_accuracy_the_tiny_subset_has_its_loss_alone(of_r2):
    run, found = of_r2
    console, file = plain_console()
    report(found["overfit"], run / "overfit", "", console)
    (figure,) = overfit.figures(found["overfit"], run / "overfit").values()
    assert "final loss" in text_of(file) and "accuracy" not in text_of(file) + texts_of(figure).lower()


def texts_of(figure):
    labels = [text for ax in figure.axes for text in (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left"))]
    ticks = [tick.get_text() for ax in figure.axes for tick in ax.get_xticklabels()]
    return " ".join([figure.get_suptitle(), *labels, *ticks])


@pytest.mark.parametrize("drawn", [coarse, fine, diagnose], ids=["coarse", "fine", "diagnose"])
def test_its_plots_name_it_and_no_accuracy(of_r2, drawn):
    run, found = of_r2
    stage = drawn.__name__.rpartition(".")[2]
    said = [texts_of(figure) for figure in drawn.figures(found[stage], run / stage).values()]
    assert any("r2" in text for text in said) and not any("accuracy" in text for text in said)


def test_the_pages_figures_of_a_search_name_it(of_r2):
    run, found = of_r2
    titles = [figure["title"] for figure in of_search(found["coarse"].to_json(), run / "coarse")]
    assert any(title.startswith("Val r2 of") for title in titles) and not any("accuracy" in title for title in titles)


def test_the_best_of_a_search_are_listed_with_it(of_r2):
    run, found = of_r2
    console, file = plain_console()
    report(found["coarse"], run / "coarse", "", console)
    first = re.search(r"^ +1 +(\d\.\d+) ", text_of(file), re.MULTILINE)
    assert first and first[1] == f"{max(entry['val_accuracy'] for entry in found['coarse'].choice['top']):.3f}"


@pytest.mark.parametrize(
    ("score", "label"),
    [
        ("balanced_accuracy", "balanced accuracy [fraction]"),
        ("loss", "loss"),
        ("r2", "r2"),
        (None, "accuracy [fraction]"),
    ],
)
def test_a_scores_axis_has_its_words_and_its_unit(score, label):
    assert with_unit(words_of(score)) == label


@pytest.mark.parametrize(
    ("recipe", "label"),
    [
        ({"loss": {"name": "cross_entropy"}}, "val loss [nats]"),
        ({"loss": {"name": "torch.nn.CrossEntropyLoss"}}, "val loss [nats]"),
        ({"loss": {"name": "mse"}}, "val loss"),
        ({"loss": {"name": "mine.py:own"}}, "val loss"),
        ({"loss": [{"name": "cross_entropy"}, {"name": "center"}]}, "val loss"),
        ({"loss": {"name": "cross_entropy"}, "data": {"source": "log"}}, "val loss"),
        ({}, "val loss"),
    ],
)
def test_a_loss_is_in_nats_where_it_is_of_a_likelihood(recipe, label, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert with_unit("val loss", loss_in_nats(tmp_path)) == label
