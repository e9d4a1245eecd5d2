"""The live pages in a real browser, over a real run: rounds of real workers, an approval that is clicked, a site that drops and returns."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from client.approval import Approvals
from client.guards import Guards
from client.identity import make_site
from client.page.app import site_page
from client.site import Site
from client.worker import Worker
from server.app import run_experiment
from server.page.app import server_page
from server.queue import Queue
from server.runs import roster, rounds
from server.runs.rounds import RoundRecord
from server.runs.standing import Standing
from shared_models.experiment import Experiment
from tests.client.sites import table_experiment, table_site
from tests.server.loop_grid import LoopGrid
from tests.server.page.folders import ordered, server_of
from tests.shared_models.page.shown import FLAGS, chromium, listening

SITES = ["alpha", "beta", "delta", "gamma"]
WAIT_MS = 60_000.0
PLACE = Path(os.environ.get("FEDILD_SCREENSHOTS", "/nonexistent"))
"""Where pictures go for a person to look at; without the variable none are kept."""


class Run:
    """A run of four real workers that goes on by one round whenever the test says so. The site delta asks a person first."""

    def __init__(self, folder: Path) -> None:
        self.server = server_of(folder, SITES)
        self.run = ordered(self.server, table_experiment(rounds=4, quorum=3, deadline_s=30.0), SITES)
        tomls = {name: table_site(folder / "sites", name, seed=place) for place, name in enumerate(SITES)}
        self.delta = tomls["delta"].parent
        make_site(self.delta, "delta")
        workers = {name: Worker(Site.load(toml)) for name, toml in tomls.items()}
        workers["delta"].guards = Guards.of(self.delta, workers["delta"].site.workspace)
        self.grid = LoopGrid({name: worker.handle for name, worker in workers.items()})
        self._go, self._done = threading.Semaphore(0), queue.Queue[int]()
        self._thread = threading.Thread(target=self._work)
        self._failed: BaseException | None = None

    def __enter__(self) -> Run:
        Queue(self.server.path / "queue.db").change(self.run, state="running")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go.release(100)
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._failed is not None:
            raise self._failed

    def round(self) -> int:
        """Let one round be worked on and return its number when it is done."""
        self._go.release()
        return self._done.get(timeout=60)

    def end(self) -> None:
        self._go.release()
        self._thread.join(60)

    def connect(self, name: str, here: bool) -> None:
        node = next(number for number, site in self.grid.names.items() if site == name)
        (self.grid.connected.add if here else self.grid.connected.discard)(node)

    def _work(self) -> None:
        folder = self.server.run_folder(self.run)
        experiment = Experiment.from_json((folder / "experiment.json").read_text())
        try:
            with Standing(folder, experiment=experiment, sites=SITES, flower_run=1) as standing:

                def told(record: RoundRecord, at: Any) -> None:
                    standing.told(record, at)
                    self._done.put(record.round)
                    self._go.acquire()

                self._go.acquire()
                run_experiment(self.grid, experiment, folder, sites=SITES, on_round=told, waiting=standing.waiting, durable=False)
            Queue(self.server.path / "queue.db").change(self.run, state="finished", round=4)
        except BaseException as error:
            self._failed = error


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield found
        found.close()


def keep(page: Page, name: str) -> None:
    if PLACE.is_dir():
        page.screenshot(path=PLACE / f"{name}.png", full_page=True)


def watched(browser: Browser, said: list[str], asked: list[str]) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light").new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    return page


def test_a_real_run_is_followed(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "REJOIN_S", 0.3)
    monkeypatch.setattr(roster, "LOOK_S", 0.05)
    said: list[str] = []
    asked: list[str] = []
    with ExitStack() as stack:
        run = stack.enter_context(Run(tmp_path))
        url, _ = stack.enter_context(listening(lambda access: server_page(run.server, access, look_s=0.1), role="server"))
        site_url, door = stack.enter_context(listening(lambda access: site_page(run.delta, access, look_s=0.1), role="site", link=True))

        page = watched(browser, said, asked)
        page.goto(url)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        keep(page, "overview")
        page.get_by_role("link", name=run.run).click()
        news, dots = page.get_by_role("status"), page.locator("[data-part=curves] circle")

        def state(name: str) -> Any:
            return page.locator(f"tr[data-site={name}] .state")

        expect(news).to_contain_text("No round is done yet")
        expect(state("beta")).to_have_text("expected")
        site = watched(browser, said, asked)
        site.goto(f"{site_url}/enter?key={door.link}")
        expect(site.get_by_text("Nothing waits.")).to_be_visible()

        # Three sites take part; the fourth has to be approved there first, and says so while its page is open.
        assert run.round() == 1
        expect(news).to_contain_text("Round 1 of 4 done, without delta", timeout=WAIT_MS)
        expect(state("delta")).to_have_text("refused")
        expect(page.locator("[data-part=rounds] code")).to_have_text("E_NOT_APPROVED")
        drawn = dots.count()
        assert drawn >= 4
        card = site.locator(".card")
        expect(card).to_be_visible(timeout=WAIT_MS)
        card.locator("summary").focus()
        site.keyboard.press("Enter")
        expect(card.get_by_text("[federation]")).to_be_visible()
        keep(site, "site-waiting")
        site.get_by_role("button", name="Approve and sign").click()
        expect(site.locator("[data-part=decided] .state")).to_have_text("approved")
        assert [one.decision for one in Approvals(run.delta).entries()] == ["approved"]

        # The approval counts from the next round on; the curve has grown by itself.
        page.locator("summary").first.click()
        assert run.round() == 2
        expect(state("delta")).to_have_text("joined", timeout=WAIT_MS)
        expect(news).to_contain_text("Round 2 of 4 done")
        assert dots.count() > drawn
        assert page.locator("details[open]").count() == 1, "what a reader has opened stays open"
        expect(page.locator("details[open] tbody tr")).to_have_count(2)
        expect(site.get_by_text("1 message left so far")).to_be_visible(timeout=WAIT_MS)
        keep(site, "site-left")

        run.connect("beta", False)
        assert run.round() == 3
        expect(state("beta")).to_have_text("dropped", timeout=WAIT_MS)
        keep(page, "run-dropped")
        run.connect("beta", True)
        assert run.round() == 4
        expect(state("beta")).to_have_text("returned", timeout=WAIT_MS)
        (run.server.run_folder(run.run) / "report.html").write_text("<!DOCTYPE html><title>r</title><style>p{margin:7px}</style><p>the report</p>")
        run.end()
        expect(page.locator("[data-live]")).to_have_text("This run is over", timeout=WAIT_MS)
        expect(page.locator("[data-part=facts] .state").first).to_have_text("finished")

        for width, scheme in ((1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")):
            for shown, name in ((page, "run"), (site, "site")):
                shown.set_viewport_size({"width": width, "height": 800})
                shown.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                assert shown.evaluate("document.documentElement.scrollWidth") <= width, f"{name} at {width}"
                keep(shown, f"{name}-{width}-{scheme}")
        page.get_by_role("link", name="Report of run").click()
        assert page.evaluate("getComputedStyle(document.querySelector('p')).marginTop") == "7px"
        site.get_by_role("button", name="Log out").click()
        expect(site.get_by_text("Open the link")).to_be_visible()
        keep(site, "login")

        # Without scripts the page is whole.
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto(f"{url}/runs/{run.run}")
        assert "Round 4 of 4 done" in plain.inner_text("main")
        for context in browser.contexts:
            context.close()
    assert not said
    assert asked
    assert all(one.startswith((url, site_url)) for one in asked), "nothing is loaded from elsewhere"
