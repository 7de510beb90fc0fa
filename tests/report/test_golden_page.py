"""A whole page of results, byte for byte: `golden_page.md`, which `python tests/report/test_golden_page.py` rewrites.

All other tests ask for words and numbers only.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / folder) for folder in (".", "tests/helpers")]

from made_page import MODELS, TASK
from made_records import make_record, make_timing

from utils.findings.results import Results
from utils.report.page import results_text

GOLDEN = Path(__file__).with_name("golden_page.md")


def golden_page() -> str:
    """Three models with three seeds each, one of which overfits; a fourth run diverged, and a fifth failed."""
    recipes = zip(MODELS, (0.95, 0.96, 0.985), (None, 7, None), strict=True)
    runs = {
        model: [make_record(model, seed, accuracy=accuracy, overfits_from=epoch) for seed in range(3)]
        for model, accuracy, epoch in recipes
    }
    left_out = ["FCN-seed4.json: failed (out of memory)", "SimpleCNN-seed3.json: diverged (not finite at step 300)"]
    results = Results(TASK, runs, diverged={"SimpleCNN": [3]}, left_out=left_out, timing=make_timing(list(MODELS)))
    return results_text(results)


def test_the_page_is_the_golden_one_byte_for_byte():
    assert golden_page().encode() == GOLDEN.read_bytes()


if __name__ == "__main__":
    GOLDEN.write_bytes(golden_page().encode())
