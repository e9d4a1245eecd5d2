"""Who may come in: the names under which a page answers, signed sessions, their tokens against forged forms, and a limit on guesses.

A page that only this machine reaches opens at once, or, where it can sign for a hospital, by the link that the command prints. Every other
page wants the password.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

from shared_models.core.errors import Refused
from shared_models.core.files import sha256
from shared_models.page.password import is_password
from shared_models.signing import read_private

SESSION_S = 12 * 3600
WINDOW_S = 300.0
MOST_GUESSES, MOST_GUESSES_IN_ALL = 5, 50
"""Guesses in `WINDOW_S` seconds from one address, and from all of them."""
FEWEST_TOKEN_CHARACTERS = 16


@dataclass(frozen=True)
class Session:
    """A visitor: `nonce` is what their cookie signs, `entered` whether they have come in."""

    nonce: str
    entered: bool


@dataclass
class Guesses:
    """Counts guesses of passwords and links, so that nobody tries many."""

    clock: Callable[[], float] = time.monotonic
    _failed: dict[str, list[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, address: str) -> float:
        """Count a guess and return 0, or return the seconds to wait before the next one is looked at."""
        with self._lock:
            now = self.clock()
            kept = {one: recent for one, times in self._failed.items() if (recent := [at for at in times if now - at < WINDOW_S])}
            self._failed = kept
            mine, everybody = kept.get(address, []), sorted(at for times in kept.values() for at in times)
            full = mine if len(mine) >= MOST_GUESSES else everybody if len(everybody) >= MOST_GUESSES_IN_ALL else None
            if full is not None:
                return max(1.0, WINDOW_S - (now - full[0]))
            kept.setdefault(address, []).append(now)
            return 0.0

    def good(self, address: str) -> None:
        """Forget the guesses of an address that has come in."""
        with self._lock:
            self._failed.pop(address, None)


class Access:
    """The door of one page; its keys last as long as the process.

    Parameters
    ----------
    role : str
        ``server`` or ``site``: two pages of one machine must not share a cookie.
    names : sequence of str
        Every ``Host`` under which the page answers; others are refused, so that no foreign name can be made to point here.
    password : Path, optional
        The password file. None: the page is for this machine alone.
    link : bool
        Without a password, whether a visitor needs the printed link.
    token : Path, optional
        File with the bearer token of ``/metrics``.
    secure : bool
        Whether browsers reach it by TLS.

    Raises
    ------
    Refused
        E_KEY_FILE: a password or token file that is missing, or that others may read.
    """

    def __init__(
        self,
        role: str,
        names: list[str],
        *,
        password: Path | None = None,
        link: bool = False,
        token: Path | None = None,
        secure: bool = False,
    ) -> None:
        self.role, self.names, self.password, self.token, self.secure = role, frozenset(name.lower() for name in names), password, token, secure
        self.link = secrets.token_urlsafe(24) if link and password is None else ""
        self.guesses = Guesses()
        self._key = secrets.token_bytes(32)
        self._ended: set[str] = set()
        port = "".join(name.rpartition(":")[2] for name in names[:1] if name.rpartition(":")[2].isdigit())
        self.cookie = f"{'__Host-' if secure else ''}fedild_{role}{port}"
        if password is not None:
            read_private(password)
        if token is not None and len(_token(token)) < FEWEST_TOKEN_CHARACTERS:
            raise Refused(f"a bearer token has {FEWEST_TOKEN_CHARACTERS} characters or more", code="E_KEY_FILE")

    @property
    def is_open(self) -> bool:
        """Whether everybody on this machine may look."""
        return self.password is None and not self.link

    def new_cookie(self, *, entered: bool) -> tuple[Session, str]:
        """Return a new session and its cookie's value."""
        session = Session(secrets.token_urlsafe(16), entered)
        return session, str(self._signer().dumps([session.nonce, entered]))

    def session(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None when it is not ours, too old, or ended."""
        try:
            nonce, entered = self._signer().loads(cookie, max_age=SESSION_S)
        except (BadSignature, ValueError, TypeError):
            return None
        return None if nonce in self._ended else Session(str(nonce), bool(entered))

    def end(self, session: Session) -> None:
        """Let a session's cookie count for nothing from now on."""
        self._ended.add(session.nonce)

    def form_token(self, session: Session) -> str:
        """Return what each form of this session must bring."""
        return hmac.digest(self._key, f"form {session.nonce}".encode(), "sha256").hex()

    def is_form_token(self, session: Session, token: str) -> bool:
        """Say whether a form came from a page of this session."""
        return hmac.compare_digest(self.form_token(session).encode(), token.encode())

    def is_password(self, password: str) -> bool:
        """Say whether this is the page's password."""
        return self.password is not None and is_password(self.password, password)

    def is_link(self, key: str) -> bool:
        """Say whether this is the key of the printed link."""
        return bool(self.link) and hmac.compare_digest(self.link.encode(), key.encode())

    def is_bearer(self, header: str) -> bool:
        """Say whether an Authorization header brings the token of ``/metrics``."""
        kind, _, brought = header.partition(" ")
        return self.token is not None and kind.lower() == "bearer" and hmac.compare_digest(_token(self.token).encode(), brought.strip().encode())

    def _signer(self) -> URLSafeTimedSerializer:
        # A new password ends every session that came in by the old one.
        kept = b"" if self.password is None or not self.password.exists() else self.password.read_bytes()
        return URLSafeTimedSerializer(self._key, salt=f"fedild {self.role} {sha256(kept)}")


def _token(path: Path) -> str:
    return read_private(path).decode("utf-8", "replace").strip()
