"""Charts as picture files: PNG at twice the size, SVG and PDF with text as text."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from PySide6.QtCore import QBuffer, QIODevice, QMarginsF, QRectF, QSize, QSizeF
from PySide6.QtGui import QImage, QImageWriter, QPageSize, QPainter, QPdfWriter
from PySide6.QtSvg import QSvgGenerator

from core.charts.chart import Chart
from core.errors import BadInput, RunFailed
from core.files import replacing
from widgets.chart_layout import lay_out
from widgets.chart_look import look
from widgets.chart_painter import paint

ThemeName = Literal["light", "dark"]
DOTS = 96  # per inch: one unit of the picture is one CSS pixel
PNG_SCALE = 2


def save_chart(chart: Chart, path: Path, size: tuple[int, int] = (960, 600), theme: ThemeName = "light") -> None:
    """Write the chart as `.png`, `.svg` or `.pdf`, whole or not at all. size: CSS pixels; the PNG has twice as many.

    Needs a QGuiApplication, for fonts. Raises BadInput for another ending, RunFailed when the file cannot be written.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        ending = path.suffix or "a file with no ending"
        raise BadInput(f"{path}: a chart is drawn as {', '.join(sorted(WRITERS))}, not as {ending}")
    data = writer(chart, size, theme)
    with replacing(path) as file:
        file.write(data)


def svg_text(chart: Chart, size: tuple[int, int] = (960, 600), theme: ThemeName = "light") -> str:
    """The chart as a stand-alone SVG: text as `<text>`, heatmap cells with hard edges."""
    buffer = _open_buffer()
    generator = QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setResolution(DOTS)
    generator.setSize(QSize(*size))
    generator.setViewBox(QRectF(0, 0, *size))
    generator.setTitle(html.escape(chart.title))
    generator.setDescription(html.escape(f"{chart.badge}. {chart.definition}"))
    _paint_on(generator, chart, size, theme)
    text = bytes(buffer.data().data()).decode("utf-8")
    text = re.sub(r'width="[\d.]+mm" height="[\d.]+mm"', f'width="{size[0]}" height="{size[1]}"', text, count=1)
    text = text.replace("<image ", '<image style="image-rendering:pixelated" ')
    return re.sub(r'font-family="([^"]*)"', r'font-family="\1, sans-serif"', text)


def png_bytes(chart: Chart, size: tuple[int, int] = (960, 600), theme: ThemeName = "light") -> bytes:
    """The chart as a PNG of twice `size`. Raises RunFailed when Qt cannot make one, such as for lack of memory."""
    image = QImage(size[0] * PNG_SCALE, size[1] * PNG_SCALE, QImage.Format.Format_RGB32)
    if image.isNull():
        raise RunFailed(f"the chart “{chart.title}” could not be drawn: there is no memory for so large a PNG")
    image.setDevicePixelRatio(PNG_SCALE)
    look_ = look(theme == "dark")
    image.fill(look_.ground)
    with QPainter(image) as painter:
        paint(painter, chart, lay_out(chart, QRectF(0, 0, *size), look_), look_)
    buffer = _open_buffer()
    writer = QImageWriter(buffer, b"png")
    if not writer.write(image):
        raise RunFailed(f"the chart “{chart.title}” could not be made a PNG: {writer.errorString()}")
    return bytes(buffer.data().data())


def pdf_bytes(chart: Chart, size: tuple[int, int] = (960, 600), theme: ThemeName = "light") -> bytes:
    """The chart as a one-page PDF of exactly the picture's size."""
    buffer = _open_buffer()
    writer = QPdfWriter(buffer)
    writer.setResolution(DOTS)
    points = QSizeF(size[0] * 72 / DOTS, size[1] * 72 / DOTS)
    writer.setPageSize(QPageSize(points, QPageSize.Unit.Point, "", QPageSize.SizeMatchPolicy.ExactMatch))
    writer.setPageMargins(QMarginsF())
    writer.setTitle(chart.title)
    writer.setCreator("Inference Playground")
    _paint_on(writer, chart, size, theme)
    return bytes(buffer.data().data())


WRITERS: dict[str, Callable[[Chart, tuple[int, int], ThemeName], bytes]] = {
    ".png": png_bytes,
    ".svg": lambda chart, size, theme: svg_text(chart, size, theme).encode("utf-8"),
    ".pdf": pdf_bytes,
}


def _paint_on(device: QSvgGenerator | QPdfWriter, chart: Chart, size: tuple[int, int], theme: ThemeName) -> None:
    look_ = look(theme == "dark")
    with QPainter(device) as painter:
        paint(painter, chart, lay_out(chart, QRectF(0, 0, *size), look_), look_, vector=True)


def _open_buffer() -> QBuffer:
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    return buffer
