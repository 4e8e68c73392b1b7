"""The command line: what it says, where it says it, and how it exits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.main import main
from core import trace_file
from core.technique import options_of
from core.techniques import CATALOGUE
from tests.traces import make_trace

RECORD = ("config", "prompt_tokens", "tokens", "text", "finish_reason", "metrics", "phases", "badges", "environment")


def _cli(*arguments, **options):
    """The program in a process of its own."""
    return subprocess.run([sys.executable, "-m", "app", *arguments], capture_output=True, text=True, check=False, **options)


def _complains(done, code, *words):
    """One line on standard error, nothing on standard output."""
    assert done.returncode == code
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("inference-playground: ")
    assert all(word in lines[0] for word in words), lines[0]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "run.trace"
    trace_file.save(make_trace(), path)
    return path


def test_that_techniques_lists_everything_as_json():
    began = time.monotonic()
    done = _cli("techniques", "--json")
    assert time.monotonic() - began < 3
    rows = json.loads(done.stdout)
    assert [(row["family"], row["name"]) for row in rows] == [(f, name) for f, known in CATALOGUE.items() for name in known]
    window = next(row for row in rows if row["name"] == "window")
    assert set(window) == {"family", "name", "summary", "options", "exactness", "source"}
    assert set(window["options"][0]) == {"name", "type", "default", "summary", "low", "high", "choices", "unit"}
    assert window["exactness"] == "exact at window ≥ length"


def test_that_techniques_reads_well_as_text(capsys):
    assert main(["techniques"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for known in CATALOGUE.values() for name in known)
    assert all(
        option.name in text for known in CATALOGUE.values() for row in known.values() for option in options_of(row.options)
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), ("nonsense", "choose from")),
        (("run",), ("--prompt",)),
        (("run", "--prompt", "a", "--set", "weights.bits"), ("write family.key=value",)),
        (("run", "--prompt", "a", "--set", "wieghts.bits=4"), ("wieghts", "did you mean weights?")),
        (("run", "--prompt", "a", "--set", "weights.name=rtn", "weights.bts=4"), ("weights.bts", "did you mean bits?")),
        (("run", "--prompt", "a", "--set", "weights.name=rtn", "weights.bits=9"), ("weights.bits", "out of range, 2 to 8")),
        (("run", "--prompt", "a", "--set", "attention.name=winow"), ("winow", "did you mean window")),
        (("run", "--prompt", "a", "--max-new-tokens", "many"), ("run.max_new_tokens", "'many' is not of type int")),
        (("run", "--prompt", "a", "--max-new-tokens", "0"), ("run.max_new_tokens", "out of range")),
        (("run", "--prompt", "a", "--config", "/nowhere.json"), ("/nowhere.json",)),
        (("run", "--prompt", b"\xff"), ("--prompt", "can't decode")),
        (("run", "--prompt-file", "/nowhere.txt"), ("/nowhere.txt", "cannot be read")),
        (("run", "--prompt", "a", "--model", "/nowhere"), ("/nowhere", "no such file or folder")),
        (("compare", "--prompt", "a", "--config", "one.json"), ("two to four",)),
        (("models", "info", "/nowhere.gguf"), ("/nowhere.gguf",)),
        (("--model", "default", "techniques"), ("--model", "behind the command")),
        (("screenshot", "--size", "huge", "--out", "a.png"), ("--size huge", "1600x1000")),
        (("screenshot", "--out", "a.jpg"), (".png",)),
    ],
)
def test_that_bad_input_is_one_clear_line_and_code_2(arguments, words):
    _complains(_cli(*arguments), 2, *words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.gguf", b"", ("empty.gguf",)),
        ("short.gguf", b"GGUF\x03\x00\x00\x00" + b"\x10" * 20, ("short.gguf",)),
        ("pytorch_model.bin", b"\x80\x02.", ("pickle", "safetensors")),
    ],
)
def test_that_a_damaged_model_is_one_clear_line_and_code_2(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    _complains(_cli("run", "--prompt", "a", "--model", str(path)), 2, *words)


def test_that_a_folder_without_weights_is_one_clear_line_and_code_2(tmp_path):
    _complains(_cli("run", "--prompt", "a", "--model", str(tmp_path)), 2, str(tmp_path))


def test_that_a_damaged_trace_is_one_clear_line_and_code_2(tmp_path, recorded):
    path = tmp_path / "cut.trace"
    path.write_bytes(recorded.read_bytes()[:500])
    _complains(_cli("export", str(path), "--chart", "memory", "--out", str(tmp_path / "a.csv")), 2, "cut.trace")


def test_that_an_output_that_cannot_be_written_is_told_before_the_run(tmp_path):
    began = time.monotonic()
    _complains(_cli("run", "--prompt", "a", "--json", str(tmp_path / "none" / "a.json")), 1, "there is no folder")
    _complains(_cli("run", "--prompt", "a", "--trace", str(tmp_path)), 1, "it is a folder")
    assert time.monotonic() - began < 5


def test_that_a_full_disk_is_one_clear_line_and_code_1():
    command = [sys.executable, "-m", "app", "techniques"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no space left" in done.stderr


def test_that_a_terminal_without_a_character_gets_its_code():
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = _cli("techniques", env=plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2265" in done.stdout


def test_that_an_error_in_a_configuration_names_its_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"weights": {"name": "rtn", "bits": "4"}}')
    _complains(_cli("run", "--prompt", "a", "--config", str(path)), 2, "mine.json", "weights.bits")


def test_that_a_closed_pipe_is_no_error():
    process = subprocess.Popen([sys.executable, "-m", "app", "techniques"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == b""


def test_that_interrupting_a_run_is_quiet_and_code_130():
    arguments = ["run", "--prompt", "Tell me a long story.", "--max-new-tokens", "4000", "--ignore-eos"]
    process = subprocess.Popen([sys.executable, "-m", "app", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, b"")


def test_that_no_display_is_told_in_place_of_a_window():
    hidden = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    }
    _complains(_cli(env=hidden), 1, "there is no display")


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "csv", "json", "html"])
def test_that_a_chart_is_exported_in_every_format(tmp_path, recorded, ending):
    path = tmp_path / f"chart.{ending}"
    done = _cli("export", str(recorded), "--chart", "latency_phases", "--out", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml", "html": b"<!DOCTYPE html>", "json": b"{", "csv": b"series"}
    assert path.read_bytes().startswith(starts[ending])


def test_that_an_export_takes_selections_and_refuses_others(tmp_path, recorded):
    chosen = ("export", str(recorded), "--chart", "attention_map", "--out", str(tmp_path / "a.csv"), "--select")
    assert _cli(*chosen, "layer=1", "head=0").returncode == 0
    _complains(_cli(*chosen, "lyer=1"), 2, "lyer", "did you mean layer?")
    _complains(_cli("export", str(recorded), "--chart", "latency", "--out", "a.csv"), 2, "latency")
    _complains(_cli("export", str(recorded), "--chart", "memory", "--out", str(tmp_path / "a.gif")), 2, ".gif", ".png")


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "csv", "json", "html"])
def test_that_a_chart_without_data_is_not_exported_and_the_file_that_was_there_stays(tmp_path, recorded, ending):
    path = tmp_path / f"chart.{ending}"
    path.write_text("what was there")
    done = _cli("export", str(recorded), "--chart", "speculation_rounds", "--out", str(path))
    _complains(done, 2, f"chart.{ending} is not written: the chart “", "” has no data (Choose")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "what was there"


def test_that_a_model_is_described_from_its_headers(capsys):
    assert main(["models", "info", "default", "--set", "run.max_new_tokens=64"]) == 0
    text = capsys.readouterr().out
    for word in ("architecture", "llama", "134,515,008", "Q4_1", "8,192 tokens", "chat template", "memory needed", "modelled"):
        assert word in text
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().out.startswith("default  llama")


def test_that_a_run_writes_its_record_and_its_trace(tmp_path, capsys):
    out, trace = tmp_path / "run.json", tmp_path / "run.trace"
    arguments = ["run", "--prompt", "The capital of France is", "--no-chat", "--max-new-tokens", "8"]
    assert main([*arguments, "--json", str(out), "--trace", str(trace)]) == 0
    told = capsys.readouterr()
    record = json.loads(out.read_text())
    assert {"config", "prompt_tokens", "tokens", "text", "finish_reason", "metrics", "phases", "badges", "environment"} <= set(
        record
    )
    assert told.out.rstrip("\n") == record["text"].rstrip("\n")
    assert len(told.err.splitlines()) == 1
    assert len(record["tokens"]) == 8
    assert record["finish_reason"] == "length"
    assert set(record["phases"]["decode"]) == {"ms", "count"}
    assert record["badges"]["ttft_ms"] == "measured"
    assert record["badges"]["tpot_ms"] == "derived"
    assert record["config"]["run"]["max_new_tokens"] == 8
    assert [token.id for token in trace_file.load(trace).tokens] == record["tokens"]


def test_that_a_run_records_attention_of_the_layers_asked_for(tmp_path, capsys):
    path = tmp_path / "run.trace"
    arguments = ["run", "--prompt", "One two", "--max-new-tokens", "3", "--trace", str(path), "--inspect-layers"]
    assert main([*arguments, "0,last:2"]) == 0
    trace = trace_file.load(path)
    assert sorted(trace.attention) == [0, 28, 29]
    assert all(len(token.top_texts) == 10 for token in trace.tokens)
    capsys.readouterr()
    assert main([*arguments, "30"]) == 2
    assert "layers=30: '30' is not a selection of the model's 30 layers" in capsys.readouterr().err


def test_that_the_chat_template_is_used_unless_told_otherwise(tmp_path):
    lengths = {}
    for name, options in {"default": [], "chat": ["--chat"], "plain": ["--no-chat"]}.items():
        out = tmp_path / f"{name}.json"
        assert main(["run", "--prompt", "Hi", "--max-new-tokens", "1", *options, "--json", str(out)]) == 0
        lengths[name] = len(json.loads(out.read_text())["prompt_tokens"])
    assert lengths["default"] == lengths["chat"] > lengths["plain"] == 1


def test_that_a_prompt_longer_than_the_context_is_refused(tmp_path, capsys):
    path = tmp_path / "long.txt"
    path.write_text("word " * 9000)
    assert main(["run", "--prompt-file", str(path), "--no-chat"]) == 2
    assert "context" in capsys.readouterr().err


def test_that_a_comparison_writes_numbers_and_a_report(tmp_path, capsys):
    plain, drafting = tmp_path / "a.json", tmp_path / "b.json"
    plain.write_text("{}")
    drafting.write_text('{"decoding": {"name": "prompt_lookup"}}')
    out, page = tmp_path / "out.json", tmp_path / "report.html"
    arguments = ["compare", "--prompt", "Copy: one two three one two three", "--max-new-tokens", "12", "--repeats", "2"]
    assert main([*arguments, "--config", str(plain), "--config", str(drafting), "--json", str(out), "--html", str(page)]) == 0
    told = capsys.readouterr().out
    assert "B: decoding prompt_lookup" in told
    assert "B wrote the same" in told
    record = json.loads(out.read_text())
    assert [column["label"] for column in record["columns"]] == ["A", "B"]
    assert record["columns"][0]["tokens"] == record["columns"][1]["tokens"]
    assert len(record["columns"][0]["repeats"]) == 2
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(("family", "name"), [(f, name) for f, known in CATALOGUE.items() for name in known])
def test_that_every_technique_runs_from_the_command_line(family, name, tmp_path, capsys):
    out = tmp_path / "run.json"
    code = main(
        ["run", "--prompt", "One two three", "--set", f"{family}.name={name}", "--max-new-tokens", "8", "--json", str(out)]
    )
    if name == "experts":
        assert code == 2
        assert "experts" in capsys.readouterr().err
    else:
        assert code == 0
        assert json.loads(out.read_text())["config"][family]["name"] == name
