"""Overfitting over seeds: worked by hand, against plain loops, and its error rates by simulation."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from utils.stats.overfitting import overfitting

FALLING = np.exp(-np.arange(30) / 5)


# Worked by hand

# Ten epochs: windows of 3, 8 in all, the last one after 5 earlier ones. The means of the log loss over the windows, for
# the middle seed: 3, 4/3, 0, 4/3, 3, 3.07, 1.81, 0.22. The other two seeds differ from it by 0.02 in the last 3 epochs.
LOGS = np.array([[5, 4, 0, 0, 0, 4, 5, *[0.22 + shift] * 3] for shift in (-0.02, 0, 0.02)])
FIT = np.array([[2, 2, 1, 1, 1, 1, 1, *[end] * 3] for end in (0.5, 0.6, 0.7)])


def test_by_hand():
    found = overfitting(np.exp(LOGS), FIT)
    # The third window is lowest by far, so that each seed's rises are 0.20, 0.22, 0.24, of variance 0.0004.
    # P: the seeds differ by 0, 0, 0, 0, 0, 1/3, 2/3 and 1 times their shift. Of the 15 pairs of windows without a
    # common epoch, 3 end in the sixth window, 4 in the seventh, 5 in the last, and all begin in one that has no shift.
    pooled = 0.0004 * (3 / 9 + 4 * 4 / 9 + 5) / 15
    half = 3.182 * math.sqrt((2 * 0.0004 + pooled) / 9)  # printed tables: t = 3.182 for 3 degrees of freedom
    assert np.log1p([found.rise.low, found.rise.estimate, found.rise.high]) == pytest.approx(
        [0.22 - half, 0.22, 0.22 + half], rel=1e-3
    )
    assert found.se == pytest.approx(half / 3.182) and found.rise.n == 3
    assert (found.lowest, found.kept) == (4, (4,))  # epochs 3 to 5
    # Fit loss falls by 0.5, 0.4, 0.3: mean 0.4, sd 0.1, t = 4.303 for 2 degrees, so by at least 0.15.
    assert found.word == "overfits" and found.fit_changes == pytest.approx((-0.5, -0.4, -0.3))
    risen = np.exp([0.20, 0.22, 0.24]) - 1
    assert found.val_changes == pytest.approx(risen)
    assert found.gap_growth.estimate == pytest.approx(risen.mean() + 0.4)
    assert found.gap_growth.low == pytest.approx(
        risen.mean() + 0.4 - 4.303 * statistics.stdev(risen + [0.5, 0.4, 0.3]) / math.sqrt(3), rel=1e-3
    )


def test_the_fit_loss_must_be_shown_to_fall():
    # Changes -0.5, -0.1, -0.05 by 0.217 on average, but with sd 0.247 the bound is 0.40 above 0.
    unsure = FIT + np.array([[0.0], [0.3], [0.25]]) * (np.arange(10) > 6)
    for fit_loss in (unsure, 1 / FIT, np.ones_like(FIT)):
        found = overfitting(np.exp(LOGS), fit_loss)
        assert found.word == "rises" and found.rise.low == pytest.approx(math.expm1(0.18663), rel=1e-3)


def test_the_other_words_by_hand():
    # The same curves backwards in their end: lower than the third window by 0.22.
    falling = LOGS - np.where(np.arange(10) > 6, 0.44, 0)
    found = overfitting(np.exp(falling), FIT)
    assert found.word == "none" and found.rise.high == pytest.approx(math.expm1(-0.22 + 0.03337), rel=1e-3)
    assert (found.lowest, found.kept) == (9, (9,))  # the last window is a candidate too
    close = LOGS - np.where(np.arange(10) > 6, 0.20, 0)
    found = overfitting(np.exp(close), FIT)
    assert found.word == "not decided" and found.rise.estimate == pytest.approx(math.expm1(0.02))
    assert (found.lowest, found.kept) == (4, (4, 9))  # the third window and the last, but none between them


def test_a_smaller_tail_widens_the_interval():
    found, wide = (overfitting(np.exp(LOGS), FIT, tail) for tail in (0.025, 0.025 / 3))
    t = [stats.t.isf(tail, 3) for tail in (0.025, 0.025 / 3)]
    halves = [np.log1p(f.rise.high) - np.log1p(f.rise.estimate) for f in (found, wide)]
    assert halves[1] / halves[0] == pytest.approx(t[1] / t[0]) and wide.rise.level == pytest.approx(1 - 0.05 / 3)
    assert wide.word == "rises"  # the fit loss is judged at the same tail: t(2) = 7.65, -0.4 + 0.44 > 0
    assert wide.gap_growth.low < found.gap_growth.low


# Against plain loops


def plain(val_loss, fit_loss, t_rise, t_fit):
    """The rule, loop by loop: word, log rise, low, high, lowest centre, kept centres."""
    S, T = len(val_loss), len(val_loss[0])
    w = max(3, T // 5)
    starts = range(T - w + 1)
    last, m = T - w, T - 2 * w + 1

    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    W = [[mean(math.log(val_loss[s][e]) for e in range(j, j + w)) for j in starts] for s in range(S)]
    F = [[mean(fit_loss[s][e] for e in range(j, j + w)) for j in starts] for s in range(S)]

    def weights(s, windows):
        others = [r for r in range(S) if r != s]
        O = {j: mean(W[r][j] for r in others) for j in starts}  # noqa: E741
        centred = {r: [W[r][j] - mean(W[r]) for j in starts] for r in others}
        squares = sum((centred[r][j] - mean(centred[q][j] for q in others)) ** 2 for r in others for j in starts)
        se = max(math.sqrt(squares / ((S - 2) * (len(starts) - 1)) / (S - 1)), 1e-12)
        lowest = min(O[j] for j in windows)
        raw = {j: math.exp(-(O[j] - lowest) / se) for j in windows}
        return {j: value / sum(raw.values()) for j, value in raw.items()}

    pairs = [(i, j) for i in starts for j in starts if j - i >= w]
    P = mean(statistics.variance([W[s][j] - W[s][i] for s in range(S)]) for i, j in pairs)

    def se(values):
        return math.sqrt((S - 1) * statistics.variance(values) + P) / S

    omega = [weights(s, range(m)) for s in range(S)]
    rises = [W[s][last] - sum(omega[s][j] * W[s][j] for j in range(m)) for s in range(S)]
    falls = [F[s][last] - sum(omega[s][j] * F[s][j] for j in range(m)) for s in range(S)]
    low = mean(rises) - t_rise * se(rises)
    high = mean(rises)
    for j in range(m):
        since = [W[s][last] - W[s][j] for s in range(S)]
        high = max(high, mean(since) + t_rise * se(since))
    fit_bound = mean(falls) + t_fit * statistics.stdev(falls) / math.sqrt(S)
    kept = []
    for j in starts:
        above = []
        for s in range(S):
            rest = weights(s, [i for i in starts if i != j])
            above.append(W[s][j] - sum(weight * W[s][i] for i, weight in rest.items()))
        if mean(above) - t_rise * se(above) <= 0:
            kept.append(j)
    rising = low > math.log(1.01)
    within = [j for j in starts if j < m or not rising]
    lowest = min(within, key=lambda j: mean(W[s][j] for s in range(S)))
    word = "not decided"
    if rising:
        word = "overfits" if fit_bound < 0 else "rises"
    elif high < math.log(1.02):
        word = "none"
    centre = 1 + (w - 1) // 2
    return word, mean(rises), low, high, lowest + centre, tuple(j + centre for j in kept if j in within)


def test_against_plain_loops():
    rng = np.random.default_rng(0)  # twice, a window that chose itself would be kept
    words = []
    for _ in range(60):
        seeds, epochs = int(rng.integers(3, 7)), int(rng.integers(10, 24))
        t, turn = np.arange(epochs), rng.uniform(0.3, 1.2) * epochs
        logs = np.exp(-t / 3) + rng.uniform(0, 0.04) * np.clip(t - turn, 0, None) - rng.choice([0, 0.02]) * t
        logs = logs + rng.choice([0.01, 0.05]) * rng.normal(size=(seeds, epochs)) + rng.normal(size=(seeds, 1))
        fit_loss = np.exp(-t / 9) + rng.choice([0.02, 0.5]) * rng.normal(size=(seeds, epochs))
        found = overfitting(np.exp(logs), fit_loss)
        word, *numbers, lowest, kept = plain(
            np.exp(logs).tolist(), fit_loss.tolist(), stats.t.isf(0.025, seeds), stats.t.isf(0.025, seeds - 1)
        )
        words.append(word)
        assert (found.word, found.lowest, found.kept) == (word, lowest, kept)
        assert np.log1p([found.rise.estimate, found.rise.low, found.rise.high]) == pytest.approx(numbers)
    counts = {word: words.count(word) for word in words}
    assert counts.keys() == {"overfits", "rises", "none", "not decided"} and min(counts.values()) >= 3


# What changes nothing, and what gives no verdict


def curves(rng, seeds=4, epochs=15, rise=0.03, sd=0.05):
    t = np.arange(epochs)
    logs = np.exp(-t / 3) + rise * np.clip(t - 8, 0, None) + sd * rng.normal(size=(seeds, epochs))
    return np.exp(logs), np.exp(-t / 5 + 0.1 * rng.normal(size=(seeds, epochs)))


def test_neither_the_order_of_seeds_nor_the_unit_of_the_loss_matters():
    rng = np.random.default_rng(1)
    for _ in range(20):
        val_loss, fit_loss = curves(rng)
        found, order = overfitting(val_loss, fit_loss), rng.permutation(4)
        shuffled = overfitting(val_loss[order], fit_loss[order])
        levels = rng.uniform(0.1, 10, (4, 1))  # a seed's level cancels from its own rise, and from the others' SE
        scaled = overfitting(1000 * val_loss, 1000 * fit_loss), overfitting(levels * val_loss, fit_loss)
        for other in (shuffled, *scaled):
            assert (other.word, other.lowest, other.kept) == (found.word, found.lowest, found.kept)
            assert [other.rise.estimate, other.rise.low, other.rise.high, other.se] == pytest.approx(
                [found.rise.estimate, found.rise.low, found.rise.high, found.se]
            )
        assert [shuffled.gap_growth.low, shuffled.gap_growth.high] == pytest.approx(
            [found.gap_growth.low, found.gap_growth.high]
        )


@pytest.mark.filterwarnings("error")
def test_the_order_of_the_checks():
    val_loss, fit_loss = curves(np.random.default_rng(2), seeds=3)
    broken, unequal = val_loss.copy(), [*val_loss[:2], val_loss[2, :9]]
    broken[1, 3] = math.nan
    short = slice(None), slice(0, 9)
    assert overfitting([*broken[:2], broken[2, :9]], [*fit_loss[:2], fit_loss[2, :9]]).word == "unequal lengths"
    assert overfitting(unequal, [*fit_loss[:2], fit_loss[2, :9]]).lengths == (9, 15)
    assert overfitting(broken[short][:2], fit_loss[short][:2]).word == "too few epochs"
    assert overfitting(val_loss[:, :10], fit_loss[:, :10]).word == "none"
    assert overfitting(broken[:2], fit_loss[:2]).word == "too few seeds"
    for bad in (math.nan, math.inf, 0.0, -1.0):
        broken[1, 3] = bad
        assert overfitting(broken, fit_loss).word == "undefined"
        assert (overfitting(val_loss, broken).word == "undefined") == (not math.isfinite(bad))
    for same in ([val_loss[0]] * 3, np.ones((3, 15))):
        found = overfitting(same, fit_loss)
        assert found.word == "undefined" and math.isnan(found.rise.estimate) and found.kept == ()


def test_one_or_two_seeds_are_described_without_bounds():
    logs = LOGS[:2]  # the lowest stretch, epochs 3 to 5, lies at 0; the last one at 0.20 and 0.22
    found = overfitting(np.exp(logs), FIT[:2])
    assert found.word == "too few seeds" and found.lowest == 4 and found.kept == ()
    assert found.rise.estimate == pytest.approx(math.expm1(0.21))
    assert found.fit_changes == pytest.approx((-0.5, -0.4))
    assert found.gap_growth.estimate == pytest.approx((math.expm1(0.20) + math.expm1(0.22)) / 2 + 0.45)
    assert math.isnan(found.rise.low) and math.isnan(found.gap_growth.low)
    to_the_end = overfitting([FALLING[:15]], [FALLING[:15]])
    assert (to_the_end.lowest, to_the_end.rise.estimate, to_the_end.gap_growth.estimate) == (14, 0, 0)


# How often it is wrong


def white(rng, shape):
    return rng.normal(size=shape)


def autocorrelated(rng, shape, correlation=0.8):
    shocks = rng.normal(size=shape)
    for epoch in range(1, shape[-1]):
        shocks[..., epoch] *= math.sqrt(1 - correlation**2)
        shocks[..., epoch] += correlation * shocks[..., epoch - 1]
    return shocks


def heavy_tailed(rng, shape):
    return rng.standard_t(3, size=shape)


def spikes(rng, shape):
    """One-sided: now and then a loss jumps up for an epoch."""
    return 0.3 * rng.normal(size=shape) + (rng.random(shape) < 0.1) * rng.exponential(4, size=shape)


def adversarial(rng, shape):
    """Correlation of 0.95, and an sd that grows ninefold over the run."""
    return autocorrelated(rng, shape, 0.95) * np.linspace(0.25, 2.25, shape[-1])


ONE_PERCENT = math.log(1.01)
NOISES = [white, autocorrelated, heavy_tailed, spikes, adversarial]


def mean_curve(shape, epochs, rise):
    """A true log loss whose last window lies `rise` above its lowest one, on the scale of windows."""
    t, w = np.arange(epochs), max(3, epochs // 5)
    turn = round(0.6 * epochs)
    if shape == "flat":  # all earlier windows are equally low
        return np.where(t >= epochs - w, rise, 0.0)
    # Scale the rise after the turn so that the last window is as high as wanted.
    fall, ramp = 0.6 * np.exp(-t / 3), np.clip(t - turn, 0, None) / epochs
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        curve = fall + middle * ramp
        low, high = (middle, high) if true_rise(curve, w) < rise else (low, middle)
    return curve


def true_windows(curve, w):
    return np.convolve(curve, np.ones(w) / w, "valid")


def true_rise(curve, w):
    windows = true_windows(curve, w)
    return windows[-1] - windows[:-w].min()


def rates(noise, shape, seeds, epochs, sd, rise=ONE_PERCENT, count=5000):
    """Shares of `count` simulated models: called rising; interval covers the rise; the lowest window is kept."""
    rng = np.random.default_rng([seeds, epochs, NOISES.index(noise)])
    w, curve = max(3, epochs // 5), mean_curve(shape, epochs, rise)
    lowest = int(true_windows(curve, w)[:-w].argmin()) + 1 + (w - 1) // 2
    true = math.expm1(true_rise(curve, w))
    fit_loss = np.tile(FALLING[:epochs], (seeds, 1)) * (1 + 0.01 * np.arange(seeds)[:, None])
    found = [overfitting(np.exp(curve + sd * errors), fit_loss) for errors in noise(rng, (count, seeds, epochs))]
    called = np.mean([each.word in ("overfits", "rises") for each in found])
    covered = np.mean([each.rise.low <= true <= each.rise.high for each in found])
    return called, covered, np.mean([lowest in each.kept for each in found])


@pytest.mark.parametrize("noise", [white, adversarial])
def test_false_alarms_are_rare(noise):
    called, *_ = rates(noise, "flat", 3, 15, 0.05, count=400)
    assert called <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_a_real_rise_is_found():
    called, covered, kept = rates(white, "vee", 6, 15, 0.05, rise=math.log(1.2), count=200)
    assert called > 0.97 and covered > 0.9 and kept > 0.92
    assert rates(white, "vee", 3, 15, 0.05, rise=math.log(1.05), count=200)[0] < 0.3  # the test has something to find


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 4, 6, 10])
@pytest.mark.parametrize("noise", NOISES)
def test_false_alarms_and_coverage(noise, seeds):
    """At a true rise of 1%, on the verge of an alarm; 5% plus three standard errors of the simulation."""
    count = 5000
    chance = 3 * math.sqrt(0.05 * 0.95 / count)
    for epochs, shape, sd in ((10, "flat", 0.05), (15, "flat", 0.15), (15, "vee", 0.02), (30, "vee", 0.05)):
        called, covered, kept = rates(noise, shape, seeds, epochs, sd, count=count)
        told = f"{noise.__name__}, {seeds} seeds, {epochs} epochs, {shape}, {sd}: {called:.3f} {covered:.3f} {kept:.3f}"
        print(told)
        assert called <= 0.05 + chance, told
        assert covered >= (0.93 if noise is adversarial else 0.95) - chance, told
        assert kept >= 0.95 - chance, told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "rise", "power"), [(3, 0.05, 0.14), (3, 0.10, 0.68), (6, 0.05, 0.43), (6, 0.10, 0.99)]
)
def test_power(seeds, rise, power):
    """Of 15 epochs with white noise of 5%, by the rise from the lowest window to the last one."""
    called, covered, kept = rates(white, "vee", seeds, 15, 0.05, rise=math.log1p(rise), count=4000)
    assert called == pytest.approx(power, abs=0.03) and covered >= 0.94 and kept >= 0.96
