"""The same work over a Ray cluster: one actor a processor, each with a worker process of its own, so that limits and deaths mean the same.

Every machine must see the files, the workspace and this code under the same paths. Ray's own ports are not protected: the cluster belongs on
a network of its own (docs.ray.io, "Security").
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

from client.processes import NO_LIMITS, TRIES, Limits, Lost, Processes
from shared_models.core.choices import look_up

A = TypeVar("A")
R = TypeVar("R")

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray's next version does; unset, it warns
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""Environment of Ray's processes: nothing reports home, and one thread each."""


class Workers(Protocol):
    """What spreads work: a context manager with the `map` of `client.processes.Processes`."""

    def __enter__(self) -> Workers: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def map(
        self,
        function: Callable[[A], R],
        items: Sequence[A],
        *,
        lost: Callable[[A, Lost], R],
        begun: Callable[[int], None] = ...,
        ended: Callable[[int, R], None] = ...,
    ) -> Iterator[R]:
        """Yield the result of each item in order."""
        ...


class _Actor:
    """Lives on the cluster; says ``(result, reason)``."""

    def __init__(self, limits: Limits) -> None:
        self.processes = Processes(1, limits=limits if limits != NO_LIMITS else Limits(seconds=float("inf")))

    def run(self, function: Callable[[A], R], item: A) -> tuple[Any, Lost | None]:
        return next(iter(self.processes.map(_Answered(function), [item], lost=_no_result)))


class _Answered:
    """A function whose result can be told from a loss; of this module, so that it can be sent to a process."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, item: Any) -> tuple[Any, None]:
        return self.function(item), None


def _no_result(item: Any, reason: Lost) -> tuple[None, Lost]:
    return None, reason


class RayProcesses:
    """A context manager over the processors of a Ray cluster, with the `map` of `client.processes.Processes`.

    A machine that is lost costs a repetition of what it worked on. A Ray that runs in this process already is used as it is.

    Parameters
    ----------
    count : int
        Processors of a cluster that is started here; a cluster at `address` gives all it has.
    limits : Limits, optional
        Of each item.
    address : str, optional
        Of a running cluster.
    """

    def __init__(self, count: int, *, limits: Limits = NO_LIMITS, address: str | None = None) -> None:
        self.count, self.limits, self.address = max(1, count), limits, address
        self.actors: list[Any] = []
        self.ours = False

    def __enter__(self) -> RayProcesses:
        os.environ.update(QUIET)
        import ray

        if not ray.is_initialized():
            where: dict[str, Any] = {"address": self.address} if self.address else {"num_cpus": self.count}
            path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self.ours = True
            ray.init(**where, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": QUIET | path})
        self.count = max(1, int(ray.cluster_resources().get("CPU", self.count)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import ray

        for actor in self.actors:
            ray.kill(actor)
        self.actors.clear()
        if self.ours:
            ray.shutdown()

    def map(
        self,
        function: Callable[[A], R],
        items: Sequence[A],
        *,
        lost: Callable[[A, Lost], R],
        begun: Callable[[int], None] = lambda index: None,
        ended: Callable[[int, R], None] = lambda index, result: None,
    ) -> Iterator[R]:
        """Yield ``function(item)`` in the order of `items`, or ``lost(item, reason)``; as `client.processes.Processes.map`."""
        import ray
        from ray.exceptions import RayActorError

        make = ray.remote(num_cpus=1)(_Actor)
        while len(self.actors) < min(self.count, len(items)):
            self.actors.append(make.remote(self.limits))
        waiting, tries, results, done = deque(range(len(items))), [0] * len(items), dict[int, R](), 0
        idle, busy = list(self.actors), dict[Any, tuple[int, Any]]()
        while done < len(items):
            while waiting and idle:
                index, actor = waiting.popleft(), idle.pop()
                begun(index)
                tries[index] += 1
                busy[actor.run.remote(function, items[index])] = (index, actor)
            (ready, *_), _ = ray.wait([*busy], num_returns=1)
            index, actor = busy.pop(ready)
            result: Any = None
            try:
                result, reason = ray.get(ready)
            except RayActorError:  # the machine, or the actor, is gone
                self.actors.remove(actor)
                self.actors.append(make.remote(self.limits))
                idle.append(self.actors[-1])
                if tries[index] < TRIES:
                    waiting.appendleft(index)
                    continue
                reason = "FAILED"
            else:
                idle.append(actor)
            results[index] = result if reason is None else lost(items[index], reason)  # pyright: ignore
            ended(index, results[index])
            while done in results:
                yield results.pop(done)
                done += 1


def _pool(count: int, *, limits: Limits = NO_LIMITS, address: str | None = None) -> Processes:
    del address
    return Processes(count, limits=limits)


BACKENDS: dict[str, Callable[..., Workers]] = {
    "pool": _pool,
    "ray": RayProcesses,
}
"""Name on the command line to where the work is done: processes of this machine, or a Ray cluster."""


def workers(backend: str, count: int, *, limits: Limits = NO_LIMITS, address: str | None = None) -> Workers:
    """Return the workers of a backend.

    Raises
    ------
    BadChoice
        There is no such backend.

    Examples
    --------
    >>> with workers("pool", 1) as some:
    ...     list(some.map(abs, [-1], lost=lambda item, reason: 0))
    [1]
    """
    return look_up(BACKENDS, backend, kind="backend")(count, limits=limits, address=address)
