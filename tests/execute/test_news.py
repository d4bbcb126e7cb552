"""What a trial tells from another machine: rarely, whole, and in the run as if the trial ran here."""

import errno
import hashlib

import pytest

from tests.execute.test_folder import TABLES
from tuner.core.store import StageDir
from tuner.core.trial import Progress, TrialEnv, TrialSpec, WorkItem
from tuner.execute import news as telling
from tuner.execute.news import Hearing, News, Teller
from tuner.execute.ray_news import Board

ROWS = [{"step": step, "epoch": step, "split": "val", "loss": 1.0 / step} for step in (1, 2, 3)]


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(telling.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def item():
    return WorkItem(TrialSpec(TABLES, {}, seed=0, horizon_epochs=3), 7)


@pytest.fixture
def heard():
    return []


@pytest.fixture
def hearing(tmp_path, heard):
    return Hearing(TrialEnv(tmp_path, tmp_path / "run/coarse"), heard.append)


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_a_trial_tells_once_a_second_and_all_that_it_has_told_before(clock):
    sent = []
    teller = Teller(lambda news, weights: sent.append(news))
    for row in ROWS:
        teller.hear(Progress(7, row["epoch"] / 3, f"epoch {row['epoch']}", rows=[row]))
    assert [(news.share, list(news.rows)) for news in sent] == [(1 / 3, ROWS[:1])]
    clock[0] += telling.TELL_SECONDS
    teller.tell()
    teller.tell()
    assert [(news.share, news.note, list(news.rows)) for news in sent[1:]] == [(1.0, "epoch 3", ROWS)]


def test_news_that_take_long_to_send_are_sent_more_rarely(clock):
    sent = []

    def send(news, weights):
        sent.append(news)
        clock[0] += 2.0

    teller = Teller(send)
    for seconds in (0.0, 39.0, 1.5):
        clock[0] += seconds
        teller.hear(Progress(7, 0.5))
    assert len(sent) == 2, "one that took 2 s, the next 40 s later"


def test_the_best_weights_go_with_the_news_once(clock, tmp_path):
    sent, path = [], tmp_path / "best.pt"
    teller = Teller(lambda news, weights: sent.append((news.kept, news.weights, weights)))
    for content, kept in ((b"one", (1, 0.5)), (b"one", (1, 0.5)), (b"two", (2, 0.6))):
        path.write_bytes(content)
        teller.hear(Progress(7, 0.1, kept=kept), path)
        clock[0] += telling.TELL_SECONDS
    assert sent == [
        ((1, 0.5), digest(b"one"), path),
        ((1, 0.5), digest(b"one"), None),
        ((2, 0.6), digest(b"two"), path),
    ]


def test_news_are_passed_on_with_the_weights_in_the_run(hearing, heard, item):
    news = News(0.5, "epoch 1/2", ("starts over",), ROWS, (2, 0.6), digest(b"two"))
    for _ in range(2):
        hearing(item, News.from_json(news.to_json()), lambda path: path.write_bytes(b"two"))
    assert heard[0] == Progress(7, 0.0, "starts over", lasting=True)
    assert heard[1:] == [Progress(7, 0.5, "epoch 1/2", rows=ROWS, kept=(2, 0.6))] * 2
    path = StageDir(hearing.env.stage_dir).so_far(item.spec.id)
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]


def test_weights_that_were_replaced_meanwhile_or_are_lost_do_not_count(hearing, heard, item):
    def lost(path):
        raise FileNotFoundError

    def torn(path):
        path.write_bytes(b"tw")
        raise OSError(errno.ENOSPC, "No space left on device")

    news = News(0.5, kept=(2, 0.6), weights=digest(b"two"))
    for fetch in (lambda path: path.write_bytes(b"three"), lost, torn):
        hearing(item, news, fetch)
    assert [progress.kept for progress in heard] == [None, None, None]
    assert list(hearing.env.stage_dir.rglob("*.*")) == []


def test_a_value_that_is_no_number_is_told_as_none():
    told = News(rows=[{"step": 1, "epoch": 1, "split": "val", "loss": float("nan")}], kept=(1, float("-inf")))
    back = News.from_json(told.to_json())
    assert back.rows[0]["loss"] is None and back.kept == (1, None)


def test_weights_wait_on_the_board_until_they_are_taken():
    board = Board()
    board.tell("a", {"share": 0.1}, b"weights")
    board.tell("a", {"share": 0.2}, None)
    assert board.take() == {"a": ({"share": 0.2}, b"weights")}
    assert board.take() == {}
