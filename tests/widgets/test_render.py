"""Exported pictures: text stays text, cells stay sharp, files are whole or absent."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QRectF
from PySide6.QtGui import QImage, QImageWriter, QPainter
from PySide6.QtSvg import QSvgRenderer

from core.errors import BadInput, RunFailed
from tests.charts_samples import ALL, bar_chart, line_chart, map_chart
from widgets.chart_heatmap import entries
from widgets.chart_layout import lay_out
from widgets.chart_look import look
from widgets.render import save_chart, svg_text

SIZE = (960, 600)
pytestmark = pytest.mark.usefixtures("qapp")


def _rasterised(svg: str, scale: int = 1) -> QImage:
    image = QImage(SIZE[0] * scale, SIZE[1] * scale, QImage.Format.Format_RGB32)
    painter = QPainter(image)
    QSvgRenderer(svg.encode()).render(painter)
    painter.end()
    return image


def _cell_colours(image: QImage, chart, scale: int, shift: float) -> np.ndarray:
    """Pixels `shift` of a cell's width away from each cell's centre."""
    layout = lay_out(chart, QRectF(0, 0, *SIZE), look(False))
    rows, columns = chart.heatmap.values.shape
    return np.array(
        [
            [image.pixel(int(layout.x.at(c + shift) * scale), int(layout.y.at(r + shift) * scale)) for c in range(columns)]
            for r in range(rows)
        ],
        dtype=np.uint32,
    )


def _palette_colours(chart) -> np.ndarray:
    return look(False).palette[entries(chart.heatmap, chart.heatmap.values, chart.heatmap.overlay)]


@pytest.mark.parametrize("scale", ["linear", "sqrt", "log"])
@pytest.mark.parametrize("shift", [0.0, 0.42, -0.42])
def test_that_svg_cells_have_exactly_the_colours_of_the_map_up_to_their_edges(scale, shift):
    chart = map_chart(scale=scale, masked=True)
    image = _rasterised(svg_text(chart, SIZE), 2)
    assert np.array_equal(_cell_colours(image, chart, 2, shift), _palette_colours(chart))


@pytest.mark.parametrize("shift", [0.0, 0.42, -0.42])
def test_that_png_cells_have_exactly_the_colours_of_the_map(tmp_path, shift):
    chart = map_chart(masked=True)
    save_chart(chart, tmp_path / "map.png", SIZE)
    image = QImage(str(tmp_path / "map.png"))
    assert (image.width(), image.height()) == (1920, 1200)
    assert np.array_equal(_cell_colours(image, chart, 2, shift), _palette_colours(chart))


def test_that_large_maps_are_embedded_whole_in_svg():
    svg = svg_text(map_chart(512, 512), SIZE)
    assert 'style="image-rendering:pixelated"' in svg
    assert len(svg) < 4_000_000


@pytest.mark.parametrize("make", ALL)
def test_that_svg_text_stays_text(make):
    chart = make()
    words = "\n".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg_text(chart, SIZE)))
    assert chart.title in words
    assert chart.badge in words
    assert all(entry in words for entry in (chart.x_label, *chart.categories))
    assert not chart.notes or chart.notes[0] in words


def test_that_svg_escapes_what_the_model_wrote():
    svg = svg_text(replace(line_chart(), title="a < b & c"), SIZE)
    assert QSvgRenderer(svg.encode()).isValid()


def test_that_a_title_with_markup_is_valid_in_dark_svg():
    assert QSvgRenderer(svg_text(bar_chart(), SIZE, "dark").encode()).isValid()


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="poppler's pdftotext reads the text back; it is not installed")
@pytest.mark.parametrize("make", ALL)
def test_that_pdf_text_can_be_extracted(tmp_path, make):
    chart = make()
    save_chart(chart, tmp_path / "chart.pdf", SIZE)
    command = ["pdftotext", "-layout", str(tmp_path / "chart.pdf"), "-"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert chart.title in found
    assert chart.badge in found
    assert all(name in found for name in chart.categories)


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="poppler's pdftoppm draws the page; it is not installed")
def test_that_pdf_cells_have_exactly_the_colours_of_the_map(tmp_path):
    chart = map_chart()
    save_chart(chart, tmp_path / "map.pdf", SIZE)
    subprocess.run(
        ["pdftoppm", "-r", "192", "-png", "-singlefile", str(tmp_path / "map.pdf"), str(tmp_path / "page")], check=True
    )
    image = QImage(str(tmp_path / "page.png"))
    assert np.array_equal(_cell_colours(image, chart, 2, 0.0), _palette_colours(chart))


def test_that_a_picture_that_qt_cannot_make_is_not_written(tmp_path, monkeypatch):
    (tmp_path / "chart.png").write_text("what was there")
    with pytest.raises(RunFailed, match="could not be drawn: there is no memory"):
        save_chart(line_chart(), tmp_path / "chart.png", (200_000, 200_000))
    monkeypatch.setattr(QImageWriter, "write", lambda *_: False)
    with pytest.raises(RunFailed, match="could not be made a PNG"):
        save_chart(line_chart(), tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_text() == "what was there"


def test_that_the_files_are_whole_or_absent(tmp_path):
    with pytest.raises(RunFailed, match="no folder"):
        save_chart(line_chart(), tmp_path / "missing" / "chart.svg")
    with pytest.raises(BadInput, match=r"\.pdf, \.png, \.svg"):
        save_chart(line_chart(), tmp_path / "chart.bmp")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the full device that stands for a full disk is Linux's")
def test_that_a_full_disk_is_one_sentence(tmp_path):
    (tmp_path / "chart.svg").symlink_to("/dev/full")
    with pytest.raises(RunFailed, match="cannot be written: no space left on device"):
        save_chart(line_chart(), tmp_path / "chart.svg")
