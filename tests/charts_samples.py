"""Charts of every kind, for tests of drawing."""

from __future__ import annotations

import numpy as np

from core.charts.chart import Chart, Heatmap, Series, Table


def line_chart(points: int = 40) -> Chart:
    draw = np.random.default_rng(0)
    series = tuple(
        Series(letter, np.arange(points), 9 + 3 * column + draw.random(points), column=column)
        for column, letter in enumerate("AB")
    )
    return Chart(
        "tokens", "Time of each token", "measured", "Gap between one token and the one before it.", "token", "time (ms)", series
    )


def bar_chart() -> Chart:
    series = []
    for column in range(2):
        base = np.zeros(2)
        for phase, ms in {"attention": (20.0, 3.0), "ffn": (40.0, 5.0), "head": (4.0, 1.0)}.items():
            height = np.array(ms) * (1 + column)
            series.append(Series(phase, np.arange(2.0), height, "bar", column, phase, base=base))
            base = base + height
    return Chart(
        "phases", "Where the time went", "measured", "Time of each phase.", "", "time (ms)", tuple(series),
        categories=("prefill", "decode"), notes=("recording cost 3.1 ms",),
    )  # fmt: skip


def interval_chart() -> Chart:
    bars = tuple(
        Series(
            letter,
            np.zeros(1),
            np.array([30.0 + 14 * n]),
            "bar",
            n,
            low=np.array([28.0 + 14 * n]),
            high=np.array([33.0 + 14 * n]),
        )
        for n, letter in enumerate("AB")
    )
    return Chart("ttft", "TTFT", "measured", "Median of 5 repeats and interval.", "", "time (ms)", bars, categories=("TTFT",))


def memory_chart() -> Chart:
    bars = (
        Series("weights", np.arange(2.0), np.array([90e6, 50e6]), "bar", 0, "weights", base=np.zeros(2)),
        Series("KV cache", np.arange(2.0), np.array([20e6, 10e6]), "bar", 0, "kv", base=np.array([90e6, 50e6])),
        Series("budget", np.zeros(1), np.array([16e9]), "horizontal_line", key="budget"),
    )
    return Chart("memory", "Memory", "measured", "Resident bytes.", "", "memory (B)", bars, categories=("A", "B"))


def map_chart(rows: int = 12, columns: int = 16, scale: str = "linear", masked: bool = False) -> Chart:
    values = np.random.default_rng(1).random((rows, columns)).astype(np.float32)
    values[0, 1] = np.nan
    overlay = np.tril(np.ones((rows, columns), bool), -4) if masked else None
    labels = tuple(f"{n} a" for n in range(rows)), tuple(f"{n} b" for n in range(columns))
    heatmap = Heatmap(values, *labels, 0.0, 1.0, "share", overlay, scale)  # type: ignore[arg-type]
    return Chart("map", "Attention, layer 3", "measured", "Weight of each key.", "key", "query", heatmap=heatmap)


def empty_chart() -> Chart:
    return Chart("rounds", "Speculation", "unavailable", "", empty="Choose a decoding technique that drafts, and press Run.")


def listing_chart() -> Chart:
    rows = tuple((n, " the sky is", " blue because" if n % 2 else " red", "because") for n in range(30))
    columns = ("round", "accepted text", "rejected text", "final")
    return Chart("listing", "Every round", "measured", "Drafted text by round.", listing=Table(columns, rows))


ALL = (listing_chart, line_chart, bar_chart, interval_chart, memory_chart, map_chart, empty_chart)
