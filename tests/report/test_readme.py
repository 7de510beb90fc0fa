"""Blocks of a README: one is replaced, and nothing else."""

import re
import threading

import pytest
from made_page import MODELS, make_runs, text_of
from made_records import make_timing

from utils.report.readme import block_of, update_block

BEFORE = "# Überschrift\n\ttabs and spaces  \n<!-- task_1_2: begin -->\nanother\n<!-- task_1_2: end -->\n"
AFTER = "\\1 \\g<0>\n\n<!-- a comment -->\nno newline at the end"


def page(block: str, begin="<!-- task_1_1: begin (generated) -->"):
    return f"{BEFORE}{begin}\n{block}<!-- task_1_1: end -->{AFTER}"


def test_a_readme_behind_a_link_is_written_through_it_and_leftovers_of_a_killed_process_go(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/README.md").write_text(page(""))
    (tmp_path / "real/.README.md.abc.partial").write_text("half")
    (tmp_path / "README.md").symlink_to("real/README.md")
    assert update_block(tmp_path / "README.md", "task_1_1", "new", "plots/any")
    assert (tmp_path / "README.md").is_symlink()
    assert block_of((tmp_path / "real/README.md").read_text(), "task_1_1") == "new"
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == [".README.md.lock", "README.md"]


@pytest.mark.parametrize("old", ["", "old\n", "old\n\n| a |\n| --- |\n", "\n\n\n"])
@pytest.mark.parametrize("text", ["new\n", "\\1 \\g<1> \\g<name> \\n \\\\ $1\n", "ä → “b”\n\n- c\n", ""])
def test_a_block_is_replaced_and_nothing_else(tmp_path, old, text):
    path = tmp_path / "README.md"
    path.write_bytes(page(old).encode())
    assert update_block(path, "task_1_1", text, "plots/any")
    content = path.read_bytes().decode()
    begin = f"{BEFORE}<!-- task_1_1: begin (generated) -->\n"
    assert content.startswith(begin) and content.endswith(f"<!-- task_1_1: end -->{AFTER}")
    assert content[len(begin) : -len(f"<!-- task_1_1: end -->{AFTER}")] == f"{text}\n"
    assert block_of(content, "task_1_1") == text and block_of(content, "task_1_2") == "another"
    assert update_block(path, "task_1_1", text, "plots/any") and path.read_bytes().decode() == content


@pytest.mark.parametrize(
    "content",
    [
        "no markers",
        "",
        page("x\n").replace("<!-- task_1_1: end -->", ""),
        page("x\n", begin=""),
        "<!-- task_1_1: end -->\n<!-- task_1_1: begin -->\n",
        page("x\n").replace("task_1_1:", "task_1_10:"),
    ],
    ids=["none", "empty", "no end", "no begin", "end before begin", "another name"],
)
def test_without_its_markers_a_page_stays_as_it_is(tmp_path, content):
    path = tmp_path / "README.md"
    path.write_bytes(content.encode())
    assert update_block(path, "task_1_1", "new", "plots/any") is False
    assert path.read_bytes() == content.encode()


def test_a_page_that_is_not_there_is_not_made(tmp_path):
    assert update_block(tmp_path / "README.md", "task_1_1", "new", "plots/any") is False
    assert not (tmp_path / "README.md").exists()


def test_two_tasks_that_end_together_both_get_their_block(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(page(""))

    def write(name):
        for count in range(20):
            assert update_block(path, name, f"{name} {count}", "plots/any")

    threads = [threading.Thread(target=write, args=(name,)) for name in ("task_1_1", "task_1_2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [block_of(path.read_text(), name) for name in ("task_1_1", "task_1_2")] == ["task_1_1 19", "task_1_2 19"]


def test_links_to_pictures_get_their_folder_and_nothing_else_in_the_text_does(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(page(""))
    text = text_of(make_runs(3), timing=make_timing(list(MODELS)), left_out=["a.png: not a record (b.png)"])
    text += (
        "\n[other](docs/there.png) [web](https://example.invalid/w.png) [page](page.md) ](no link.pngs) c.png (d.png)\n"
    )
    assert update_block(path, "task_1_1", text, "plots/task_1_1")
    shown = block_of(path.read_text(), "task_1_1")
    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    linked = re.findall(r"!\[[^]]+\]\(([^)]+)\)", shown)
    assert len(names) > 10 and linked == [f"plots/task_1_1/{name}" for name in names]
    assert shown.replace("](plots/task_1_1/", "](") == text
    assert shown.count("plots/task_1_1") == len(names)


def test_links_to_the_page_of_results_get_its_folder(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(page(""))
    assert update_block(path, "task_1_1", "[a](RESULTS.md#x-y) [b](RESULTS.md) [c](#x) [d](../RESULTS.md)", "plots/t")
    shown = "[a](plots/t/RESULTS.md#x-y) [b](plots/t/RESULTS.md) [c](#x) [d](../RESULTS.md)"
    assert block_of(path.read_text(), "task_1_1") == shown
