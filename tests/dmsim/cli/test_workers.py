import functools

import pytest
import task_examples

from dmsim.cli import workers


def outcomes(found):
    return {o.task: (o.result, o.error, o.n_attempts) for o in found}


def spawned(work, tasks, *, retries=0, n_workers=2):
    return workers.run_spawned(work, tasks, n_workers=n_workers, retries=retries)


RUNNERS = {"here": workers.run_here, "spawned": spawned}


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_all_tasks_are_done_and_tried_again(runner, tmp_path):
    work = functools.partial(task_examples.fails_at_first, str(tmp_path))
    found = outcomes(runner(work, range(5), retries=1))
    assert found == {task: (task, None, 1 + task % 2) for task in range(5)}


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_what_fails_too_often_is_given_up_and_the_others_go_on(runner, tmp_path):
    work = functools.partial(task_examples.fails_at_first, str(tmp_path))
    found = outcomes(runner(work, range(4), retries=0))
    assert found[1] == (None, "task 1 is not ready", 1)
    assert found[2] == (2, None, 1)


@pytest.mark.parametrize("killed", [task_examples.killed_at_first, task_examples.killed_in_its_answer])
def test_a_killed_worker_loses_nothing(killed, tmp_path):
    work = functools.partial(killed, str(tmp_path))
    found = outcomes(spawned(work, range(6), retries=1))
    assert found == {task: (task, None, 2 if task == 1 else 1) for task in range(6)}


@pytest.mark.parametrize("error", [BrokenPipeError, ConnectionResetError])
def test_a_worker_that_is_gone_is_given_a_task_all_the_same(error):
    class Gone:
        def send(self, task):
            raise error

    worker = object.__new__(workers._Worker)
    worker.pipe = Gone()
    worker.give(workers._Tried(3, 0))
    assert worker.current == (3, 0)  # its answer will not come, which is seen to elsewhere


def test_a_task_that_kills_every_worker_is_given_up():
    found = outcomes(spawned(task_examples.killed_always, range(4), retries=1))
    assert found[1] == (None, "its process ended with status -9: killed, or out of memory", 2)
    assert {task: found[task][0] for task in (0, 2, 3)} == {0: 0, 2: 2, 3: 3}


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_mistake_of_ours_is_shown(runner):
    with pytest.raises((KeyError, RuntimeError), match="[01]"):
        list(runner(task_examples.mistaken, range(2), retries=3))


def test_workers_keep_to_one_thread(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [o.result for o in spawned(task_examples.environment, [0], n_workers=1)] == ["1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [o.result for o in spawned(task_examples.environment, [0], n_workers=1)] == ["3"]


def test_no_scheduler_there():
    pytest.importorskip("distributed")
    with pytest.raises(ValueError, match="--scheduler /nowhere.json: no Dask scheduler answers there"):
        list(workers.run_on_cluster(task_examples.square, [0], address="/nowhere.json", retries=0))


def test_a_cluster_does_the_same(tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
    ) as cluster:
        address = cluster.scheduler_address
        work = functools.partial(task_examples.fails_at_first, str(tmp_path))
        found = outcomes(workers.run_on_cluster(work, range(4), address=address, retries=1))
        assert found == {task: (task, None, 1 + task % 2) for task in range(4)}
        killed = functools.partial(task_examples.killed_at_first, str(tmp_path / "killed"))
        (tmp_path / "killed").mkdir()
        found = outcomes(workers.run_on_cluster(killed, range(3), address=address, retries=1))
        assert {task: found[task][0] for task in found} == {0: 0, 1: 1, 2: 2}
