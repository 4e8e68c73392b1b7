"""The bench command: what it refuses, and how it tells its progress."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli import bench
from app.main import main
from core.bench.run import Progress


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--engines", "vllm"], "--engines: there is no engine 'vllm'"),
        (["--weights", "awq"], "--weights: there is no technique 'awq'"),
        (["--caches", "infinite"], "--caches: there is no technique 'infinite'"),
        (["--contexts", "128,many"], "--contexts 128,many: write whole numbers"),
        (["--contexts", "8192"], "the model takes 8192 in all"),
        (["--tokens", "1"], "--tokens: 1 is out of range, 8 to 4,096"),
        (["--rounds", "0"], "--rounds: 0 is out of range"),
        (["--threads", "9999"], "--threads: 9999 is out of range"),
        (["--model", "absent.gguf"], "absent.gguf: no such file"),
    ],
)
def test_that_bad_input_is_one_sentence(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_that_an_output_that_cannot_be_written_is_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--json", str(tmp_path / "absent" / "out.json")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_that_progress_is_a_line_a_round_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show = bench._Show()
    for round_, left in ((0, None), (1, None), (1, None), (2, 61.4), (2, 20.0)):
        show.progress(Progress("decode at 128 tokens, native", round_, 2, 0, 10, left))
    assert capsys.readouterr().err.splitlines() == ["starting the engines", "round 1 of 2", "round 2 of 2, about 61 s left"]
