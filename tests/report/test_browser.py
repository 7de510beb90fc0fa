"""report.html in a browser: headless Chromium, by Playwright. What is shown is what the records say."""

import re
import shutil

import numpy as np
import pytest
from made_html import THREE, attacked, many_classes, numbered_images, page_of, results_of

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCHEMES, WIDTHS = ("light", "dark"), (360, 1440)


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def results():
    return results_of(seeds=4, step=0.09)


@pytest.fixture(scope="module")
def file(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(page_of(results, numbered_images(300)))
    return path


@pytest.fixture
def visit(chromium):
    """Opens a file; finds at the end that nothing was said in the console, and nothing but the file was asked for."""
    opened = []

    def open_(path, width=1200, scheme="light", **options):
        page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        page.set_default_timeout(60_000)
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector('#matrix td, #progress, #matrix-note:has-text("can\'t")')
        opened.append((page, said, asked, path.as_uri()))
        return page

    yield open_
    for page, said, asked, address in opened:
        assert said == [] and {url for url in asked if not url.startswith("data:")} == {address}
        page.close()


def unfold(page):
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")


def shown(page, selector):
    return [part for part in page.locator(selector).all() if part.is_visible()]


def cell(page, label, taken):
    return page.locator("#matrix tbody tr").nth(label).locator("td").nth(taken)


def counts_of(page):
    rows = page.locator("#matrix tbody tr").all()
    texts = [row.locator("td").all_inner_texts() for row in rows]
    return np.array([[int(text.split("\n")[0].replace(",", "")) for text in row] for row in texts])


def test_curves_are_switched_by_model_and_by_quantity(visit, file):
    page = visit(file)
    first = page.locator('.toggle[data-model="m0"]')
    assert shown(page, ".curve .m0") and not shown(page, ".curve .fit")
    first.click()
    assert first.get_attribute("aria-pressed") == "false"
    assert not shown(page, ".curve .m0") and shown(page, ".curve .m1")
    page.locator("#fit").press("Enter")
    assert shown(page, ".curve .fit.m1") and not shown(page, ".curve .fit.m0")
    assert page.get_by_role("img", name="Validation loss").is_visible()
    page.get_by_label("accuracy", exact=True).check()
    assert not page.get_by_role("img", name="Validation loss").is_visible()
    assert page.get_by_role("img", name="Validation accuracy").is_visible()


def test_hover_and_arrow_keys_tell_the_values_of_an_epoch(visit, file, results):
    page = visit(file)
    chart = page.locator(".curve").first
    box, svg = chart.bounding_box(), chart.locator("svg")
    first, last = (float(svg.get_attribute(f"data-{where}")) for where in ("first", "last"))
    chart.hover(position={"x": box["width"] * (first + (last - first) * 6 / 14), "y": box["height"] / 2})
    told = page.locator(".readout").first.inner_text()
    for records in results.runs.values():  # epoch 7
        assert f"{np.mean([record.history[6]['val_loss'] for record in records]):.4f}" in told
    page.locator(".readout input").first.press("ArrowLeft")
    assert page.locator(".readout output").first.inner_text() == "6"
    mean = np.mean([record.history[5]["val_loss"] for record in results.runs[THREE[1]]])
    assert f"{mean:.4f}" in page.locator(".readout").first.inner_text()


def test_a_table_is_sorted_by_a_click_and_by_a_key(visit, file, results):
    page = visit(file)
    table = page.locator("#models table")

    def names():
        return [re.sub(r"^\W+", "", text) for text in table.locator("tbody th").all_inner_texts()]

    parameters = {model: records[0].parameters for model, records in results.runs.items()}
    table.get_by_role("button", name="parameters").click()
    assert names() == sorted(parameters, key=parameters.get, reverse=True)
    assert table.locator('th[aria-sort="descending"]').count() == 1
    table.get_by_role("button", name="parameters").press("Enter")
    assert names() == sorted(parameters, key=parameters.get)
    table.get_by_role("button", name="model").click()
    assert names() == sorted(THREE)


def test_the_matrix_is_that_of_the_chosen_model_and_seed(visit, file, results):
    page = visit(file)
    records = results.runs[THREE[1]]
    assert (counts_of(page) == sum(record.counts_by_class for record in results.runs[THREE[0]])).all()
    page.locator("#model").select_option(THREE[1])
    assert (counts_of(page) == sum(record.counts_by_class for record in records)).all()
    page.locator("#seed").select_option("2")
    assert (counts_of(page) == records[2].counts_by_class).all()
    count, total = records[2].counts_by_class[3, 5], records[2].counts_by_class[3].sum()
    cell(page, 3, 5).hover()
    expected = f"cat taken for dog: {count} of {total} predictions, {100 * count / total:.1f}%."
    assert page.locator("#cell").inner_text() == expected


def test_the_difference_of_two_models_is_greyed_where_its_interval_covers_0(visit, file, results):
    from utils.findings.confusion import confusion_change

    page = visit(file)
    page.locator("#model").select_option(THREE[2])
    page.locator("#minus").select_option(THREE[0])
    change = confusion_change(results.runs[THREE[0]], results.runs[THREE[2]])
    assert change.unsure.any() and not change.unsure.all()
    for (label, taken), mean in np.ndenumerate(change.mean):
        one = cell(page, label, taken)
        assert ("unsure" in one.get_attribute("class")) == change.unsure[label, taken], (label, taken)
        assert float(one.inner_text().replace("−", "-")) == pytest.approx(100 * mean, abs=0.051)


def test_the_keyboard_alone_reaches_a_cell_and_its_images(visit, file, results):
    page = visit(file)
    page.locator("#minus").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#matrix') !== null")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert "bird taken for deer" in page.locator("#cell").inner_text()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    labels = results.runs[THREE[0]][0].arrays["test_labels"]
    predictions = np.array([record.arrays["test_predictions"] for record in results.runs[THREE[0]]])
    times = ((predictions == 4) & (labels == 2)).sum(axis=0)
    expected = sorted(np.flatnonzero(times), key=lambda image: (-times[image], image))
    told = page.locator("#gallery li").all_inner_texts()
    assert [int(re.search(r"no\. (\d+)", text)[1]) for text in told] == expected[:24]
    assert f"predicted deer with {times[expected[0]]} of 4 seeds" in told[0]
    assert f"{len(expected[:24])} of {len(expected)} shown" in page.locator("#gallery h3").inner_text()
    # The picture is that image: its first pixels hold its number.
    pixels = page.evaluate(
        "[...document.querySelector('#gallery canvas').getContext('2d').getImageData(0, 0, 1, 1).data]"
    )
    assert tuple(pixels[:2]) == divmod(expected[0], 256)


def test_everything_can_be_reached_by_tab_and_focus_is_seen(visit, file):
    page = visit(file)
    seen = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        tag, name, outline = page.evaluate(
            "[document.activeElement.tagName, document.activeElement.textContent.trim().slice(0, 30),"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert tag == "BODY" or outline in ("solid", "auto"), (tag, name)
        seen.add(tag)
        if tag == "BODY":
            break
    assert {"A", "BUTTON", "INPUT", "SELECT", "SUMMARY", "TD"} <= seen


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_serious_fault(visit, file, width, scheme):
    page = visit(file, width, scheme, bypass_csp=True)  # axe is a script that the page itself would refuse
    unfold(page)
    cell(page, 3, 5).click()
    found = axe.Axe().run(page).response["violations"]
    serious = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []


@pytest.mark.parametrize("width", [360, 768, 1440, 1920])
def test_nothing_is_wider_than_the_window(visit, file, width):
    page = visit(file, width)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_long_names_are_not_wider_than_the_window(visit, tmp_path):
    path = tmp_path / "report.html"
    results = results_of(["N" * 60, "M" * 60], 1, class_names=["C" * 60, "D", "E"])
    path.write_bytes(page_of(results, numbered_images(300)))
    page = visit(path, 360)
    unfold(page)
    cell(page, 0, 1).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_javascript_every_chart_is_named_and_no_control_is_shown(chromium, file):
    page = chromium.new_page(java_script_enabled=False)
    page.goto(file.as_uri())
    assert len(shown(page, "#gradients h3")) == len(THREE) and len(shown(page, "#curves h3.print")) == 2
    assert not shown(page, "select, .toggle, input")
    page.close()


def test_a_print_shows_every_model_and_unfolds_everything(visit, file):
    page = visit(file)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(shown(page, '[data-of="flow"]')) == len(THREE) and len(shown(page, '[data-of="curves"]')) == 2
    assert not page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count()


def test_names_that_attack_stay_text(visit, tmp_path):
    path = tmp_path / "report.html"
    path.write_bytes(page_of(attacked(), numbered_images(300)))
    page = visit(path)
    for label in range(6):
        cell(page, label, (label + 2) % 6).click()
    assert page.evaluate("window.hacked") is None and page.title() == "Results on MNIST"
    assert "<script>hacked = 1</script>" in page.locator("#matrix tbody th").all_inner_texts()


def test_a_page_of_120_classes_and_12_models_is_ready_within_5_seconds(visit, tmp_path):
    path = tmp_path / "report.html"
    path.write_bytes(page_of(many_classes(), numbered_images(2_400)))
    page = visit(path)
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable", {"timeDomain": "threadTicks"})  # the processor's time, whatever else runs
    page.reload()
    page.wait_for_selector("#matrix td")
    seconds = {metric["name"]: metric["value"] for metric in metrics.send("Performance.getMetrics")["metrics"]}
    assert 0.1 < seconds["TaskDuration"] < 5
    cell(page, 7, 9).click()
    assert "breed number 7 taken for breed number 9" in page.locator("#gallery h3").inner_text()
    assert page.locator("#matrix td").count() == 120 * 120
