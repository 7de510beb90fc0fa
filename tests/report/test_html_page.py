"""report.html: it says what the other pages say, holds nothing that can run, and is the same for the same records."""

import base64
import dataclasses
import hashlib
import json
import re
import zlib

import numpy as np
import pytest
from checkout_folder import CHECKOUT
from made_html import ATTACKS, TAG, Page, attacked, many_classes, numbered_images, page_of, results_of
from made_records import CIFAR_CLASSES, make_timing
from scipy import stats

from utils.figures.interactive import draw_charts
from utils.findings.sentences import accuracy_sentence
from utils.report import html_parts
from utils.report.definitions import DEFINITIONS
from utils.report.html import Setting, report_page
from utils.report.short import in_short


@pytest.fixture(scope="module")
def results():
    return results_of()


@pytest.fixture(scope="module")
def charts(results):
    return draw_charts(results)


@pytest.fixture(scope="module")
def page(results, charts):
    return Page(page_of(results, numbered_images(300), charts))


def data_in(page):
    return json.loads(page.scripts[0])


def test_it_says_in_short_and_of_each_contrast_what_the_other_pages_say(results, page):
    for sentence in in_short(results):
        assert sentence.text.replace("`", "") in page.text
    for verdict in results.accuracy_verdicts:
        assert accuracy_sentence(verdict) in page.text
    for model, records in results.runs.items():
        assert f"{records[0].parameters:,}" in page.text and model in page.text
    assert "python task.py --num-seeds 3" in page.text and "Test CPU 9000" in page.text


def test_the_forest_plot_has_its_numbers_in_a_table(results, page):
    first, *_ = results.accuracy_verdicts
    gain = [100 * (b.test_accuracy - a.test_accuracy) for a, b in zip(*list(results.runs.values())[:2], strict=True)]
    low, high = stats.t.interval(1 - 0.05 / first.m, 2, np.mean(gain), stats.sem(gain))
    seeds = ", ".join(f"{seed}: {value:.2f}" for seed, value in enumerate(gain))
    assert f"SimpleCNN − FCN{np.mean(gain):.2f}{low:.2f}{high:.2f}{seeds}" in page.text


def test_what_the_matrices_are_made_of_are_the_predictions(results, page):
    data = data_in(page)
    rows = np.frombuffer(zlib.decompress(base64.b64decode(data["packed"])), np.uint8).reshape(-1, data["total"])
    records = [record for of_model in results.runs.values() for record in of_model]
    assert (rows[0] == records[0].arrays["test_labels"]).all() and len(rows) == 1 + len(records)
    for row, record in zip(rows[1:], records, strict=True):
        assert (row + rows[0] == record.arrays["test_predictions"]).all()
    assert [(model["name"], model["seeds"]) for model in data["models"]] == [(m, [0, 1, 2]) for m in results.runs]
    assert data["t"] == {"3": pytest.approx(4.302653, abs=1e-6)}


