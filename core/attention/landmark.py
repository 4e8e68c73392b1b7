"""Past segments through one landmark each: their mean, or a Nyström approximation of rank one."""

from __future__ import annotations

from torch import Tensor

from core.attention.compressed import Compressor, Digest, block_attention
from core.attention.linformer import MeanPool
from core.attention.mechanism import Mechanism, Site
from core.attention.table import LandmarkOptions


class Nystrom:
    """With a segment's mean query q̃ and mean key k̃ as landmarks: exp(q·k) ≈ exp(q·k̃) exp(q̃·k̃)⁻¹ exp(q̃·k).

    So a segment is a row with key k̃, exact for a query that is q̃, whose value is what q̃ attends to in the segment.
    """

    rows = 1
    queried = True

    def digest(self, parts: list[Tensor], site: Site) -> tuple[Digest, Tensor]:
        k, v, q = parts
        query = q.mean(1).view(site.kv_heads, -1, site.head_size)  # [G, J, D]
        key = k.mean(1, keepdim=True)  # [G, 1, D]
        logits = query @ k.transpose(1, 2) * site.scale  # [G, J, n]
        logs = logits.logsumexp(-1, keepdim=True) - query @ key.transpose(1, 2) * site.scale  # [G, J, 1]
        shares = logits.softmax(-1)
        return Digest(key, logs, (shares @ v)[:, :, None]), shares[:, :, None]


def landmark(options: LandmarkOptions, site: Site) -> Mechanism:
    """Attention to landmarks of segments in a layer."""
    compressor: Compressor = Nystrom() if options.summary == "nystrom" else MeanPool(options.segment, 1)
    return block_attention(site, compressor, options.segment, options.local, options.sinks)
