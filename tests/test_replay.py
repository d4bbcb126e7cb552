from tests.replay import ReplayExecutor, carry_out, epochs, script_key
from tuner.core.trial import TrialSpec, WorkItem


def item(lr, number):
    return WorkItem(TrialSpec({"optimizer": {"lr": lr}}, {"optimizer.lr": lr}, seed=0), number, until_epoch=2)


def test_replay_answers_by_overrides_with_the_items_own_identity():
    script = {script_key({"optimizer.lr": lr}): epochs([lr, 2 * lr]) for lr in (0.1, 0.2)}
    items = [item(0.1, 0), item(0.2, 1)]
    results = list(ReplayExecutor(script).run(items))
    assert [(result.id, result.until_epoch) for result in results] == [each.key for each in items]
    assert [result.score for result in results] == [0.2, 0.4]


def test_replay_can_answer_in_another_order():
    items = [item(0.1 * (i + 1), i) for i in range(8)]
    executor = ReplayExecutor(lambda asked: epochs([0.5]), shuffle=1)
    assert [result.id for result in executor.run(items)] != [each.spec.id for each in items]
    assert sorted(asked.number for asked in executor.ran) == list(range(8))


def test_a_scripted_trial_scores_its_best_epoch_and_breaks_ties_by_loss():
    result = epochs([0.5, 0.9, 0.9, 0.8], val_loss=[1.0, 0.5, 0.4, 0.3])
    assert (result.score, result.best_epoch) == (0.9, 3)


class TwoGenerations:
    """A stage that asks for two items, then again for one of them beside a new one."""

    @staticmethod
    def plan(recipe, inputs, settings, history):
        asked = {0: [item(0.1, 1), item(0.2, 0)], 2: [item(0.1, 1), item(0.3, 2)]}
        return asked.get(len(history), [])


def test_a_stage_is_carried_out_to_its_end_and_nothing_is_run_twice():
    executor, heard = ReplayExecutor(lambda asked: epochs([asked.spec.overrides["optimizer.lr"]])), []
    records = carry_out(TwoGenerations, None, None, None, executor, heard.append)
    assert [asked.number for asked in executor.ran] == [1, 0, 2]
    assert [record.number for record in records] == [0, 1, 2] and sorted(r.number for r in heard) == [0, 1, 2]
    assert [record.result.score for record in records] == [0.2, 0.1, 0.3]
