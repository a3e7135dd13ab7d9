"""Updates of the catalog in parts, so that no stream needs the memory of a whole catalog."""

from __future__ import annotations

from triptych.protocol import controller_pb2 as cp


class PartJoiner:
    """Joins the parts of one stream to whole updates."""

    def __init__(self) -> None:
        self._joined = cp.CatalogUpdate()

    def add(self, part: cp.CatalogUpdate) -> cp.CatalogUpdate | None:
        """Take the next message of the stream; return the whole update with its last part."""
        self._joined.MergeFrom(part)
        if part.more:
            return None
        whole, self._joined = self._joined, cp.CatalogUpdate()
        whole.ClearField("more")
        return whole
