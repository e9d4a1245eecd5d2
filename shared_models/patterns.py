"""The patterns that a reader outlines in a lung, by the code of a label map; every segmenter of patterns speaks of these.

Walsh et al. and Anthimopoulos et al. (IEEE Trans Med Imaging 2016) tell apart healthy lung, ground glass, reticulation, honeycombing, consolidation,
micronodules and ground glass with reticulation; MedGIFT adds emphysema. Fibrosis is reticulation with honeycombing (Koh et al., Eur Radiol 2024).
"""

from __future__ import annotations

PATTERNS: dict[str, int] = {
    "normal": 0,
    "ggo": 1,
    "reticulation": 2,
    "honeycombing": 3,
    "consolidation": 4,
    "emphysema": 5,
    "micronodules": 6,
    "ggo_reticulation": 7,
}
NOT_ANNOTATED = 255
"""The code of a voxel that nobody has looked at: it teaches nothing and is judged by nothing."""
UNLABELLED = 254
"""Of a target of training: lung that nobody has drawn on, on a slice that is shown all the same. It teaches no class; consistency is asked of it."""
