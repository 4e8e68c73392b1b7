"""The command `quality` on the default model and a short text."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from core import trace_file
from core.models.default import is_fetched

pytestmark = pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
PROMISED = {"perplexity", "perplexity_se", "base_perplexity", "mean_kl", "mean_kl_se", "same_top1", "tokens"}


def _quality(*arguments):
    command = [sys.executable, "-m", "app", "quality", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_that_figures_segments_and_configuration_are_written(text, tmp_path):
    out, trace = tmp_path / "out.json", tmp_path / "out.trace"
    done = _quality(
        "--text", text, "--tokens", 150, "--set", "weights.name=rtn", "weights.bits=4", "--json", out, "--trace", trace
    )
    assert done.returncode == 0, done.stderr
    assert "perplexity" in done.stdout
    assert "±" in done.stdout
    assert "100 %" in done.stderr
    record = json.loads(out.read_text())
    assert record.keys() > PROMISED
    assert record["tokens"] == 150
    assert record["config"]["weights"]["bits"] == 4
    assert record["base_config"]["weights"]["name"] == "native"
    assert 0 < record["mean_kl"] < 1
    assert 0.5 < record["same_top1"] < 1
    assert record["perplexity_se"] > 0
    (measured,) = trace_file.load(trace).quality
    assert measured.config.to_dict() == record["config"]


def test_that_a_stream_and_a_sweep_are_measured(text, tmp_path):
    out = tmp_path / "out.json"
    settings = ("--set", "cache.name=rolling", "cache.window=64", "--json", out)
    assert _quality("--text", text, "--stream", "--tokens", 200, *settings).returncode == 0
    record = json.loads(out.read_text())
    assert (record["mode"], record["tokens"], record["kv_tokens"]) == ("stream", 200, 64)
    done = _quality("--text", text, "--needle", "--lengths", "128", "--depths", "0,100", *settings)
    assert "found (measured)" in done.stdout, done.stderr
    sweep = json.loads(out.read_text())
    assert (sweep["lengths"], sweep["depths"]) == ([128], [0, 100])
    assert sweep["log_probability"][1][0] > sweep["log_probability"][0][0]  # what the cache still holds, and what it dropped


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--text", "/nowhere.txt"), ("/nowhere.txt", "cannot be read")),
        (("--tokens", "1"), ("quality.tokens", "out of range")),
        (("--context", "9000"), ("quality.context", "8192")),
        (("--context", "512", "--stream"), ("not allowed with",)),
        (("--needle", "--tokens", "100"), ("--tokens", "without --needle")),
        (("--lengths", "100"), ("--lengths", "with --needle")),
        (("--needle", "--lengths", "short"), ("quality.lengths", "'short'")),
        (("--set", "wieghts.bits=4"), ("did you mean weights?",)),
        (("--model", "/nowhere"), ("/nowhere",)),
    ],
)
def test_that_bad_input_is_one_clear_line_and_code_2(arguments, words):
    done = _quality(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("inference-playground: ")
    assert all(word in line for word in words), line


def test_that_ctrl_c_stops_with_one_line():
    command = [sys.executable, "-m", "app", "quality", "--tokens", "30000", "--context", "64"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(12)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("inference-playground: stopped")
