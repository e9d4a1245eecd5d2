"""Our two backends as whole processes: ``python -m bench.arms pool|ray FOLDER PROCESSES``. Everything a start costs is in it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def main(backend: str, folder: Path, processes: int) -> None:
    """Run the experiment of `folder` on a backend and leave the run in ``<folder>/run-<backend>``."""
    text = (folder / "experiment.json").read_text()
    sites = [site.resolve() for site in sorted(folder.glob("*/site.toml"))]
    out = folder / f"run-{backend}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if backend == "ray":
        from shared_models.experiment import Experiment
        from sim.federation import federate_on_ray

        federate_on_ray(Experiment.from_json(text), sites, out, processes=processes)
        return
    from sim.pool import Pool

    with Pool(processes, experiment=text) as pool:  # its processes import torch while this one imports Flower
        from shared_models.experiment import Experiment
        from sim.federation import federate_in_pool

        federate_in_pool(Experiment.from_json(text), sites, out, pool)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
