"""Where the checkout lies whose tests these are."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
