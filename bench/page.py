"""How long a browser takes to show the page of a large run, and one more round of it: `python -m bench.page`."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from server.page.app import server_page
from server.page.facts import entries_of, run_facts
from tests.client.sites import table_experiment
from tests.server.page.folders import line_of, ordered, server_of, written
from tests.shared_models.page.shown import FLAGS, chromium, listening


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--sites", type=int, default=20)
    options.add_argument("--repeat", type=int, default=7)
    given = options.parse_args()
    names = [f"hospital-{number:02d}" for number in range(1, given.sites + 1)]
    lines = [line_of(number, names, missing=[names[number % given.sites]] if number % 7 == 0 else []) for number in range(1, given.rounds + 1)]
    with tempfile.TemporaryDirectory() as folder:
        server = server_of(Path(folder), names)
        run = ordered(server, table_experiment(rounds=given.rounds + 1, quorum=3), names)
        written(server, run, lines, rounds=given.rounds + 1)
        entry = next(one for one in entries_of(server) if one.run == run)
        began = time.perf_counter()
        run_facts(server, entry)
        facts_s = time.perf_counter() - began
        loads, sizes, elements, updates = [], 0, 0, []
        with listening(lambda access: server_page(server, access, look_s=0.1), role="server") as (url, _), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            for number in range(given.repeat):
                written(server, run, lines, rounds=given.rounds + 1, changed=f"{number}")  # drawn anew, not kept from the last time
                page = browser.new_page(bypass_csp=True, viewport={"width": 1280, "height": 900})
                page.goto(f"{url}/runs/{run}", wait_until="load")
                page.wait_for_function("performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
                loads.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000)
                sizes = page.evaluate("performance.getEntriesByType('navigation')[0].decodedBodySize")
                elements = page.evaluate("document.querySelectorAll('*').length")
                page.wait_for_selector("[data-live=on]")
                began = time.perf_counter()
                written(server, run, [*lines, line_of(given.rounds + 1, names)], rounds=given.rounds + 1, changed=f"{number} more")
                page.wait_for_function(f"document.querySelector('[data-part=news]').textContent.includes('Round {given.rounds + 1} of')")
                page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
                updates.append(time.perf_counter() - began)
                page.close()
            browser.close()
    print(f"{given.rounds} rounds x {given.sites} sites, {given.repeat} loads: median (range)")
    print(f"page loaded and drawn      {_shown(loads)} s")
    print(f"one more round, until seen {_shown(updates)} s (of which up to 0.1 s is the wait for the next look)")
    print(f"reading and drawing at the server, once {facts_s:.2f} s; {sizes / 1e3:.0f} kB of HTML; {elements} elements")
    print(json.dumps({"load_s": loads, "update_s": updates, "facts_s": facts_s, "bytes": sizes, "elements": elements}))


def _shown(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
