"""The charts of report.html: SVG that holds no style, can be switched by model, and says where its epochs lie."""

import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest
from made_html import ATTACKS, results_of
from made_records import make_record

from utils.figures.interactive import draw_charts


@pytest.fixture(scope="module")
def results():
    models = [ATTACKS[0], "SimpleCNN"]
    results = results_of(models)
    results.runs["SimpleCNN"] = [make_record("SimpleCNN", s, accuracy=0.9, overfits_from=6) for s in range(3)]
    return results


@pytest.fixture(scope="module")
def charts(results):
    return draw_charts(results)


def elements(svg):
    return list(ElementTree.fromstring(svg).iter())


def test_every_part_of_the_page_has_its_chart(charts):
    names = {"cost-0", "cost-1", "cost-2", "curves-loss", "curves-accuracy", "verdict-0", "verdict-axis"}
    assert charts.svgs.keys() == names | {"flow-0", "flow-1"}
    assert charts.looks == {ATTACKS[0]: (0, "●"), "SimpleCNN": (1, "■")}


def test_a_chart_has_a_name_and_text_and_no_style(charts):
    for name, svg in charts.svgs.items():
        found = elements(svg)
        assert found[0].get("role") == "img" and found[0].get("aria-label") and found[0].get("viewBox"), name
        assert not any("style" in element.attrib or element.tag == "style" for element in found), name
    assert "training time per epoch (s)" in [element.text for element in elements(charts.svgs["cost-1"])]


def test_ids_are_those_of_one_chart_and_what_is_used_is_there(charts):
    for name, svg in charts.svgs.items():
        ids = {element.get("id") for element in elements(svg)} - {None}
        assert all(identity.startswith(f"{name}-") for identity in ids)
        used = {
            value.rpartition("#")[2].rstrip(")") for e in elements(svg) for value in e.attrib.values() if "#" in value
        }
        assert {value for value in used if value.startswith(name)} <= ids


def test_the_lines_of_each_model_can_be_switched(charts, results):
    """A line for the mean and one for each seed on validation, and a mean on training images."""
    for number in range(2):
        classes = [e.get("class") for e in elements(charts.svgs["curves-accuracy"]) if e.get("class")]
        assert classes.count(f"m{number} val") == 1 + 3 + 1 and classes.count(f"m{number} fit") == 1 + 1  # and a band
    word = results.overfitting["SimpleCNN"].word
    assert word == "overfits" and "m1 onset" in charts.svgs["curves-loss"]
    assert "m0 onset" not in charts.svgs["curves-loss"] and "onset" not in charts.svgs["curves-accuracy"]


def test_it_says_where_the_epochs_lie(charts):
    """The points of a mean, which are drawn as marks, lie at even steps from the first to the last."""
    root = ElementTree.fromstring(charts.svgs["curves-loss"])
    width = float(root.get("viewBox").split()[2])
    mean = next(g for g in root.iter("g") if g.get("class") == "m0 val" and len(list(g.iter("use"))) == 15)
    marks = [float(use.get("x")) / width for use in mean.iter("use")]
    np.testing.assert_allclose(
        marks, np.linspace(float(root.get("data-first")), float(root.get("data-last")), 15), atol=1e-3
    )


def test_a_run_of_one_epoch_is_a_point(results):
    runs = {"SimpleCNN": [make_record("SimpleCNN", 3, epochs=1)]}
    svg = draw_charts(dataclasses.replace(results, runs=runs, timing=None)).svgs["curves-loss"]
    points = [g for g in ElementTree.fromstring(svg).iter("g") if g.get("class") == "m0 val" and list(g.iter("use"))]
    texts = [text.text for text in ElementTree.fromstring(svg).iter("text")]
    assert len(points) == 1 and "1" in texts and "0.5" not in texts
