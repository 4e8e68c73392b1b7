"""Hues that stand side by side in a chart, as readers with any colour vision see them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from core.charts.palette import PHASES, Tone

FAR = 0.1  # in OKLab, where 0.02 can just be seen
GROUNDS = Tone("#22262d", "#ffffff")  # the brightest surface of the dark theme, and of the light one
# Linear RGB as seen without the cones for red or for green: Machado, Oliveira and Fernandes 2009, severity 1.
VISIONS = {
    "trichromacy": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
}
# OKLab: Ottosson 2020. Linear RGB to the responses of cones, and their cube roots to lightness and two hues.
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def linear(hue: str) -> np.ndarray:
    """#rrggbb as linear RGB, 0 … 1."""
    encoded = np.array(list(bytes.fromhex(hue[1:]))) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def distance(one: str, other: str, vision: str) -> float:
    """Between two hues as they are seen, in OKLab."""
    labs = [LAB @ np.cbrt(CONES @ (VISIONS[vision] @ linear(hue)).clip(0, 1)) for hue in (one, other)]
    return float(np.linalg.norm(labs[0] - labs[1]))


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio."""
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(hue)) for hue in (one, other))
    return (high + 0.05) / (low + 0.05)


def test_that_distances_are_those_of_oklab() -> None:
    assert distance("#ffffff", "#000000", "trichromacy") == pytest.approx(1, abs=1e-3)
    assert distance("#ff0000", "#00ff00", "trichromacy") == pytest.approx(0.5197, abs=1e-3)
    for vision in VISIONS:
        assert distance("#808080", "#ffffff", vision) == pytest.approx(0.4002, abs=1e-3), "greys stay as they are"
    assert distance("#ff0000", "#9a8700", "protanopia") < distance("#ff0000", "#9a8700", "trichromacy")


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("dark", [True, False])
def test_that_feed_forward_sampling_and_capture_are_told_apart(dark: bool, vision: str) -> None:
    for one, other in combinations(("ffn", "sampling", "capture"), 2):
        assert distance(PHASES[one].on(dark), PHASES[other].on(dark), vision) > FAR, (one, other)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("dark", [True, False])
def test_that_sampling_and_capture_are_told_from_every_other_phase(dark: bool, vision: str) -> None:
    for one in ("sampling", "capture"):
        for other in PHASES.keys() - {one}:
            assert distance(PHASES[one].on(dark), PHASES[other].on(dark), vision) > FAR, (one, other)


@pytest.mark.parametrize("dark", [True, False])
def test_that_phases_stand_out_from_the_ground(dark: bool) -> None:
    """As WCAG 2.1 asks of what is drawn."""
    for name, tone in PHASES.items():
        assert contrast(tone.on(dark), GROUNDS.on(dark)) >= 3, name
