"""What a life table says of few patients: intervals are put together until each tells of enough, or of nobody."""

from __future__ import annotations

import numpy as np

from shared_models.survival.life_table import LifeTable


def coarsened(table: LifeTable, least: int) -> LifeTable:
    """Return the table with intervals put together until events of each cause and losses in each are none or at least `least`.

    What is left at the end, in fewer, is cut off: the table ends before. To end an interval later moves nobody out of the risk set early: its
    events count at its end among those who were at risk at its start, as those of every interval of an agreed grid.

    Parameters
    ----------
    table : LifeTable
        On a grid, of all sites together.
    least : int
        Patients.

    Examples
    --------
    >>> table = LifeTable(np.arange(1.0, 5), np.array([20.0, 17, 14, 6]), np.array([[3.0, 3, 8, 1]]))
    >>> small = coarsened(table, 5)
    >>> small.times.tolist(), small.at_risk.tolist(), small.events[0].tolist()
    ([2.0, 3.0], [20.0, 14.0], [6.0, 8.0])
    """
    beyond = np.append(table.at_risk[1:], np.nan)
    lost = table.at_risk - table.events.sum(0) - beyond  # of the last interval nobody knows who stays
    kept, start, cells = [], 0, np.zeros(len(table.events) + 1)
    events = []
    for place in range(len(table.times)):
        cells = cells + np.append(table.events[:, place], np.nan_to_num(lost[place]))
        if ((cells == 0) | (cells >= least)).all() and table.at_risk[start] >= least:
            kept.append((place, start))
            events.append(cells[:-1])
            start, cells = place + 1, np.zeros(len(cells))
    ends, starts = np.array(kept, int).reshape(-1, 2).T
    return LifeTable(table.times[ends], table.at_risk[starts], np.array(events).reshape(len(kept), len(table.events)).T)
