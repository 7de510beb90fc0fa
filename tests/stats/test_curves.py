"""Onsets, plateaus and roughness against plain-Python oracles and hand-worked values; error rates by simulation."""

import json
import math
import statistics

import numpy as np
import pytest
from checkout_folder import CHECKOUT
from scipy.stats import median_abs_deviation

from utils.stats.curves import accuracy_plateau, overfitting_onset, roughness, running_median

FALLING_FIT = [1 / epoch for epoch in range(1, 31)]
ORIGINAL = json.loads((CHECKOUT / "docs" / "original_report.json").read_text())["runs"]


def test_running_median_repeats_the_ends():
    assert running_median([9, 1, 5, 2, 8, 7]).tolist() == [9, 5, 2, 5, 7, 7]
    assert running_median([4, 1]).tolist() == [4, 1]
    assert running_median([]).tolist() == []


def plain_onset(val_loss, fit_loss):
    """The rule of the onset in loops, condition by condition."""
    n = len(val_loss)
    smoothed = [
        statistics.median([val_loss[max(i - 1, 0)], val_loss[i], val_loss[min(i + 1, n - 1)]]) for i in range(n)
    ]
    minimum = min(smoothed)
    best = smoothed.index(minimum)
    second = [val_loss[i] - 2 * val_loss[i + 1] + val_loss[i + 2] for i in range(1, n - 2)]
    center = statistics.median(second)
    sigma = 1.4826 * statistics.median([abs(value - center) for value in second]) / math.sqrt(6)
    stays_above = all(smoothed[i] - minimum > max(0.01 * minimum, 3 * sigma) for i in (n - 3, n - 2, n - 1))
    return best + 1 if stays_above and fit_loss[-1] < fit_loss[best] and best < n - 3 else None


def test_onset_follows_the_rule_on_random_curves():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(1500):
        n = int(rng.integers(10, 20))
        noise, turn, slope = rng.uniform(0.005, 0.05), rng.integers(3, n), rng.uniform(0, 0.1)
        epochs = np.arange(1, n + 1)
        val_loss = 0.6 + np.exp(-epochs) + slope * np.clip(epochs - turn, 0, None) ** 1.3 + noise * rng.normal(size=n)
        fit_loss = np.exp(-epochs / 9) + 0.3 * rng.normal(size=n)
        found.append(overfitting_onset(val_loss, fit_loss).epoch)
        assert found[-1] == plain_onset(val_loss.tolist(), fit_loss.tolist())
    assert 300 < sum(epoch is not None for epoch in found) < 1200  # both outcomes were put to the test


@pytest.mark.parametrize("rise, epoch", [(0.0102, 4), (0.0098, None)])
def test_onset_needs_a_rise_of_one_percent(rise, epoch):
    # Straight pieces: most second differences, and so sigma, are 0.
    val_loss = [1.4, 1.2, 1.1, 1.0, 1.0, 1.0, 1 + rise, 1 + rise, 1 + rise, 1 + rise]
    assert overfitting_onset(val_loss, FALLING_FIT[:10]).epoch == epoch


@pytest.mark.parametrize("rise, epoch", [(7.3, 3), (7.2, None)])
def test_onset_needs_a_rise_of_three_sigma(rise, epoch):
    # Values swing by +-d, so second differences are +-4d but for two at the step, their median is 0 and their
    # MAD 4d: 3 sigma = 3 * 1.4826 * 4d / sqrt(6) = 7.263d. The running median swings by -+d, on both levels.
    d = 0.001
    val_loss = [0.1 + d * (-1) ** i + (rise * d if i >= 6 else 0) for i in range(13)]
    assert overfitting_onset(val_loss, FALLING_FIT[:13]).epoch == epoch