def test_strings_that_users_choose_are_text():
    content = page_of(attacked(), numbered_images(300))
    page = Page(content)
    assert data_in(page)["classes"] == list(ATTACKS)
    assert len(page.having("script")) == 2 and len(page.having("style")) == 1
    for name in (*ATTACKS, TAG):
        assert " ".join(name.split()) in page.text, name
    assert [image["id"] for image in page.having("img")] == ["atlas"] and not page.having("marquee")
    assert b"<script>hacked" not in content and "49" not in [part.strip() for part in page.words]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_the_policy_allows_its_own_style_and_script_and_nothing_else(page):
    policy = next(
        meta["content"] for meta in page.having("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    )
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'" and allowed["img-src"] == "data:"
    for name, text in (("style-src", page.styles[0]), ("script-src", page.scripts[1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[name] == f"'sha256-{digest}'"
    # A style attribute would be refused, and an address elsewhere too.
    assert not [tag for tag, attributes in page.elements if "style" in attributes]
    addresses = [a.get(name) for _, a in page.elements for name in ("src", "href", "xlink:href") if a.get(name)]
    assert addresses and all(address.startswith(("#", "data:image/")) for address in addresses)


def test_no_two_elements_share_an_id_and_every_link_within_leads_somewhere(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] for _, attributes in page.elements if attributes.get("href", "").startswith("#")]
    named = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    assert links and {*(link[1:] for link in links), *named} <= set(ids)


def test_the_same_records_and_data_give_the_same_bytes(results, charts):
    again = page_of(results_of(), numbered_images(300))
    assert again == page_of(results, numbered_images(300), charts)


def test_without_images_it_says_so_and_has_their_numbers(results, charts):
    page = Page(page_of(results, None, charts))
    assert "weren't at hand" in page.text and not page.having("img") and re.search(r"no\. \d+ taken for", page.text)


def test_its_size_keeps_within_its_limits():
    """Of as many and as large runs as both tasks have, with images of noise, which nothing makes smaller."""
    results = results_of([f"Net{i}" for i in range(4)], 6, test_total=10_000)
    charts = draw_charts(results)
    assert len(page_of(results, None, charts)) < 1_500_000
    content = page_of(results, numbered_images(10_000), charts)
    assert 3_500_000 < len(content) < 4_000_000
    shown = len(data_in(Page(content))["images"])
    assert shown > 500


def test_of_very_many_predictions_it_keeps_the_first_seeds_and_says_so(results, charts, monkeypatch):
    monkeypatch.setattr(html_parts, "MOST_PACKED", len(data_in(Page(page_of(results, None, charts)))["packed"]) - 1)
    page = Page(page_of(results, None, charts))
    assert "have the first 1 seed, as many as fit" in page.text
    assert [model["seeds"] for model in data_in(page)["models"]] == [[0]] * 3


def test_a_hundred_and_twenty_classes_of_twelve_models():
    results = many_classes()
    for records in results.runs.values():  # their charts take long to draw
        for name in [name for name in records[0].arrays if name.startswith("flow_")]:
            del records[0].arrays[name]
    content = page_of(results, numbered_images(2_400))
    assert len(content) < 4_000_000
    page = Page(content)
    assert len(data_in(page)["classes"]) == 120 and len(page.having("table")) > 12


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_give_a_page_without_verdicts(seeds):
    text = Page(page_of(results_of(seeds=seeds, timed=False))).text
    assert "--num-seeds 3 runs" in text and "`" not in text
    assert "too few seeds" in text.lower() and "nan" not in re.sub(r"\w*nan\w+|\w+nan", "", text.lower())


def test_one_model_gives_a_page_too():
    page = Page(page_of(results_of(["FCN"], 3), numbered_images(300)))
    assert "No planned comparison" in page.text and "No image that several models" in page.text
    assert not [a for a in page.having("select") if a.get("id") == "minus"]


def test_without_a_finished_run_it_says_so():
    results = results_of()
    empty = type(results)(results.task, {}, left_out=["FCN-seed0.json: failed"])
    assert "No finished run" in Page(report_page(empty, {}, {}, Setting(""))).text


def test_times_come_with_their_machine_and_what_speaks_against_them(results, charts, page):
    assert "Times are medians, on one machine, in one session (Test CPU 9000, 2 threads" in page.text
    assert "busy" not in page.text
    timing = make_timing(list(results.runs))
    timing.models["SimpleCNN"]["train_step_seconds"] = [1.0, 1.0, 1.0, 1.2, 1.3, 1.3, 1.3]
    text = Page(page_of(dataclasses.replace(results, timing=timing), None, charts)).text
    assert "The machine was busy: between rounds" in text


def test_the_words_are_explained_as_in_the_readme():
    readme = " ".join((CHECKOUT / "README.md").read_text(encoding="utf-8").replace("*", "").split())
    for word, meaning in DEFINITIONS.items():
        assert f"{word}: {meaning}" in readme, word


def test_every_class_has_its_scores(results, page):
    for name in CIFAR_CLASSES:
        assert page.text.count(name) > len(results.runs)
