"""What can be asked of a configuration's quality. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.config import RunConfig, checked
from core.errors import BadInput
from core.technique import option

LARGEST = 2**24  # tokens
USUAL_CONTEXT = 1024
LEAST_CONTEXT = 16  # a shorter one, other than 0, is refused


@dataclass(frozen=True)
class QualityOptions:
    """How a text is read."""

    tokens: int = option(8192, "most tokens of the text that are scored", low=2, high=LARGEST, unit="tokens")
    context: int = option(
        0, "tokens of a window; 0 takes 1,024, or the model's context where that is less", low=0, high=LARGEST, unit="tokens"
    )
    stream: bool = option(False, "one continuous pass through the cache policy in place of windows")
    prompt_tokens: int = option(
        0,
        "first tokens of each window, or of the stream, that are a prompt and not scored; 0 takes half of a window for a cache "
        "that condenses prompts, else none",
        low=0,
        high=LARGEST,
        unit="tokens",
    )
    base_context: int = option(
        0, "most tokens that the unmodified model holds in a stream; 0 takes its context", low=0, high=LARGEST, unit="tokens"
    )


@dataclass(frozen=True)
class NeedleOptions:
    """The grid of a needle-in-a-haystack sweep."""

    lengths: str = option("512,1024,2048", "tokens of the whole prompt, such as 512,1024", unit="tokens")
    depths: str = option("0,25,50,75,100", "where the needle lies: 0 is the beginning, 100 the end", unit="%")
    trials: int = option(1, "needles tried in each cell", low=1, high=100)

    @property
    def grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Lengths and depths in rising order. Raises BadInput."""
        return _numbers("lengths", self.lengths, 64, LARGEST), _numbers("depths", self.depths, 0, 100)


@dataclass(frozen=True)
class QualityRequest:
    """Score `config` on a text, beside the unmodified model. text: path of a UTF-8 file, or "" for the default text."""

    config: RunConfig
    text: str = ""
    options: QualityOptions = QualityOptions()


@dataclass(frozen=True)
class NeedleRequest:
    """Hide facts in a text of growing length and ask for them. text: as in QualityRequest."""

    config: RunConfig
    text: str = ""
    options: NeedleOptions = NeedleOptions()


MeasureRequest = QualityRequest | NeedleRequest


@dataclass(frozen=True)
class Measurement:
    """What a person chose to measure. column: the configuration's index, None for all of them. text: as in QualityRequest."""

    options: QualityOptions | NeedleOptions = QualityOptions()
    text: str = ""
    column: int | None = None

    def request(self, config: RunConfig) -> MeasureRequest:
        """Of one configuration."""
        if isinstance(self.options, NeedleOptions):
            return NeedleRequest(config, self.text, self.options)
        return QualityRequest(config, self.text, self.options)


def options_from(kind: type, values: Mapping[str, Any]) -> Any:
    """`kind` with `values`, those that are None left out. Raises BadInput for a value out of its range."""
    given = {name: value for name, value in values.items() if value is not None}
    return kind(**{name: checked("quality", name, value, kind) for name, value in given.items()})


def _numbers(name: str, text: str, low: int, high: int) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and low <= int(part) <= high for part in parts):
        raise BadInput(f"quality.{name}: {text!r} is no list of whole numbers from {low} to {high:,}, such as 100,200")
    return tuple(sorted(set(map(int, parts))))