def test_onset_needs_a_fit_loss_that_went_on_falling():
    val_loss = [1.4, 1.2, 1.1, 1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    assert overfitting_onset(val_loss, FALLING_FIT[:11]).epoch == 4
    assert overfitting_onset(val_loss, val_loss).epoch is None
    assert overfitting_onset(val_loss, [1.0] * 11).epoch is None


def test_onset_says_why():
    val_loss = [1.4, 1.2, 1.1, 1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    assert overfitting_onset(val_loss, FALLING_FIT[:11]).reason == "overfits from epoch 4"
    assert overfitting_onset(FALLING_FIT[:11], FALLING_FIT[:11]).reason == "none within 11 epochs"
    assert overfitting_onset(val_loss[:10], FALLING_FIT[:10]).epoch == 4
    assert overfitting_onset(val_loss[:9], FALLING_FIT[:9]).reason.startswith("too few epochs")
    with pytest.raises(ValueError):
        overfitting_onset(val_loss, FALLING_FIT[:10])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
@pytest.mark.filterwarnings("error")
def test_onset_and_plateau_of_curves_that_are_not_finite(bad):
    curve = [*FALLING_FIT[:12], bad]
    for onset in (overfitting_onset(curve, FALLING_FIT[:13]), overfitting_onset(FALLING_FIT[:13], curve)):
        assert onset.epoch is None and "not finite" in onset.reason
    assert accuracy_plateau(curve) is None and accuracy_plateau([]) is None
    assert overfitting_onset([], []).epoch is None


@pytest.mark.parametrize("model", ORIGINAL)
def test_onset_on_the_original_report(model):
    expected = {"CIFARCNN": 9, "CNN": 4}.get(model)
    val_loss, train_loss = np.array(ORIGINAL[model]["val_loss"]), np.array(ORIGINAL[model]["train_loss"])
    assert len(ORIGINAL) == 6 and len(val_loss) == 15
    assert overfitting_onset(val_loss, train_loss).epoch == expected
    assert overfitting_onset(1000 * val_loss, 1000 * train_loss).epoch == expected


def test_plateaus_on_the_original_report():
    """As the claims' rule in utils/report/claims.py tells them."""
    plateaus = {m: accuracy_plateau(np.array(ORIGINAL[m]["val_accuracy"]) / 100) for m in list(ORIGINAL)[3:]}
    assert plateaus == {"CIFARCNN": 9, "CNN": None, "CNN-Regularized": None}


def alarm_rate(runs, n, level=0.3, fall=0.3, noise=0.03, correlation=0.0, rise=0.0):
    """Share of `runs` simulated curves of `n` epochs with an onset: level + fall * exp(-t / 3) + rise + AR(1) noise.

    `rise` is in units of `noise` an epoch, from epoch 8 on.
    """
    rng = np.random.default_rng(11)
    shocks = rng.normal(scale=noise, size=(n, runs))
    series = [shocks[0]]  # each of the stationary sd `noise`
    for shock in shocks[1:]:
        series.append(correlation * series[-1] + math.sqrt(1 - correlation**2) * shock)
    t = np.arange(1, n + 1)
    curves = np.transpose(series) + level + fall * np.exp(-t / 3) + rise * noise * np.clip(t - 7, 0, None)
    return np.mean([overfitting_onset(curve, FALLING_FIT[:n]).epoch is not None for curve in curves])


@pytest.mark.parametrize("epochs", [15, 30])
def test_false_alarms_are_rare(epochs):
    assert alarm_rate(2000, epochs) < 0.02


def test_a_real_rise_is_found():
    assert alarm_rate(1000, 15, noise=0.01, rise=3) >= 0.95
    assert alarm_rate(1000, 15, noise=0.01, rise=0.3) < 0.9  # the test above has something to find


# The limits that the docstring of overfitting_onset states: epochs, fall, correlation, alarm rate.
STATED_ALARM_RATES = [
    (15, 0.0, 0.0, 0.025),
    (15, 0.3, 0.5, 0.03),
    (30, 0.3, 0.5, 0.11),
    (15, 0.0, 0.5, 0.13),
    (30, 0.0, 0.5, 0.17),
]


@pytest.mark.parametrize("epochs, fall, correlation, stated", STATED_ALARM_RATES)
def test_stated_alarm_rates(epochs, fall, correlation, stated):
    assert alarm_rate(1500, epochs, fall=fall, correlation=correlation) == pytest.approx(stated, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.002, 0.005, 0.03])
@pytest.mark.parametrize("level", [0.1, 1.0])
def test_stated_alarm_rates_hold_over_levels_and_noise(level, noise):
    runs = 3000
    for epochs, fall, correlation, stated in [(15, 0.3, 0, 0.003), (30, 0.3, 0, 0.006), *STATED_ALARM_RATES]:
        chance = 3 * math.sqrt(stated / runs)  # three standard errors
        assert alarm_rate(runs, epochs, level, fall, noise, correlation) < stated + chance
    if noise >= 0.005:
        assert alarm_rate(runs, 15, level, noise=noise, rise=3) > 0.99


def test_accuracy_plateau():
    rising = [0.50, 0.60, 0.70, 0.75, 0.752, 0.753, 0.754, 0.753, 0.754]
    assert accuracy_plateau(rising) == 4
    assert accuracy_plateau([0.70, 0.70, 0.70, 0.60, 0.60, 0.60]) == 1  # a later fall is no better
    assert accuracy_plateau([0.5, 0.6, 0.7, 0.8, 0.9]) is None  # it rose to the end
    assert accuracy_plateau([0.5, 0.6, 0.7, 0.896, 0.9, 0.9, 0.9]) == 4
    assert accuracy_plateau([0.5, 0.6, 0.7, 0.896, 0.9, 0.9]) is None  # two later epochs show no plateau
    assert accuracy_plateau([0.7, 0.7, 0.7, 0.9, 0.7, 0.7]) == 1  # one outlier is smoothed away


def test_accuracy_plateau_counts_half_a_point_exactly():
    # 25 of 5,000 images are 0.5 points, however the two fractions round.
    for count in range(3000, 4900):
        assert accuracy_plateau([count / 5000] * 3 + [(count + 25) / 5000] * 4) == 4
        assert accuracy_plateau([count / 5000] * 3 + [(count + 24) / 5000] * 4) == 1


def test_roughness_by_hand():
    # Second differences of the logs are 6, -2, 2, -2; without the first their sd is sqrt(16 / 3).
    assert roughness(np.exp([5, 0, 1, 0, 1, 0])) == pytest.approx(math.log(16 / 3) / 2)


def test_roughness_ignores_scale_and_trend():
    rng = np.random.default_rng(5)
    t = np.arange(15)
    smooth, rough = (np.exp(0.4 * np.exp(-t / 3) + sd * rng.normal(size=15)) for sd in (0.01, 0.2))
    logs = [math.log(value) for value in rough]
    second = [logs[i] - 2 * logs[i + 1] + logs[i + 2] for i in range(1, 13)]
    assert roughness(rough) == pytest.approx(math.log(statistics.stdev(second)))
    assert roughness(rough) > roughness(smooth)
    assert roughness(37 * rough) == pytest.approx(roughness(rough))
    assert roughness(rough * np.exp(-0.3 * t)) == pytest.approx(roughness(rough))


@pytest.mark.parametrize(
    "val_loss",
    [[], [1.0, 2.0, 1.5, 1.8], [0.7] * 9, 0.3 ** np.arange(12), [1, 2, 3, 2, 0, 1], [1, 2, -3, 2, 1, 1],
     [1, 2, math.nan, 2, 1, 1], [1, 2, math.inf, 2, 1, 1], [None] * 8],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_roughness_where_it_is_undefined(val_loss):
    assert math.isnan(roughness(val_loss))


def test_a_rise_that_noise_could_explain_is_told_with_its_numbers():
    """The loss rises by 10% at the end, but jumps about by as much between epochs."""
    t = np.arange(15)
    jumps = 0.05 * (-1.0) ** (t // 2)
    val_loss = np.exp(-t / 2) + 1 + 0.02 * np.clip(t - 8, 0, None) + jumps
    onset = overfitting_onset(val_loss, 1 / (1 + t))
    smoothed = running_median(val_loss)
    rise = smoothed[-3:].min() / smoothed.min() - 1
    assert onset.epoch is None and not onset.decided and rise > 0.01
    assert onset.reason == "a rise that noise could explain"
    assert onset.rise == pytest.approx(rise)
    sigma = 1.4826 * median_abs_deviation(np.diff(val_loss, 2)[1:]) / math.sqrt(6)
    assert onset.noise == pytest.approx(3 * sigma / smoothed.min()) and onset.noise > rise
    assert overfitting_onset(val_loss, t) == onset  # whether fit loss fell or not: two of its values say little here
    calm = overfitting_onset(val_loss - jumps, t)
    assert calm.decided and calm.reason == "none within 15 epochs" and math.isnan(calm.rise)
