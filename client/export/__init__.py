"""EXPORTS: forms that a release can be written in for programs that are not ours, by name. Adding one is a file beside this one and a line here.

Each writes ``write(release, path) -> Written`` and has read back and compared what it wrote before it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from client.export import monai_bundle, onnx_file
from client.export.release import Written
from shared_models.bundle import Bundle

EXPORTS: dict[str, Callable[[Bundle, Path], Written]] = {
    "onnx": onnx_file.write_onnx,
    "monai": monai_bundle.write_monai,
}
