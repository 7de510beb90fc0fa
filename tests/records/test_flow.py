"""Gradient flow thinned for the records."""

import numpy as np
import pytest
from made_records import make_record

from utils.records.flow import on_main_path, thin

NAMES = ["stem.0.weight", "blocks.0.shortcut.0.weight", "blocks.0.conv1.weight", "fc.weight"]


def test_shortcuts_lie_beside_the_main_path():
    assert on_main_path(NAMES).tolist() == [True, False, True, True]


def test_bins_never_cross_an_epoch_and_hold_quantiles():
    random = np.random.default_rng(0)
    norms, ratios = random.lognormal(size=(3 * 50, 4)), random.lognormal(size=(3 * 5, 4))
    arrays = thin(norms, ratios, NAMES, epochs=3)
    assert arrays["flow_norms"].shape == (60, 4, 3) and arrays["flow_update_ratios"].shape == (15, 4, 3)
    # 50 steps in 20 bins: ten of 3 steps, then ten of 2
    expected = np.quantile(norms[50:53, 2], [0.1, 0.5, 0.9])
    np.testing.assert_allclose(arrays["flow_norms"][20, 2], expected, rtol=1e-6)
    np.testing.assert_allclose(arrays["flow_epoch_norms"][1], np.median(norms[50:100], axis=0))
    np.testing.assert_allclose(arrays["flow_first_epoch_ratio"], np.median(norms[:50, 0] / norms[:50, 3]))


def test_zeros_and_infinities_pass_silently():
    norms = np.zeros((2, 4))
    arrays = thin(norms, norms, NAMES, epochs=1)
    assert np.isnan(arrays["flow_first_epoch_ratio"]) and not arrays["flow_norms"].any()


@pytest.mark.parametrize("epochs", [1, 3, 15])
def test_made_up_records_have_the_arrays_that_thin_makes(epochs):
    made = make_record("CNNWithResidual", epochs=epochs).arrays
    names = made["flow_weight_names"]
    norms = np.ones((epochs * 200, len(names)), dtype=np.float32)
    for name, array in thin(norms, norms, names, epochs).items():
        assert made[name].shape == array.shape and made[name].dtype == array.dtype, name
