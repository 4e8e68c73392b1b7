"""The report: one valid page, escaped, whole without a network."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from core.compare import summarise
from core.config import RunConfig
from core.errors import BadInput, RunFailed
from core.events import Token
from core.export.html import report, save_report
from core.export.report_charts import report_charts
from core.trace import Trace
from tests.traces import make_trace

SPARSE = RunConfig().set(["ffn.name=moefy", "decoding.name=prompt_lookup", "attention.name=window", "attention.window=12"])
TRACES = [("A", make_trace()), ("B", make_trace(SPARSE, seed=1, diverges_at=30))]
HOSTILE = '</style><script>alert("1")</script><img src=x onerror=alert(1)>'
_VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """Checks that every element is closed in order; keeps tags, attributes, ids and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def having(self, name: str) -> list[str]:
        return [tag for tag, attributes in self.tags if name in (attributes.get("class") or "").split()]


@pytest.mark.parametrize("count", [1, 2])
def test_that_the_page_is_well_formed_and_says_everything(count: int) -> None:
    page = Page(report(TRACES[:count]))
    for word in (
        "Prompt",
        "Output",
        "Configuration",
        "Metrics",
        "Attention",
        "Latency",
        "Memory",
        "Model",
        "Environment",
        "Badges",
    ):
        assert word in page.words
    assert "AMD EPYC 9R14" in page.words
    assert "(end-to-end latency − TTFT) / (tokens − 1)" in page.words
    assert "timed while capturing" in page.words
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_that_the_page_needs_nothing_from_outside() -> None:
    text = report(TRACES)
    page = Page(text)
    assert not {"script", "link", "iframe", "img"} & {tag for tag, _ in page.tags}
    assert not re.search(r"(src|href)=", text)
    assert any((attributes.get("content") or "").startswith("default-src 'none'") for _, attributes in page.tags)


def test_that_differences_from_a_and_the_first_divergence_are_marked() -> None:
    page = Page(report(TRACES))
    assert page.having("differs") == ["td"] * 3
    assert page.having("first").count("mark") == 2
    assert "token 31: first token that differs from A" in page.words
    assert "token 31: B differs from here" in page.words
    assert page.having("drafted")


def test_that_the_page_of_one_run_marks_no_differences() -> None:
    page = Page(report(TRACES[:1]))
    assert not page.having("differs")
    assert not page.having("first")


def test_that_a_comparison_shows_medians_intervals_and_noise() -> None:
    runs = [
        [make_trace(seed=n, inspect=False) for n in range(3)],
        [make_trace(SPARSE, seed=n, inspect=False) for n in range(3)],
    ]
    comparison = summarise(runs)
    page = Page(report(TRACES, comparison))
    assert "Comparison" in page.words
    assert "× A" in page.words
    assert comparison.interval in page.words
    assert {"comparison_ttft", "comparison_ratios"} <= report_charts(TRACES, comparison).keys()


def test_that_every_text_from_outside_is_escaped() -> None:
    trace = make_trace()
    assert trace.started is not None
    started = replace(
        trace.started,
        prompt=HOSTILE,
        info=replace(trace.started.info, name=HOSTILE, path=HOSTILE),
        config=replace(SPARSE, model=HOSTILE),
        environment={HOSTILE: {HOSTILE: HOSTILE}},
        prompt_tokens=(Token(0, 1, HOSTILE, "prompt"),),
    )
    trace.started = started
    trace.tokens[3] = replace(trace.tokens[3], text=HOSTILE)
    trace.rounds.extend(make_trace(SPARSE).rounds)
    trace.rounds[0] = replace(trace.rounds[0], drafted=(Token(0, 1, HOSTILE, "drafted"),), accepted=1)
    text = report([(HOSTILE, trace), ("B", trace)])
    page = Page(text)
    assert "<script" not in text
    assert "<img" not in text
    assert page.words.count(HOSTILE) >= 8


def test_that_control_characters_and_broken_text_do_not_break_the_file(tmp_path: Path) -> None:
    trace = make_trace()
    trace.tokens[0] = replace(trace.tokens[0], text="a\x00\x1b\ud800b")
    save_report(tmp_path / "report.html", [("A", trace)])
    assert "a␀␛\ufffdb" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_that_every_chart_with_data_stands_in_the_report_with_its_table() -> None:
    charts = report_charts(TRACES)
    page = Page(report(TRACES))
    shown = {attributes["id"] for tag, attributes in page.tags if tag == "figure"}
    assert shown == charts.keys()
    assert {"attention_map-A", "attention_map-B", "attention_summary-2-A", "expert_load-B", "latency_phases"} <= shown
    assert "expert_load-A" not in shown
    assert charts["attention_map-B"].title.startswith("B: ")


def test_that_drawings_stand_inline_with_ids_of_their_own() -> None:
    svg = '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="9"><defs><g id="a"/></defs><use href="#a" fill="url(#a)"/></svg>'
    drawn = {key: svg for key, chart in report_charts(TRACES[:1]).items() if chart.listing is None}
    text = report(TRACES[:1], svgs=drawn, dark_svgs=drawn)
    page = Page(text)
    assert text.count("<svg") == 2 * len(drawn)
    assert "<?xml" not in text
    assert 'href="#memory-light-a" fill="url(#memory-light-a)"' in text
    assert page.having("dark") == ["div"] * len(drawn)


def test_that_a_large_map_points_to_its_export() -> None:
    trace = make_trace()
    assert trace.started is not None
    trace.started = replace(trace.started, prompt_tokens=tuple(Token(i, i, "x", "prompt") for i in range(400)))
    assert re.search(r"\d+ cells; the CSV export holds them", report([("A", trace)]))


def test_that_a_run_that_failed_midway_is_reported() -> None:
    page = Page(report([("A", make_trace(finished=False)), ("B", Trace())]))
    assert "not finished" in page.words
    assert "unavailable" in page.words


def test_that_no_run_and_no_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no run to report"):
        report([("A", Trace())])
    with pytest.raises(RunFailed, match="there is no folder"):
        save_report(tmp_path / "no" / "report.html", TRACES)


def test_that_line_ends_in_drafts_can_be_seen() -> None:
    trace = make_trace(SPARSE)
    trace.rounds[0] = replace(trace.rounds[0], drafted=(Token(0, 1, "\n", "drafted"),), accepted=0)
    assert "⏎" in Page(report([("A", trace)])).words
