"""The runner: events of a job become the traces of the session."""

from collections import deque

from app.messages import CompareJob, Envelope, JobEnded, MeasureJob
from app.runner import Runner
from app.session import Column, Session
from core.config import RunConfig
from core.events import CompareProgress, Failed, LoadProgress, QualityProgress
from core.quality.request import Measurement, NeedleOptions, NeedleRequest, QualityOptions
from tests.traces import make_events, make_needles, make_quality


class ScriptedEngine:
    """Remembers the jobs, and says what a test puts into `queue`."""

    def __init__(self):
        self.jobs, self.queue, self.stops = [], deque(), 0

    def submit(self, job):
        self.jobs.append(job)
        return len(self.jobs)

    def stop(self):
        self.stops += 1

    def poll(self):
        said = list(self.queue)
        self.queue.clear()
        return said

    def say(self, column, events):
        self.queue.extend(Envelope(len(self.jobs), column, event) for event in events)


def _runner(columns=2, **settings):
    engine = ScriptedEngine()
    return Runner(Session([Column(RunConfig()) for _ in range(columns)], **settings), engine), engine


def test_that_each_configuration_gets_its_own_trace():
    runner, engine = _runner()
    runner.run()
    engine.say(0, make_events(seed=1))
    engine.say(1, make_events(seed=2, diverges_at=5))
    engine.say(0, [JobEnded(False)])
    update = runner.drain()
    assert update.columns == {0, 1}
    assert update.first_token
    assert update.ended
    assert update.finished == [column.trace for column in runner.session.columns]
    assert not runner.busy


def test_that_the_old_run_stays_until_the_new_one_starts():
    runner, engine = _runner(1)
    runner.run()
    engine.say(0, [*make_events(), JobEnded(False)])
    runner.drain()
    before = runner.session.columns[0].trace
    runner.run()
    engine.say(0, [LoadProgress("reading", 1, 2), Failed("out of memory", False), JobEnded(False)])
    update = runner.drain()
    assert runner.session.columns[0].trace is before
    assert update.errors == ["A: out of memory"]
    assert update.finished == []


def test_that_events_of_an_abandoned_job_are_not_taken():
    runner, engine = _runner(1)
    runner.run()
    runner.abandon()
    engine.say(0, make_events())
    assert not runner.drain().columns


def test_that_a_comparison_keeps_the_repeats_and_not_the_warm_up():
    runner, engine = _runner(repeats=2, inspect=False)
    runner.compare()
    assert isinstance(engine.jobs[0], CompareJob)
    for repeat in range(3):
        for column in range(2):
            engine.say(column, [CompareProgress(column, repeat, 2), *make_events(seed=repeat, inspect=False)])
    engine.say(0, [JobEnded(False)])
    update = runner.drain()
    assert [len(column.repeats) for column in runner.session.columns] == [2, 2]
    assert len(update.finished) == 4


def test_that_the_inspected_warm_up_of_a_comparison_stays_in_the_streams():
    runner, engine = _runner(1, repeats=1, inspect=True)
    runner.compare()
    assert engine.jobs[0].requests[0].inspect.top > 0
    engine.say(0, [CompareProgress(0, 0, 1), *make_events()])
    runner.drain()
    inspected = runner.session.columns[0].trace
    engine.say(0, [CompareProgress(0, 1, 1), *make_events(inspect=False), JobEnded(False)])
    assert runner.drain().ended
    assert runner.session.columns[0].trace is inspected
    assert runner.session.columns[0].repeats != [inspected]
    assert len(runner.session.columns[0].repeats) == 1


def test_that_stop_reaches_the_engine():
    runner, engine = _runner(1)
    runner.compare()
    runner.stop()
    assert engine.stops == 1
    engine.say(0, [JobEnded(True)])
    assert runner.drain().ended
    assert not runner.busy


def test_that_continuing_runs_only_that_configuration():
    runner, engine = _runner()
    runner.run()
    engine.say(0, make_events())
    engine.say(1, [*make_events(), JobEnded(False)])
    runner.drain()
    first = runner.session.columns[0].trace
    runner.continue_from(1, 20, 5)
    assert engine.jobs[-1].requests[0].prompt_tokens[-1] == 5
    engine.say(0, [*make_events(), JobEnded(False)])
    assert runner.drain().columns == {1}
    assert runner.session.columns[0].trace is first


def test_that_removing_a_configuration_while_it_runs_harms_nobody():
    runner, engine = _runner(2)
    runner.run()
    engine.say(0, make_events())
    runner.drain()
    kept = runner.session.columns[1]
    runner.session.remove_column(0)
    engine.say(1, [*make_events(seed=1), JobEnded(False)])
    runner.drain()
    assert kept.trace is not None
    assert runner.session.columns == [kept]


def test_that_a_measurement_joins_the_run_of_the_same_configuration():
    runner, engine = _runner(2)
    runner.run()
    for column in range(2):
        engine.say(column, make_events())
    engine.say(0, [JobEnded(False)])
    runner.drain()
    before = runner.session.traces
    runner.measure(Measurement(QualityOptions(tokens=100)))
    assert isinstance(engine.jobs[-1], MeasureJob)
    engine.say(1, [LoadProgress("reading", 1, 2), QualityProgress("perplexity", 50, 100, 12.5)])
    runner.drain()
    assert runner.status.text == "B is measured: perplexity 12.5 so far"
    assert runner.status.share == 0.5
    engine.say(1, [make_quality(RunConfig().set(["run.max_new_tokens=9"])), JobEnded(False)])
    update = runner.drain()
    assert update.columns == {1}
    assert update.ended
    assert update.finished == []
    assert runner.session.traces == before
    assert [id(trace) for trace in update.measured] == [id(before[1])]
    assert [len(trace.quality) for trace in before] == [0, 1]


def test_that_a_measurement_of_another_configuration_takes_the_place_of_the_run():
    runner, engine = _runner(2)
    runner.run()
    engine.say(0, [*make_events(), JobEnded(False)])
    runner.drain()
    changed = RunConfig().set(["cache.name=rolling"])
    runner.session.columns[0].config = changed
    runner.measure(Measurement(NeedleOptions(), "text.txt", 0))
    assert engine.jobs[-1].requests == (NeedleRequest(changed, "text.txt", NeedleOptions()),)
    engine.say(0, [make_needles(changed), JobEnded(False)])
    runner.drain()
    trace = runner.session.columns[0].trace
    assert trace.started is None
    assert trace.subject.config == changed
    assert runner.session.columns[1].trace is None


def test_that_a_new_run_keeps_what_was_measured_of_its_configuration():
    runner, engine = _runner(1)
    for config in (RunConfig(), RunConfig().set(["cache.name=rolling"])):
        runner.measure(Measurement())
        engine.say(0, [make_quality(config), JobEnded(False)])
        runner.drain()
        runner.run()
        engine.say(0, [*make_events(), JobEnded(False)])
        runner.drain()
        trace = runner.session.columns[0].trace
        assert trace.finished is not None
        assert len(trace.quality) == (config == RunConfig())
