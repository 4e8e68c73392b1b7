"""Compiled attention over coded blocks against plain torch over the same cache."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from test_fused import decoder_for, passes, session_for

from core.attention.coded_kernel import coded_mix_kernel, coded_scores_kernel, has_kernels, room_nbytes
from core.attention.kernel import CHUNK
from core.attention.mask import Reach
from core.cache.base import Layout
from core.cache.coded import CodedForm
from core.cache.quantized import Quantized
from core.cache.table import QuantizedOptions
from core.compiled.jit import callable_at
from core.decoder.fused.form import inside_of
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.engine.local import LocalSession
from tests.core.cache.plain_groups import encoded
from tests.core.compiled.instructions import sum_products_in

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 1e-4
OPTIONS = [(8, 32, 24, 4), (4, 32, 24, 4), (2, 16, 8, 0), (4, 16, 9, 140), (8, 64, 20, 3), (4, 128, 17, 1), (8, 16, 150, 2)]


def cache_of(options: tuple[int, int, int, int], dtype: torch.dtype = torch.float32) -> Quantized:
    return Quantized(QuantizedOptions(*options), Layout((2,) * 3, 16, 400, dtype))


def session_of(decoder: Decoder, fused: bool, options: tuple[int, int, int, int], probe: Probe | None = None) -> LocalSession:
    return session_for(decoder, fused, cache_of(options), probe=probe)


@pytest.mark.parametrize("form", [(8, 16, 16), (4, 32, 64), (2, 128, 48), (8, 32, 128), (4, 64, 256)])
@pytest.mark.parametrize("queries", [1, 3, 6, 24])
@pytest.mark.parametrize("lanes", [16, 8, 0])
def test_that_kernels_multiply_with_what_codes_stand_for(
    form: tuple[int, int, int], queries: int, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sum_products_in(lanes, monkeypatch)
    bits, group, size = form
    known, draws = CodedForm.of(bits, group, (size, size)), torch.Generator().manual_seed(1)
    k, v, q = (torch.randn(1, count, size, generator=draws) for count in (CHUNK, CHUNK, queries))
    records, scores, sums = encoded(known, k, v), torch.zeros(queries, CHUNK + 4), torch.zeros(queries, size)
    keys, values = known.plain(records, torch.float32)
    room = torch.zeros(room_nbytes(known, queries), dtype=torch.uint8)
    blocks = records.data_ptr(), CHUNK // group
    callable_at(coded_scores_kernel.__wrapped__(known), 7)(
        *blocks, q.data_ptr(), queries, scores.data_ptr(), CHUNK + 4, room.data_ptr()
    )
    expected = (q[0] @ keys[0].T) * size**-0.5
    assert (scores[:, :CHUNK] * size**-0.5 - expected).abs().max() < 1e-5
    weights = torch.randn(queries, CHUNK + 4, generator=draws).mul(2).softmax(-1)
    callable_at(coded_mix_kernel.__wrapped__(known), 7)(
        *blocks, weights.data_ptr(), queries, CHUNK + 4, sums.data_ptr(), room.data_ptr()
    )
    assert (sums - weights[:, :CHUNK] @ values[0]).abs().max() < 1e-5


def test_which_blocks_have_kernels() -> None:
    assert has_kernels(CodedForm.of(8, 32, (256, 256)))
    for bits, group, sizes in ((8, 8, (64, 64)), (8, 32, (24, 24)), (8, 32, (64, 32))):
        assert not has_kernels(CodedForm.of(bits, group, sizes))


def differences(decoder: Decoder, options: tuple[int, int, int, int], sizes: Sequence[int]) -> float:
    """The largest of all logits of passes, each against plain torch over a branch of the same cache: of numbers that differ by
    a rounding, some would be coded differently."""
    compiled, most = session_of(decoder, True, options), 0.0
    for index, size in enumerate(sizes):
        plain = session_for(decoder, False, compiled.context.cache.fork())
        tokens = [(7 * i + size + 11 * index) % 128 for i in range(size)]
        found = compiled.forward(tokens, all_logits=True) - plain.forward(tokens, all_logits=True)
        most = max(most, float(found.abs().max()))
    return most


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("sizes", [(200, 9, 50, *[1] * 35), (8,) * 40, (5, 3, 7, 1) * 20])
def test_that_the_compiled_step_equals_plain_torch(options: tuple[int, int, int, int], sizes: Sequence[int]) -> None:
    assert differences(decoder_for(), options, sizes) < TOLERANCE


@pytest.mark.parametrize("family", ["granite", "qwen2", "qwen3", "smollm3"])
def test_that_families_attend_to_codes_alike(family: str) -> None:
    assert differences(decoder_for(family), (8, 16, 12, 2), (60, 12, 5, *[1] * 20)) < TOLERANCE


def test_which_passes_are_computed_inside() -> None:
    decoder = decoder_for()
    session = session_of(decoder, True, (4, 16, 12, 2))
    passes(session, (60,))
    windowed = session_for(decoder, True, cache_of((4, 16, 12, 2)), reach=Reach(0, 20))
    with torch.inference_mode():
        for rows, inside in ((1, True), (12, True), (13, False)):
            assert (inside_of(session.context, rows, Probe())[1] is not None) == inside
        assert inside_of(windowed.context, 1, Probe())[1] is None


@pytest.mark.parametrize("options", OPTIONS)
def test_that_a_row_comes_out_the_same_bit_for_bit_whatever_its_company(options: tuple[int, int, int, int]) -> None:
    decoder, tokens = decoder_for(), [(5 * i) % 128 for i in range(330)]
    alone, together = session_of(decoder, True, options), session_of(decoder, True, options)
    rows = min(options[2], 60)
    one_by_one = torch.cat([alone.forward([token], all_logits=True) for token in tokens])
    parts = [together.forward(tokens[first : first + rows], all_logits=True) for first in range(0, len(tokens), rows)]
    assert torch.equal(one_by_one, torch.cat(parts))


def test_that_rows_taken_back_leave_nothing() -> None:
    decoder, options = decoder_for(), (4, 16, 12, 2)
    session, fresh = session_of(decoder, True, options), session_of(decoder, True, options)
    passes(session, (60, 1))
    expected = passes(fresh, (60, 1))
    for _ in range(4):
        session.forward([9] * 8)
        session.trim(62 - 1)
    assert torch.equal(
        session.forward(list(range(40, 52)), all_logits=True), fresh.forward(list(range(40, 52)), all_logits=True)
    )
    assert len(expected) == 61


@pytest.mark.parametrize("rows", [1, 9])
def test_that_captured_attention_equals_plain_torch(rows: int) -> None:
    decoder, seen = decoder_for(), []
    for fused in (True, False):
        probe = Probe(attention_layers=(0, 2))
        session = session_of(decoder, fused, (8, 16, 10, 3), probe=probe)
        passes(session, (60, 60, 60, 5))
        session.forward(list(range(rows)))
        seen.append(probe.take_attention())
    for layer in (0, 2):
        (compiled, at, mass), (plain, expected_at, _) = seen[0][layer], seen[1][layer]
        assert at.tolist() == expected_at.tolist()
        assert mass is None
        assert abs(compiled.astype(float) - plain.astype(float)).max() < 1e-3


def test_that_a_run_without_codes_after_one_with_them_shows_its_attention() -> None:
    decoder, shown, logits = decoder_for(), [], []
    coded = session_of(decoder, True, (4, 16, 12, 2), Probe(attention_layers=(1,)))
    passes(coded, (60, 1, 1))
    for fused in (coded.fused, None):
        session = session_for(decoder, fused is not None, probe=Probe(attention_layers=(1,)))
        session.fused = fused
        logits.append(passes(session, (20, 1))[-1])
        shown.append(session.probe.take_attention()[1][0])
    assert (logits[0] - logits[1]).abs().max() < TOLERANCE
    assert abs(shown[0].astype("float32") - shown[1].astype("float32")).max() < 1e-3
