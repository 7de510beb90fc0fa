"""A model may have any name that a person would give it: in files, in Markdown, in a task's declaration."""

import dataclasses
import html
import re

import pytest
from made_page import RECIPE, TASK, make_runs
from made_records import make_record, make_timing

from models import FCN
from utils.contrasts import audit
from utils.experiment import Contrast, Declared, Experiment
from utils.files import file_name
from utils.findings.results import Results
from utils.records.folder import publish, read_runs
from utils.report.conclusions import conclusions
from utils.report.page import results_text
from utils.report.readme import update_block
from utils.words import markdown

ODD = ("CNN w/o dropout", "a|b", "$$", "$5 to $6", "网络", "<b>", "*x*", "_x_", "[a](b.png)", "`c`", "x" * 300, "../up")


def named(*names):
    return dataclasses.replace(
        TASK, experiments=[Experiment(name, FCN, RECIPE) for name in names], contrasts=[Contrast(*names[:2])]
    )


@pytest.mark.parametrize("name", ["FCN", "CNNWithResidual-Regularized", "net_2.1", "_x", "-x", "x" * 60])
def test_a_plain_name_names_its_files(name):
    assert file_name(name) == name


def test_every_other_name_gets_a_slug_and_digits_of_its_own():
    files = [
        file_name(name) for name in (*set(ODD) - {"_x_"}, ".hidden", "all_models", "CNN w-o dropout", "a b", "a  b")
    ]
    assert len(set(files)) == len(files)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,60}-[0-9a-f]{8}", file) for file in files)
    assert file_name("CNN w/o dropout") == "CNN-w-o-dropout-dc970102" and file_name("网络") == "model-97b31b5d"


@pytest.mark.parametrize("name", ODD)
def test_a_record_of_a_model_of_any_name_is_written_and_read(tmp_path, name):
    record = make_record(name, 3, test_total=50)
    publish(tmp_path, record)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".npz"}
    found = read_runs(tmp_path, record.task, Declared({name: record.config_hash}))
    assert [record.model for record in found.runs[name]] == [name] and not found.left_out


@pytest.mark.parametrize("names", [("", "A"), (" ", "A"), ("A\nB", "C"), ("Net", "net"), ("a|B", "A|b")])
def test_names_that_cannot_be_told_apart_or_shown_are_refused(names):
    with pytest.raises(ValueError, match="two experiments have the same name|is named"):
        audit(named(*names))


def test_other_names_are_not_refused():
    audit(named(*ODD))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("FCN", "FCN"),
        ("CNNWithResidual-Regularized", "CNNWithResidual-Regularized"),
        ("net_2", "net_2"),
        ("3.5 M, deep!", "3.5 M, deep!"),
        ("a|b", r"a\|b"),
        ("$5 to $6", r"\$5 to \$6"),
        ("*x* `y`", r"\*x\* \`y\`"),
        ("_x_ y__z", r"\_x\_ y\_\_z"),
        ("[a](b)", r"\[a\](b)"),
        ("<b> &lt;", "&lt;b> &amp;lt;"),
        ("a\\b ~c~", r"a\\b \~c\~"),
        ("# x", r"\# x"),
        ("1. x", r"1\. x"),
    ],
)
def test_text_is_escaped_where_markdown_would_see_more_in_it(text, escaped):
    assert markdown(text) == escaped


def test_the_page_shows_names_letter_for_letter_and_links_pictures_by_their_files(tmp_path):
    names = ODD[:-2]
    classes = ("a|b", "$x$", "<i>", *"3456789")
    runs = make_runs(3, names[:5], class_names=classes) | make_runs(1, names[5:], class_names=classes)
    left_out = ["x.json: declares no model *z*"]
    results = Results(named(*names), runs, diverged={names[1]: [9]}, left_out=left_out, timing=make_timing(list(names)))
    text = results_text(results)
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    for rows in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1  # as many cells in each row
    for name in names:
        assert text.count(f"]({file_name(name)}_curves.png)") == 1
        assert f"<summary>{html.escape(name, quote=False)}:".replace("$", "&#36;") in text
        assert any(row.startswith(f"| {markdown(name)} |") for row in tables[0])
    assert re.findall(r"(?<!\\)\$", text) == [] and "<b>" not in text and "<i>" not in text
    assert r"no model \*z\*" in text and r"a\|b diverged with seed 9" in text and r"| a\|b | " in text
    told = conclusions(results)
    assert "a|b" in told and "$5 to $6" in told and "\\" not in told
    readme = tmp_path / "README.md"
    readme.write_text("<!-- t: begin -->\n<!-- t: end -->\n", encoding="utf-8")
    assert update_block(readme, "t", text, "plots/t")
    assert r"\[a\](b.png)" in readme.read_text(encoding="utf-8")


def test_without_a_timing_pass_no_picture_of_times_is_linked():
    text = results_text(Results(TASK, make_runs(1)))
    assert "training_time.png" not in text and "![Parameters and accuracy of each model](comparison.png)" in text
