"""Server folders with runs, made by the server's own code."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from server.folder import ServerFolder, init_folder
from server.orders import order_run
from server.queue import Queue
from server.sites import SiteEntry
from shared_models.core.files import write_json
from shared_models.experiment import Experiment


def server_of(folder: Path, sites: list[str]) -> ServerFolder:
    server = init_folder(folder / "server", name="lungs", address="fl.example.org:8443")
    write_json(server.path / "sites.json", {name: asdict(SiteEntry(state="approved", fingerprint="ab-cd", node_id="1")) for name in sites})
    return server


def ordered(server: ServerFolder, experiment: Experiment, sites: list[str]) -> str:
    toml = server.path / "experiment.toml"
    document = {key: value for key, value in json.loads(experiment.to_json()).items() if value is not None}
    toml.write_text(tomli_w.dumps(json.loads(json.dumps(document), object_hook=lambda one: {k: v for k, v in one.items() if v is not None})))
    return order_run(server, str(toml), roster=sites, settings=[])


def line_of(number: int, sites: list[str], *, missing: list[str] | None = None, **more: Any) -> dict[str, Any]:
    gone = missing or []
    records = {
        name: {
            "num_cases": 0 if name in gone else 30 + place,
            "steps": 1,
            "metrics": {} if name in gone else {"train_loss": 1.0 / number + place / 50, "val_auroc_macro": 1 - 0.5 / number - place / 100},
            "refused": "E_NO_REPLY" if name in gone else None,
            "bytes": 0 if name in gone else 4000,
            "norm": 0.1,
            "staleness": 0,
            "place": 0,
        }
        for place, name in enumerate(sites)
    }
    line = {"round": number, "wall_s": 2.5, "sites": records, "missing": gone, "late": [], "degraded": bool(gone), "norm": 0.3, "attempt": 1}
    return {**line, "bytes": 4000 * (len(sites) - len(gone)), "bytes_down": 4000 * len(sites), "phase": "training", "total": None, **more}


def written(server: ServerFolder, run: str, lines: list[dict[str, Any]], *, rounds: int, state: str = "running", **standing: Any) -> None:
    folder = server.run_folder(run)
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = lines[-1]["round"] if lines else 0
    write_json(folder / "run.json", {"status": "running", "code": "", "round": done, "rounds": rounds, "waiting_for": [], **standing})
    Queue(server.path / "queue.db").change(run, state=state)
