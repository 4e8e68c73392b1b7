"""Attention: who looks at whom in any layer and head, what the pattern hides, and what each head does."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QSlider, QWidget

from core.charts.attention_grid import attention_grid, tile_of
from core.charts.attention_map import chart_of
from core.charts.attention_mask import attention_mask, differs_by_head, pattern
from core.charts.attention_mass import attention_mass
from core.charts.attention_rows import MEAN, GrowingMap
from core.charts.attention_saving import attention_saving
from core.charts.attention_summary import MEASURES, attention_summary
from core.charts.chart import Chart
from core.config import RunConfig
from core.errors import BadInput
from core.models.info import ModelInfo
from core.trace import Trace
from widgets.chart_view import ChartView
from widgets.docks.panel import DockPanel
from widgets.docks.selector import Selector, SelectorRow
from widgets.labels import quiet_label
from widgets.theme import GRID, small_font

_TABS = {
    "map": "Map", "pattern": "Pattern", "mass": "Mass kept", "heads": "Layers × heads", "grid": "All maps", "saving": "Saving",
}  # fmt: skip
_MEASURES = {"entropy": "entropy", "first": "first tokens", "last": "recent tokens", "kept": "mass kept"}
_DRAW_FOR = 0.01  # seconds of placing passes in the map in one frame; the rest comes in the next ones


class AttentionDock(DockPanel):
    """The map of a layer and head, the pattern of the configuration and the attention mass it keeps, every layer and head as
    one number and as small maps, and what is saved.

    Before a run the map's place shows the pattern that the configuration of `set_config` will use.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(_TABS, parent)
        self._growing = GrowingMap(Trace(), 0, MEAN, None)
        self._planned: tuple[RunConfig, ModelInfo | None, int] | None = None
        self.which = Selector("Run", self.redraw)
        self.layer = Selector("Layer", self.redraw)
        self.head = Selector("Head", self.redraw)
        self.measure = Selector("Heads by", self.redraw)
        self.measure.set_values(tuple(MEASURES), tuple(_MEASURES[name] for name in MEASURES))
        self.veil = _check("Mask", "Veil what the pattern hides")
        self.veil.toggled.connect(self.redraw)
        self.passes = PassSlider()
        self.passes.slider.valueChanged.connect(self.redraw)
        self.passes.whole.toggled.connect(self.redraw)
        self.column.insertWidget(0, SelectorRow(self.which, self.layer, self.head, self.veil, self.measure))
        self.column.insertWidget(1, self.passes)
        self.deck.made.connect(self._set_up)
        self._rest = QTimer(self, singleShot=True, interval=0)
        self._rest.timeout.connect(self.redraw)
        self.prepare()

    def set_config(self, config: RunConfig, info: ModelInfo | None, length: int) -> None:
        """What a run would use now: its pattern is drawn until there is a map. length: tokens of the prompt and the answer."""
        self._planned = config, info, length
        self.refresh()

    def _state(self) -> Hashable:
        planned = None if self._trace().started is not None else self._planned
        return super()._state(), planned and (planned[0], id(planned[1]), planned[2])

    def prepare(self) -> None:
        labels = [label for label, _ in self.traces]
        self.which.set_values(labels, labels)
        self.which.setVisible(len(labels) > 1)
        layers, heads = self._layers(), range(MEAN, self._heads())
        self.layer.set_values(layers, tuple(map(str, layers)))
        self.head.set_values(tuple(heads), ("mean of all", *map(str, range(self._heads()))))
        shown = set(self.deck.shown)
        captured = bool(self._trace().attention)
        drawn = shown & ({"pattern"} if captured else {"map", "pattern"})
        self.head.setVisible((captured and "map" in shown) or (bool(drawn) and self._differs()))
        self.veil.setVisible("map" in shown and captured)
        self.measure.setVisible("heads" in shown and captured)
        self.layer.setVisible(bool(layers) and bool(shown & {"map", "mass", "pattern"}))
        self.passes.setVisible("map" in shown and captured)
        self.passes.set_steps([one.step for one in self._trace().attention.get(self.layer.number(), ())])

    def chart_of(self, key: str) -> Chart:
        one = (self._label(), self._trace())
        match key:
            case "heads":
                others = [other for other in self.traces if other[1] is not one[1]]
                return attention_summary([one, *others], measure=str(self.measure.value))
            case "mass":
                return attention_mass([one], layer=self.layer.number())
            case "grid":
                return attention_grid([one])
            case "saving":
                return attention_saving(self.traces)
            case "map" if one[1].attention:
                return self._map()
            case _:
                return self._pattern()

    def _set_up(self, key: str, view: ChartView) -> None:
        if key == "heads":
            view.canvas.picked.connect(lambda row, head: self._show_head(self._layers()[row], head))
        if key == "grid":
            view.canvas.picked.connect(lambda *cell: self._show_head(*tile_of(view.chart, *cell)))

    def _show_head(self, layer: int, head: int) -> None:
        """Open the map of a layer and head that was picked in a view of all of them."""
        self.layer.choose(layer)
        self.head.choose(head)
        self.deck.show_chart("map")
        self.redraw()

    def _map(self) -> Chart:
        trace = [(self._label(), self._trace())]
        layer, head, step = self.layer.number(), self.head.number(MEAN), self.passes.step
        if self._growing.trace is not self._trace() or self._growing.of != (layer, head, step):
            self._growing = GrowingMap(self._trace(), layer, head, step)
        chart = chart_of(trace, layer, head, self._growing.update(most=_DRAW_FOR))
        if not self._growing.complete and not self._trace().live:
            self._rest.start()
        if chart.heatmap is None or self.veil.isChecked():
            return chart
        return replace(chart, heatmap=replace(chart.heatmap, overlay=None))

    def _pattern(self) -> Chart:
        """Of the chosen run; of the configuration as it stands where there is no run."""
        layer, head = self.layer.number(), self.head.number(MEAN)
        if self._trace().started is not None or self._planned is None:
            return attention_mask([(self._label(), self._trace())], layer=layer, head=head)
        config, info, length = self._planned
        try:
            return pattern(config, length, info=info, layer=layer, head=head)
        except BadInput as error:
            return replace(attention_mask([]), empty=f"This configuration has no pattern to draw: {error}.")

    def _layers(self) -> list[int]:
        """Layers that were captured; all of the model's where nothing was."""
        info = self._info()
        return sorted(self._trace().attention) or list(range(info.layers if info else 0))

    def _heads(self) -> int:
        maps = next(iter(self._trace().attention.values()), None)
        info = self._info()
        return maps[0].weights.shape[0] if maps else info.query_heads if info else 0

    def _differs(self) -> bool:
        """Whether the pattern that is drawn is another one for each head."""
        started = self._trace().started
        config = started.config if started else self._planned[0] if self._planned else None
        return config is not None and bool(self._heads()) and differs_by_head(config)

    def _info(self) -> ModelInfo | None:
        trace = self._trace()
        return trace.started.info if trace.started else self._planned[1] if self._planned else None

    def _trace(self) -> Trace:
        chosen = [trace for label, trace in self.traces if label == self.which.value]
        return (chosen or [trace for _, trace in self.traces] or [Trace()])[0]

    def _label(self) -> str:
        return str(self.which.value or "A")


