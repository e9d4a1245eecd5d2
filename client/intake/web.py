"""DICOMweb: QIDO-RS asks, WADO-RS brings (PS3.18 sections 10.4 and 10.6). Images come in the transfer syntax in which they are stored."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass

from client.intake.landing import Landing
from client.intake.pacs import KEYWORDS, PacsFailed, What
from client.intake.settings import Pacs

AS_STORED = (("application/dicom", "*"),)
PAGE = 500
STUDY, SERIES, IMAGE = "0020000D", "0020000E", "00080018"


class Web:
    """A PACS under a URL; see `client.intake.pacs.Archive`.

    Parameters
    ----------
    pacs : Pacs
        With `url`.
    folder : Path
        From which the paths of password and authority count.
    """

    def __init__(self, pacs: Pacs, folder: Path) -> None:
        credentials = pacs.credentials(folder)
        self.session = create_session_from_user_pass(*credentials) if credentials else requests.Session()
        self.session.trust_env = credentials is None and self.session.trust_env  # a .netrc must not replace what the site says
        if pacs.authority is not None:
            self.session.verify = str(folder / pacs.authority)
        self.client = DICOMwebClient(pacs.url or "", session=self.session)
        self.client.set_http_retry_params(retry=False)
        self.timeout_s = pacs.timeout_s

    def __enter__(self) -> Web:
        send = self.session.request

        def within(*arguments: Any, **options: Any) -> Any:
            return send(*arguments, **{"timeout": self.timeout_s, **options})

        self.session.request = within  # the client passes no time limit on
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.session.close()

    def find(self, what: What, value: str) -> list[str]:
        """Return the Study Instance UIDs that match exactly."""
        return [_first(row, STUDY) for row in self._pages(self.client.search_for_studies, search_filters={KEYWORDS[what]: value})]

    def images(self, study: str) -> dict[str, list[str]]:
        """Return the SOP Instance UIDs of each CT series of a study."""
        found = {}
        for row in self._pages(self.client.search_for_series, study, search_filters={"Modality": "CT"}):
            series = _first(row, SERIES)
            found[series] = [_first(one, IMAGE) for one in self._pages(self.client.search_for_instances, study, series)]
        return found

    def fetch(self, study: str, wanted: dict[str, list[str]], landing: Landing, progress: Callable[[], None]) -> None:
        """Bring images to their landing, one request each."""
        for series, images in wanted.items():
            for image in images:
                dataset = self._asked(self.client.retrieve_instance, study, series, image, media_types=AS_STORED)
                data = io.BytesIO()
                dataset.save_as(data, enforce_file_format=True)
                landing.put(data.getvalue())
                progress()

    def _pages(self, search: Callable[..., list[dict[str, Any]]], *arguments: str, **options: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:  # a server may give fewer at once than it is asked for, and may know no offset: only nothing new is the end
            page = self._asked(search, *arguments, limit=PAGE, offset=len(rows), **options)
            if not page or page[0] in rows:
                return rows
            rows += page

    def _asked(self, ask: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return ask(*arguments, **options)
        except requests.HTTPError as error:
            code = error.response.status_code if error.response is not None else 0
            reason = "REFUSED" if code in (401, 403) else "NOT_FOUND" if code == 404 else "UNREACHABLE"
            raise PacsFailed(reason, f"HTTP {code}") from None
        except (requests.RequestException, OSError) as error:
            raise PacsFailed("UNREACHABLE", type(error).__name__) from None


def _first(row: dict[str, Any], tag: str) -> str:
    return str((row.get(tag, {}).get("Value") or [""])[0])
