"""Layer selections: `all`, `0-9`, `3,5,7`, `last:8`, `first:4`, `every:2`, and commas between them."""

from core.errors import BadInput


def parse_layers(spec: str, count: int) -> tuple[int, ...]:
    """The sorted layer indices that `spec` names in a model of `count` layers.

    Raises BadInput for anything malformed or outside the model.
    """
    chosen = {index for part in spec.split(",") for index in _part(part.strip(), count, spec)}
    return tuple(sorted(chosen))


def _part(part: str, count: int, spec: str) -> range:
    word, _, number = part.partition(":")
    if part == "all":
        return range(count)
    if word in ("first", "last", "every") and number.isdigit() and 0 < int(number) <= count:
        n = int(number)
        return {"first": range(n), "last": range(count - n, count), "every": range(0, count, n)}[word]
    first, dash, last = part.partition("-")
    last = last if dash else first
    if first.isdigit() and last.isdigit() and int(first) <= int(last) < count:
        return range(int(first), int(last) + 1)
    raise BadInput(
        f"layers={spec}: {part!r} is not a selection of the model's {count} layers; "
        f"write all, 0-{count - 1}, 3,5,7, first:4, last:8 or every:2"
    )
