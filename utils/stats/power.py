"""How many seeds would probably decide what the present ones leave open. Never loads torch."""

import numpy as np
from scipy import stats

from utils.stats.intervals import FEWEST_SEEDS

MOST_SEEDS = 50  # beyond, only "more than 50" is said: the present estimates are too rough for more
POWER = 0.8


def seeds_needed(effect: float, sd: float, now: int, tail: float, degrees_lost: int = 1) -> int | None:
    """The smallest number of seeds, above `now` and at least 3, at which a t-test finds `effect` with 80% probability.

    `effect` and `sd`, the mean over seeds and its standard deviation for one seed, have the same unit and are taken
    for the true values: so the result is rough. `tail` is the test's error rate on one side: half the level of a
    two-sided test. With n seeds the statistic is noncentral t with n - `degrees_lost` degrees of freedom and the
    noncentrality |effect| sqrt(n) / sd. None for more than 50 seeds, or where `sd` is not positive. Source: Cohen
    (1988), Statistical power analysis for the behavioral sciences, chapter 2. Assumes normal values.
    """
    if not sd > 0:
        return None
    n = np.arange(max(FEWEST_SEEDS, now + 1), MOST_SEEDS + 1)
    degrees = n - degrees_lost
    power = stats.nct.sf(stats.t.isf(tail, degrees), degrees, np.abs(effect) * np.sqrt(n) / sd)
    enough = n[power >= POWER]
    return int(enough[0]) if len(enough) else None
