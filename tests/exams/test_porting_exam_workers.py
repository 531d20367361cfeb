"""A port whose process dies, hangs or raises is counted as crashed, and the exam goes on."""

import os
import signal
from functools import partial

from exams.porting.trials import CRASHED, EXACT, Verdict
from exams.porting.workers import Task, verdicts

RIGHT = Verdict("a/b", "file", "plain", EXACT)


def task(judge, network="a/b"):
    return Task(network, "file", "plain", judge)


def test_a_worker_that_dies_is_a_verdict_and_the_next_task_has_a_new_worker():
    tasks = [
        task(partial(Verdict, "a/b", "file", "plain", EXACT)),
        task(os.abort, "a/dies"),
        task(partial(os._exit, 3)),
    ]
    tasks += [task(partial(int, "no number")), task(partial(dict.get, {}, "nothing")), tasks[0]]
    found = list(verdicts(tasks))
    assert found[0] == found[-1] == RIGHT
    assert [each.outcome for each in found] == [EXACT, CRASHED, CRASHED, CRASHED, EXACT]
    assert found[1] == Verdict("a/dies", "file", "plain", CRASHED, f"the process ended by {signal.SIGABRT.name}")
    assert found[2].detail == "the process ended by exit code 3"
    assert found[3].detail.startswith("ValueError: invalid literal")


def test_a_worker_that_gives_no_answer_is_replaced():
    found = list(verdicts([task(signal.pause), task(os.getpid)], time_limit_s=5.0, num_workers=2))
    assert found[0].detail == "no result after 5 s"
    assert found[1] != os.getpid()