class PassSlider(QWidget):
    """Every pass in one map, or one pass at a time."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.whole = _check("All passes", "Show every pass in one map; untick to walk through them")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Pass")
        self.slider.setEnabled(False)
        self.name = quiet_label("")
        self.name.setMinimumWidth(8 * GRID)
        row = QHBoxLayout(self)
        row.setContentsMargins(GRID // 2, 0, GRID // 2, 0)
        row.setSpacing(GRID)
        row.addWidget(self.whole)
        row.addWidget(self.slider, 1)
        row.addWidget(self.name)
        self._steps: list[int] = []
        self.whole.toggled.connect(self._describe)
        self.slider.valueChanged.connect(self._describe)

    def set_steps(self, steps: list[int]) -> None:
        """The passes there are, in order; −1 is the prefill, which may have been computed in several chunks."""
        steps = sorted(set(steps))
        if steps != self._steps:
            self._steps = steps
            self.slider.blockSignals(True)
            self.slider.setRange(0, max(0, len(steps) - 1))
            self.slider.blockSignals(False)
        self._describe()

    @property
    def step(self) -> int | None:
        """The chosen pass; None is all of them."""
        return None if self.whole.isChecked() or not self._steps else self._steps[self.slider.value()]

    def _describe(self) -> None:
        step = self.step
        self.slider.setEnabled(not self.whole.isChecked())
        count = f"{len(self._steps)} passes"
        self.name.setText(count if step is None else "prefill" if step < 0 else f"pass {step + 1} of {len(self._steps) - 1}")


def _check(text: str, tip: str) -> QCheckBox:
    box = QCheckBox(text)
    box.setChecked(True)
    box.setToolTip(tip)
    box.setFont(small_font())
    return box
