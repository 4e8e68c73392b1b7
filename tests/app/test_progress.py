"""What the status line says of a job."""

from app.progress import Progress
from core.events import CompareProgress, LoadProgress, PrefillProgress, RunFinished
from tests.traces import make_events


def test_that_loading_and_prefill_show_their_share():
    progress = Progress({0: 128, 1: 128})
    progress.add(0, LoadProgress("reading", 25, 100))
    assert progress.status.share == 0.25
    assert "reading" in progress.status.text
    progress.add(1, PrefillProgress(512, 1024, 10.0))
    assert progress.status.share == 0.5
    assert progress.status.text == "B reads the prompt: 512 of 1024 tokens"


def test_that_the_share_of_a_comparison_never_falls_and_ends_whole():
    progress, shares = Progress({0: 59, 1: 59}, repeats=2), [0.0]
    for repeat in range(3):
        for column in range(2):
            progress.add(column, CompareProgress(column, repeat, 2))
            for event in make_events(inspect=False):
                progress.add(column, event)
                if not isinstance(event, RunFinished) and progress.status.share is not None:
                    shares.append(progress.status.share)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert "repeat 2 of 2" in progress.status.text
