"""Sparse patterns that stand before the run, as mechanisms over gathered keys."""

from __future__ import annotations

from core.attention.bigbird import BigBird
from core.attention.dilated import Dilated
from core.attention.gathered import Gathered
from core.attention.local_global import LocalGlobal
from core.attention.mechanism import Site
from core.attention.strided import Strided
from core.attention.table import BigBirdOptions, DilatedOptions, LocalGlobalOptions, StridedOptions


def dilated(options: DilatedOptions, site: Site) -> Gathered:
    """Recent tokens with gaps."""
    return Gathered(site, Dilated(options.window, options.dilation))


def strided(options: StridedOptions, site: Site) -> Gathered:
    """A window, and one token in each stride before it."""
    return Gathered(site, Strided(options.window, options.stride))


def local_global(options: LocalGlobalOptions, site: Site) -> Gathered:
    """A window and global tokens."""
    return Gathered(site, LocalGlobal(options.window, options.globals, options.every))


def bigbird(options: BigBirdOptions, site: Site) -> Gathered:
    """Window, global and random blocks."""
    drawn = options.block, options.window_blocks, options.global_blocks, options.random_blocks, options.seed
    return Gathered(site, BigBird(*drawn, site.kv_heads))
