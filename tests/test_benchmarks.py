import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import pages, report
from benchmarks.task import Task, make_subset

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system has no /proc/PID/smaps")
def test_two_workers_share_the_pages_of_the_cache_and_hold_none_of_their_own(tmp_path):
    found = pages.measure(tmp_path)
    assert len(found["processes"]) == 2
    for sizes in found["processes"].values():
        whole = found["file_bytes"] // 1024
        print(sizes)
        assert sizes["Rss"] == pytest.approx(whole, abs=8)
        assert sizes["Private_Dirty"] == sizes["Shared_Dirty"] == 0
        assert sizes["Shared_Clean"] == sizes["Rss"]


def test_every_side_is_given_the_same_rates_and_more_trials_begin_with_them():
    few, many = (Task("digits", "", "", trials, 1).rates for trials in (4, 16))
    assert many[:4] == few and all(1e-3 <= lr <= 3e-1 for lr in many) and len(set(many)) == 16


def test_a_subset_has_four_fifths_to_train_on_and_no_image_twice(tmp_path):
    for name in "ab":
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(20):
            (tmp_path / "train" / name / f"{i:02}.jpg").write_text("x")
    folder = make_subset(tmp_path, 100, tmp_path / "work")
    found = {split: sorted(p.name for p in folder.glob(f"{split}/a/*")) for split in ("train", "val", "test")}
    assert {split: len(names) for split, names in found.items()} == {"train": 8, "val": 2, "test": 5}
    assert len({name for names in found.values() for name in names}) == 15


def test_ratios_are_of_runs_side_by_side():
    def outcomes(*rates):
        return [{"rate": rate, "best": 0.5, "note": "n", "apart": {"start-up": 1.0}} for rate in rates]

    rows = report.table("cifar10", {"a": outcomes(100, 200, 300), "d": outcomes(500, 800, 1800)})
    assert rows[2].endswith("| 3 | 200 | 100 | 300 | 5.00 | 4.00 | 6.00 | 4.5 |")
    assert rows[3].endswith("| 3 | 800 | 500 | 1,800 |  |  |  |  |")


@pytest.mark.slow
def test_a_short_run_writes_its_page_and_its_numbers():
    command = "--only digits a c d --trials 1 --epochs 1 --repeats 1 --name test-of-the-benchmarks"
    files = [report.RESULTS / f"test-of-the-benchmarks.{kind}" for kind in ("json", "md")]
    try:
        subprocess.run([sys.executable, "-m", "benchmarks", *command.split()], cwd=ROOT, check=True)
        assert set(json.loads(files[0].read_text())["digits"]) == {"a", "c", "d"}
        assert "Digits, mlp" in files[1].read_text()
    finally:
        for file in files:
            file.unlink(missing_ok=True)
