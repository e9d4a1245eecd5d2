"""Flower's messages at the memory of one model: taken apart as they are sent, put together as they come.

Flower's own functions copy a whole message into pieces before the first one is sent; and they keep every piece of every array until the whole
reply stands, and copy each array twice, so that a reply takes three times its size. Here a piece is made when it can be sent, and let go of as
soon as it has been copied to its place.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from flwr.app import Array
from flwr.app.message.arraychunk import ArrayChunk
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_children_ids_from_object_content,
    get_object_type_from_object_content,
)
from flwr.supercore.inflatable.inflatable_utils import inflatable_class_registry, pull_objects

from shared_models.messages import FRAME_LIMIT

LINES = 2
"""Pieces that are on their way at a time."""


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
    grid.push_objects = push
    grid.pull_objects = partial(pull_objects, max_concurrent_pulls=1)  # each piece on its way is held four times over


def push(objects: dict[str, InflatableObject], push_object_fn: Callable[[str, bytes], None], *, object_ids_to_push: set[str]) -> None:
    """Send the wanted ones of `objects`, `LINES` at a time; none of them is there afterwards.

    Parameters
    ----------
    objects : dict of str to InflatableObject
        By SHA-256; they share the memory of the message that they make up.
    push_object_fn : callable
        Sends one object's bytes and raises what keeps it from that.
    object_ids_to_push : set of str
        Those that the SuperLink does not hold yet.
    """

    def contents() -> Iterator[tuple[str, bytes]]:
        for number in list(objects):
            part = objects.pop(number)
            if number in object_ids_to_push:
                yield number, part.deflate()

    with ThreadPoolExecutor(max_workers=LINES) as lines:
        under_way = set()
        for number, content in contents():
            under_way.add(lines.submit(push_object_fn, number, content))
            del content
            if len(under_way) >= LINES:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for one in done:
                    one.result()
        for one in under_way:
            one.result()


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
