"""Heatmap cells as an image that stays sharp on screens, in SVG and in PDF."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
from PySide6.QtCore import QRectF
from PySide6.QtGui import QImage, QPainter

from core.charts.chart import Heatmap
from widgets.chart_axes import Axis, log_floor

EMPTY = 256  # entry of the palette for cells with no number
VEILED = 257  # a veiled cell's entry is this much higher
VECTOR_PIXELS = 2048  # least pixels along the longer side of an image embedded in SVG or PDF


def fraction(heatmap: Heatmap, values: np.ndarray) -> np.ndarray:
    """Where values lie on the colour scale, 0 … 1 float32; NaN stays."""
    low, high = heatmap.low, heatmap.high
    values = np.asarray(values, np.float32)
    if not high > low:
        return np.asarray(values * 0)
    if heatmap.scale == "log":
        floor = log_floor(low, high)
        return np.asarray(np.clip(np.log(np.maximum(values, floor) / floor) / math.log(high / floor), 0, 1))
    unit = np.clip((values - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return np.asarray(np.sqrt(unit) if heatmap.scale == "sqrt" else unit)


def entries(heatmap: Heatmap, values: np.ndarray, overlay: np.ndarray | None) -> np.ndarray:
    """Palette entry of each cell, int16: colour 0 … 255, EMPTY for NaN, and VEILED on top of either."""
    unit = fraction(heatmap, values)
    scaled = unit * np.float32(255) + np.float32(0.5)
    found = np.where(np.isnan(scaled), np.float32(EMPTY), scaled).astype(np.int16)
    return found if overlay is None else found + overlay.astype(np.int16) * np.int16(VEILED)


def pooled(values: np.ndarray, overlay: np.ndarray | None, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The largest of each `rows` × `columns` block, so that a thin bright line outlives a small picture.

    A block is veiled where all of its cells are.
    """
    if rows == columns == 1:
        return values, overlay
    values = _folded(values, rows, columns, np.fmax, np.nan)
    return values, None if overlay is None else _folded(overlay, rows, columns, np.logical_and, True)


def _folded(cells: np.ndarray, rows: int, columns: int, fold: np.ufunc, filling: float) -> np.ndarray:
    """Each block of cells as one, by `fold`; blocks at the edge are filled up."""
    more = -cells.shape[0] % rows, -cells.shape[1] % columns
    cells = np.pad(cells, ((0, more[0]), (0, more[1])), constant_values=filling) if any(more) else cells
    cells = reduce(fold, (cells[start::rows] for start in range(rows)))
    return reduce(fold, (cells[:, start::columns] for start in range(columns)))


def cells_image(heatmap: Heatmap, palette: np.ndarray, block: tuple[int, int], window: tuple[slice, slice]) -> QImage:
    """The cells of `window`, one pixel each `block` of rows × columns. palette: [514] uint32 ARGB."""
    overlay = None if heatmap.overlay is None else heatmap.overlay[window]
    values, overlay = pooled(heatmap.values[window], overlay, *block)
    return image_of(palette[entries(heatmap, values, overlay)])


def image_of(pixels: np.ndarray) -> QImage:
    """An image that owns its copy of [rows, columns] uint32 ARGB pixels."""
    pixels = np.ascontiguousarray(pixels, np.uint32)
    rows, columns = pixels.shape
    return QImage(pixels.data, columns, rows, columns * 4, QImage.Format.Format_RGB32).copy()


def draw_cells(painter: QPainter, heatmap: Heatmap, palette: np.ndarray, x: Axis, y: Axis, vector: bool) -> int:
    """Draw the cells that the axes show; returns the most cells that share one pixel along a side.

    vector: the device scales later, so every cell is kept and becomes a block of whole pixels.
    """
    window = _shown(y, heatmap.values.shape[0]), _shown(x, heatmap.values.shape[1])
    block = (1, 1) if vector else (_block(y, painter), _block(x, painter))
    image = cells_image(heatmap, palette, block, window)
    if vector:
        image = enlarged(image)
    rows, columns = (-(-(span.stop - span.start) // n) * n for span, n in zip(window, block))
    left, top = x.at(window[1].start - 0.5), y.at(window[0].start - 0.5)
    target = QRectF(left, top, x.at(window[1].start + columns - 0.5) - left, y.at(window[0].start + rows - 0.5) - top)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
    painter.setRenderHint(QPainter.RenderHint.LosslessImageRendering)
    painter.drawImage(target, image)
    return max(block)


def enlarged(image: QImage) -> QImage:
    """Each pixel as a square of pixels, so that a viewer that smooths blurs only a sliver of a cell."""
    factor = math.ceil(VECTOR_PIXELS / max(image.width(), image.height()))
    return image.scaled(image.width() * factor, image.height() * factor) if factor > 1 else image


def _shown(axis: Axis, count: int) -> slice:
    low, high = sorted((axis.low, axis.high))
    return slice(max(0, math.floor(low + 0.5)), min(count, max(1, math.ceil(high + 0.5))))


def _block(axis: Axis, painter: QPainter) -> int:
    pixels = abs(axis.end - axis.start) * painter.device().devicePixelRatio()
    return max(1, math.ceil(abs(axis.high - axis.low) / max(1.0, pixels) - 1e-6))
