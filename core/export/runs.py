"""What a report says of the runs themselves: configurations, prompt, metrics, model and environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.charts.labelled import Labelled, capture_notes, options_text, special
from core.charts.quality import agreement
from core.compare import Comparison, Spread
from core.config import RunConfig
from core.events import RunStarted
from core.export.elements import Markup, element, table_element
from core.export.figures import badge
from core.export.numbers import digits, shown
from core.export.tables import badges
from core.metrics import METRICS, Metric
from core.quality.results import NeedleMeasured, QualityMeasured
from core.techniques import CATALOGUE
from core.trace import Trace

_FIGURES = ("ttft_ms", "tpot_ms", "decode_tokens_per_s", "weight_bytes", "kv_bytes")
_BADGES = {
    "measured": "read from a clock or a counter during the run",
    "derived": "arithmetic on measured numbers",
    "modelled": "computed from sizes and peaks, before or without a run",
    "unavailable": "this run or this machine does not tell it",
}


def header(traces: Labelled) -> Markup:
    """Title and what was run."""
    names = dict.fromkeys(_subject(trace).info.name for _, trace in traces)
    one = "One run" if traces[0][1].started is not None else "One configuration"
    words = one if len(traces) == 1 else f"{len(traces)} configurations side by side"
    return element("header", element("h1", " · ".join(names)), element("p", words, class_="muted"))


def summary(traces: Labelled, comparison: Comparison | None) -> Markup:
    """A card a configuration: what is special about it, and its main numbers."""
    cards = (_card(index, traces, comparison) for index in range(len(traces)))
    return element("section", *cards, class_="columns")


def prompt(traces: Labelled) -> Markup:
    """The prompt of the first run, and that of any other that had another one."""
    runs = [(trace.started, len(trace.prompt_tokens)) for _, trace in traces if trace.started is not None]
    texts = dict.fromkeys((started.prompt, started.chat, count) for started, count in runs)
    blocks = (
        element("div", element("pre", text), element("p", _prompt_note(chat, count), class_="muted small"), class_="card")
        for text, chat, count in texts
    )
    return element("section", element("h2", "Prompt"), *blocks)


def configuration(traces: Labelled) -> Markup:
    """Every setting; what differs from the first configuration is marked."""
    configs = [_subject(trace).config for _, trace in traces]
    rows = (_setting_row(name, values) for name, values in _settings(traces, configs).items())
    body = element("table", _head(("setting", *(label for label, _ in traces))), element("tbody", *rows))
    return element("section", element("h2", "Configuration"), element("div", body, class_="card scroll"))


def metrics(traces: Labelled, comparison: Comparison | None) -> Markup:
    """Every metric with badge and definition; medians and intervals where the runs were repeated."""
    labels = [label for label, _ in traces]
    rows = (_metric_row(metric, traces, comparison) for metric in METRICS.values())
    table = element("table", _head(("metric", ""), labels, ("definition",)), element("tbody", *rows))
    words = capture_notes(traces) if comparison is None else (_interval_note(comparison),)
    notes = (element("p", word, class_="muted small") for word in words)
    return element("section", element("h2", "Metrics"), element("div", *notes, table, class_="card scroll"))


def model(traces: Labelled) -> Markup:
    """The shape of each model once."""
    infos = {_subject(trace).info.path: _subject(trace).info for _, trace in traces}
    shapes = {info.name: {**dataclasses.asdict(info), "weight_bytes": info.weight_bytes} for info in infos.values()}
    cards = (_facts(name, _shape(shape)) for name, shape in shapes.items())
    return element("section", element("h2", "Model"), *cards)


def environment(traces: Labelled) -> Markup:
    """What the runs ran on, once where it is the same."""
    alike: dict[str, list[str]] = {}
    facts = {label: _flat(_subject(trace).environment) for label, trace in traces}
    for label, found in facts.items():
        alike.setdefault(repr(found), []).append(label)
    cards = (_facts(", ".join(labels) if len(alike) > 1 else "", facts[labels[0]]) for labels in alike.values())
    return element("section", element("h2", "Environment"), *cards)


def definitions() -> Markup:
    """What the badges mean."""
    pairs = (element("dt", badge(name)) + element("dd", text) for name, text in _BADGES.items())
    body = element("dl", *(Markup(pair) for pair in pairs), class_="definitions card")
    return element("section", element("h2", "Badges"), body)


def _subject(trace: Trace) -> RunStarted | QualityMeasured | NeedleMeasured:
    assert trace.subject is not None  # `report` leaves out traces that never began
    return trace.subject


def _head(names: Sequence[str], numbers: Sequence[str] = (), more: Sequence[str] = ()) -> Markup:
    """The heading row; headings of numbers stand at the right, as they do."""
    words = [element("th", name, scope="col") for name in names]
    words += [element("th", name, scope="col", class_="number") for name in numbers]
    return element("thead", element("tr", *words, *(element("th", name, scope="col") for name in more)))


def _card(index: int, traces: Labelled, comparison: Comparison | None) -> Markup:
    label, trace = traces[index]
    figures = (_figure(METRICS[name], _value(name, index, trace, comparison)) for name in _FIGURES)
    return element(
        "article",
        element("span", label, class_=f"letter column-{label}"),
        element("p", special(_subject(trace).config), class_="small"),
        *((element("p", follows, class_="muted small"),) if (follows := _follows(index, traces)) else ()),
        element("dl", *figures, class_="figures"),
        class_="card",
    )


def _figure(metric: Metric, value: float | None) -> Markup:
    return element("div", element("dt", metric.label), element("dd", shown(value, metric.unit)))


def _follows(index: int, traces: Labelled) -> str:
    """How far the text follows that of the first configuration."""
    found = agreement(traces[0][1], traces[index][1]) if index else None
    if found is None:
        return ""
    if found.first is None:
        return f"all {found.compared} shared tokens equal those of {traces[0][0]}"
    return f"{found.equal} tokens equal those of {traces[0][0]}, then the texts part"


def _value(name: str, index: int, trace: Trace, comparison: Comparison | None) -> float | None:
    if comparison is not None:
        spread = comparison.metric(name).columns[index]
        return None if spread is None else spread.median
    return trace.finished.metrics.get(name) if trace.finished else None


def _prompt_note(chat: bool, count: int) -> str:
    return f"{count} tokens, {'wrapped in the chat template' if chat else 'as it is'}"


def _settings(traces: Labelled, configs: list[RunConfig]) -> dict[str, list[str]]:
    """Setting to its text in each configuration."""
    plain = [config.to_dict() for config in configs]
    exact = {family: [str(config.choice(family).technique.exactness) for config in configs] for family in CATALOGUE}
    rows = {"model": [str(each["model"]) for each in plain]}
    for family in CATALOGUE:
        rows[family] = [f"{options_text(each[family])}  ({kind})" for each, kind in zip(plain, exact[family])]
    for name in ("sampling", "run"):
        rows[name] = [options_text(each[name]) for each in plain]
    rows["inspect"] = [_inspect(trace) for _, trace in traces]
    return rows


def _inspect(trace: Trace) -> str:
    return "" if trace.started is None else options_text(dataclasses.asdict(trace.started.inspect))


def _setting_row(name: str, values: list[str]) -> Markup:
    cells = (_setting(value, differs=value != values[0]) for value in values)
    return element("tr", element("th", name, scope="row"), *cells)


def _setting(value: str, differs: bool) -> Markup:
    mark = (element("span", "≠", class_="mark", title="differs from the first configuration"),) if differs else ()
    return element("td", *mark, value, class_="differs" if differs else "")


def _metric_row(metric: Metric, traces: Labelled, comparison: Comparison | None) -> Markup:
    if comparison is not None:
        cells = list(_compared_cells(metric, comparison, len(traces)))
        known = any(comparison.metric(metric.name).columns)
    else:
        values = [_value(metric.name, index, trace, None) for index, (_, trace) in enumerate(traces)]
        cells = [element("td", shown(value, metric.unit), class_="number") for value in values]
        known = any(value is not None for value in values)
    name = badges({metric.name: 0.0 if known else None})[metric.name]
    texts = (element("th", metric.label, scope="row"), element("td", badge(name)))
    return element("tr", *texts, *cells, element("td", metric.definition, class_="muted small"))


def _compared_cells(metric: Metric, comparison: Comparison, count: int) -> Iterator[Markup]:
    """Median, interval, and from the second column on the ratio to the first."""
    found = comparison.metric(metric.name)
    for column in range(count):
        one, ratio = found.columns[column], found.ratios[column] if column else None
        lines = [_interval(one, metric.unit), _ratio(ratio, found.noise[column])]
        under = (element("span", line, class_="interval") for line in lines if line)
        yield element("td", shown(one.median if one else None, metric.unit), *under, class_="number")


def _interval(spread: Spread | None, unit: str) -> str:
    if spread is None or spread.low is None or spread.high is None or spread.low == spread.high:
        return ""
    return f"{shown(spread.low, unit)} – {shown(spread.high, unit)}"


def _ratio(ratio: Spread | None, noise: bool | None) -> str:
    if ratio is None:
        return ""
    return f"{digits(ratio.median)} × A" + (", noise" if noise else "")


def _interval_note(comparison: Comparison) -> str:
    return comparison.interval + ("; timed while capturing" if comparison.captured else "")


def _shape(shape: dict[str, Any]) -> dict[str, str]:
    """Readable facts of a model; its template and path are left out."""
    stored = ", ".join(f"{kind} {shown(size, 'B')}" for kind, size in shape.pop("tensor_bytes").items())
    left_out = ("chat_template", "path", "name")
    facts = {
        key.replace("_", " "): shown(value, "B") if key == "weight_bytes" else _plain(value) for key, value in shape.items()
    }
    return {key: text for key, text in {**facts, "stored as": stored}.items() if key.replace(" ", "_") not in left_out}


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown(value) if isinstance(value, int) else "unavailable" if value is None else str(value)


def _flat(facts: Mapping[str, Any]) -> dict[str, str]:
    """Nested facts on one level."""
    nested = {
        f"{key} {name}": value for key, part in facts.items() if isinstance(part, Mapping) for name, value in part.items()
    }
    plain = {key: value for key, value in facts.items() if not isinstance(value, Mapping)}
    return {key.removeprefix("versions "): _plain(value) for key, value in {**plain, **nested}.items()}


def _facts(title: str, facts: Mapping[str, str]) -> Markup:
    return element("div", table_element(("", "value"), facts.items(), title), class_="card")
