"""DIMSE: C-FIND asks, C-GET or C-MOVE brings, in the study root model (PS3.4 annex C).

With C-GET images come over the connection that asks; with C-MOVE the PACS opens one to our receiver, which is started here unless
it runs already.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt, sop_class
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import build_context

from client.dicom import tags
from client.intake.landing import Landing
from client.intake.pacs import KEYWORDS, PacsFailed, What
from client.intake.receiver import receiving, sockets, tls_context
from client.intake.settings import Pacs, Receiver
from shared_models.core.errors import BadInput

CLASSES: Any = sop_class
"""The standard's classes, which pynetdicom makes by name."""

CT_CLASSES = (CLASSES.CTImageStorage, CLASSES.EnhancedCTImageStorage, CLASSES.LegacyConvertedEnhancedCTImageStorage)
PENDING, SUCCESS, DESTINATION_UNKNOWN, NO_ROOM = (0xFF00, 0xFF01), 0x0000, 0xA801, 0xA700
"""Statuses of C-FIND, C-MOVE and C-GET (PS3.4 tables C.4-1, C.4-2 and C.4-3)."""


class Dimse:
    """A PACS at an address under a title; see `client.intake.pacs.Archive`.

    Parameters
    ----------
    pacs : Pacs
        With `address` and `title`.
    receiver : Receiver, optional
        Of the site; C-MOVE needs it.
    landing : Landing
        Where images go.
    folder : Path
        From which the paths of certificates count.

    Raises
    ------
    BadInput
        C-MOVE without a receiver.
    """

    def __init__(self, pacs: Pacs, receiver: Receiver | None, landing: Landing, folder: Path) -> None:
        if pacs.retrieve == "move" and receiver is None:
            raise BadInput("C-MOVE needs a receiver that the PACS can send to", remedy='add [receiver], or retrieve = "get"')
        self.pacs, self.receiver, self.landing, self.folder = pacs, receiver, landing, folder
        self.stack = ExitStack()
        self.sizes: dict[str, int] = {}

    def __enter__(self) -> Dimse:
        if self.pacs.retrieve == "move" and self.receiver is not None and not _listens(self.receiver):
            self.stack.enter_context(receiving(self.receiver, self.landing, self.folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stack.close()

    def find(self, what: What, value: str) -> list[str]:
        """Return the Study Instance UIDs that match exactly."""
        query = _query("STUDY", **{"StudyInstanceUID": "", KEYWORDS[what]: value})
        return [uid for row in self._found(query) if (uid := str(row.get("StudyInstanceUID") or ""))]

    def images(self, study: str) -> dict[str, list[str]]:
        """Return the SOP Instance UIDs of each CT series of a study."""
        found = {}
        for row in self._found(_query("SERIES", StudyInstanceUID=study, SeriesInstanceUID="", Modality="CT")):
            if str(row.get("Modality") or "CT") != "CT":
                continue  # the modality is not matched by every PACS
            series = str(row.get("SeriesInstanceUID") or "")
            images = self._found(_query("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID=""))
            found[series] = [str(one.get("SOPInstanceUID") or "") for one in images]
            self.sizes[series] = len(found[series])
        return found

    def fetch(self, study: str, wanted: dict[str, list[str]], landing: Landing, progress: Callable[[], None]) -> None:
        """Bring images to their landing, series by series."""
        for series, images in wanted.items():
            if len(images) == self.sizes.get(series):
                query = _query("SERIES", StudyInstanceUID=study, SeriesInstanceUID=series)
            else:  # what a broken connection left over
                query = _query("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID=images)
            if self.pacs.retrieve == "move":
                self._move(query, progress)
            else:
                self._get(query, landing, progress)

    def _found(self, query: Dataset) -> list[Dataset]:
        with self._association([CLASSES.StudyRootQueryRetrieveInformationModelFind]) as association:
            rows = []
            for status, row in association.send_c_find(query, CLASSES.StudyRootQueryRetrieveInformationModelFind):
                if _status(status) in PENDING and row is not None:
                    rows.append(row)
            return rows

    def _move(self, query: Dataset, progress: Callable[[], None]) -> None:
        done, title = 0, self.receiver.title if self.receiver else ""
        with self._association([CLASSES.StudyRootQueryRetrieveInformationModelMove]) as association:
            for status, _ in association.send_c_move(query, title, CLASSES.StudyRootQueryRetrieveInformationModelMove):
                _status(status)
                now = int(status.get("NumberOfCompletedSuboperations") or 0)
                for _ in range(max(0, now - done)):
                    progress()
                done = max(done, now)

    def _get(self, query: Dataset, landing: Landing, progress: Callable[[], None]) -> None:
        full: list[OSError] = []

        def store(event: evt.Event) -> int:
            try:
                landing.put(event.encoded_dataset())
            except OSError as error:
                full.append(error)
                return NO_ROOM
            except BadInput:
                return 0xC000
            progress()
            return SUCCESS

        with self._association([CLASSES.StudyRootQueryRetrieveInformationModelGet], store=store) as association:
            for status, _ in association.send_c_get(query, CLASSES.StudyRootQueryRetrieveInformationModelGet):
                if full:
                    raise full[0]
                _status(status)

    @contextmanager
    def _association(self, models: list[str], *, store: Callable[[evt.Event], int] | None = None) -> Iterator[Association]:
        entity = AE(ae_title=self.pacs.calling)
        entity.maximum_pdu_size = 1 << 20
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.pacs.timeout_s
        # one context for each class and syntax: the PACS then need not convert anything
        stored = [] if store is None else [build_context(one, syntax) for one in CT_CLASSES for syntax in tags.TRANSFER_SYNTAXES]
        entity.requested_contexts = [*map(build_context, models), *stored]
        roles = []
        for storage in CT_CLASSES if store is not None else ():
            role = SCP_SCU_RoleSelectionNegotiation()
            role.sop_class_uid, role.scu_role, role.scp_role = storage, False, True
            roles.append(role)
        host, _, port = (self.pacs.address or "").rpartition(":")
        tls = None if self.pacs.tls is None else (tls_context(self.pacs.tls, self.folder, server=False), host)
        handlers: list[Any] = [*sockets(), *([(evt.EVT_C_STORE, store)] if store else [])]
        association = entity.associate(host, int(port), ae_title=self.pacs.title, evt_handlers=handlers, ext_neg=roles, tls_args=tls, max_pdu=1 << 20)
        try:
            if association.is_rejected or (association.is_aborted and not association.is_established and association.acceptor.primitive):
                raise PacsFailed("REFUSED", "the association was rejected")
            if not association.is_established:
                raise PacsFailed("UNREACHABLE")
            yield association
        finally:
            if association.is_established:
                association.release()


def _query(level: str, **values: Any) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(query, keyword, value)
    return query


def _status(status: Dataset) -> int:
    """Return a status that lets the operation go on or has ended it well; anything else is an error."""
    code = status.get("Status")
    if code is None:  # the connection is gone, or an answer did not come in time
        raise PacsFailed("UNREACHABLE")
    if code in PENDING or code == SUCCESS:
        return code
    if code in (0xB000, 0xA702):  # some images failed: what came is looked at by the caller
        return code
    raise PacsFailed("REFUSED", "unknown destination" if code == DESTINATION_UNKNOWN else f"status {code:04x}")


def _listens(receiver: Receiver) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((receiver.host, receiver.port)) not in (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH)
