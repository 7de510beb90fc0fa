"""Writes tests/README.md: every fault that the tests inject, with its outcome, from their own names and docstrings.

A test without a docstring injects none.

python tests/fault_table.py
"""

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parent
FILES = (
    "test_checkpoint",
    "test_going_on",
    "test_resume",
    "test_kill",
    "test_training_faults",
    "test_faults",
    "test_any_machine",
    "test_data_identity",
    "test_processes",
    "test_locks",
    "test_session",
    "test_ranks",
    "test_shared",
    "test_output_folders",
    "test_cli",
    "test_record",
    "test_record_folder",
    "test_timing_record",
    "test_drawn_task",
    "test_specs",
    "test_sources",
    "test_cache",
    "test_decode",
    "test_layout",
    "test_split",
    "test_folder",
    "test_own_images",
    "test_remembered",
    "test_trained",
    "test_predict",
    "test_export",
)
INTRODUCTION = """# Faults

Every fault that the tests inject for real, and its outcome: generated from the tests' names and docstrings by
`python tests/fault_table.py`. Those marked *slow* run with `pytest -m slow`, all others with `pytest`.
"""


def page() -> str:
    return "\n".join([INTRODUCTION, *(section(path_of(name)) for name in FILES)])


def path_of(name: str) -> Path:
    """The one file of that name, in whatever folder."""
    (path,) = TESTS.rglob(f"{name}.py")
    return path


def section(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = [f"## {path.relative_to(TESTS).as_posix()}", "", one_line(ast.get_docstring(tree).partition("\n\n")[0]), ""]
    lines += ["| fault and outcome | how |", "| --- | --- |"]
    for node in tree.body:
        how = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
        if how and node.name.startswith("test_"):
            slow = any("mark.slow" in ast.unparse(decorator) for decorator in node.decorator_list)
            case = node.name.removeprefix("test_").replace("_", " ")
            lines.append(f"| {case}{' *(slow)*' if slow else ''} | {one_line(how)} |")
    return "\n".join([*lines, ""])


def one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    (TESTS / "README.md").write_text(page(), encoding="utf-8")
