"""Flower's replies put together at the memory of one model.

Flower's own function keeps every piece of every array until the whole message stands, and copies each array twice: a reply takes three times
its size. This one lets go of each piece as soon as it has been copied to its place.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

from flwr.app import Array
from flwr.app.message.arraychunk import ArrayChunk
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_children_ids_from_object_content,
    get_object_type_from_object_content,
)
from flwr.supercore.inflatable.inflatable_utils import inflatable_class_registry

from shared_models.messages import FRAME_LIMIT


def inflate(object_id: str, contents: dict[str, bytes]) -> InflatableObject:
    """Return the object of a content-addressed tree; `contents` is empty afterwards.

    Parameters
    ----------
    object_id : str
        SHA-256 of the object's bytes.
    contents : dict of str to bytes
        The bytes of the object and of all that it is made of.

    Raises
    ------
    KeyError, IndexError, ValueError
        A part is missing or malformed.
    """
    uses = Counter(child for content in contents.values() for child in get_object_children_ids_from_object_content(content))
    return _inflate(object_id, contents, uses)


def use() -> None:
    """Let this process's Flower put its messages together in this way."""
    from flwr.superlink.grid import http_grid

    grid: Any = http_grid
    grid.inflate_object_from_contents = inflate


def _inflate(object_id: str, contents: dict[str, bytes], uses: Counter[str]) -> InflatableObject:
    content = _take(object_id, contents, uses)
    kind = get_object_type_from_object_content(content)
    if kind == "Array":
        return _array(content, contents, uses)
    children = {child: _inflate(child, contents, uses) for child in get_object_children_ids_from_object_content(content)}
    return inflatable_class_registry[kind].inflate(content, children=children)


def _take(object_id: str, contents: dict[str, bytes], uses: Counter[str]) -> bytes:
    uses[object_id] -= 1
    return contents[object_id] if uses[object_id] > 0 else contents.pop(object_id)  # equal arrays share their pieces


def _array(content: bytes, contents: dict[str, bytes], uses: Counter[str]) -> Array:
    about, pieces = json.loads(get_object_body(content, Array)), get_object_children_ids_from_object_content(content)
    order = [pieces[number] for number in about["arraychunk_ids"]]
    starts = {piece: len(contents[piece]) - len(get_object_body(contents[piece], ArrayChunk)) for piece in pieces}
    size = sum(len(contents[piece]) - starts[piece] for piece in order)
    if size > FRAME_LIMIT:
        raise ValueError("an array of a message holds at most 4 GiB")
    uses.update(Counter(order) - Counter(pieces))  # a piece may stand in several places of one array
    data = io.BytesIO()  # whose value is its own memory, not a copy of it
    for piece in order:
        data.write(memoryview(_take(piece, contents, uses))[starts[piece] :])
    return Array(about["dtype"], tuple(about["shape"]), about["stype"], data.getvalue())
