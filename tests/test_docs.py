"""The pages' examples are run as they are printed."""

import re

import pytest
import torch
from checkout_folder import CHECKOUT

from task_1_2_cifar import TASK
from utils.command.arguments import parser_for
from utils.contrasts import audit
from utils.experiment import TrainConfig

ADDING = (CHECKOUT / "docs/adding-a-model.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", ADDING, flags=re.DOTALL)


def test_the_model_of_the_page_maps_images_to_logits():
    scope = {"__name__": "mymodel"}
    exec(EXAMPLES[0], scope)
    for shape in ((1, 28, 28), (3, 32, 32)):
        assert scope["LeNet5"](image_shape=shape, num_classes=7)(torch.zeros(2, *shape)).shape == (2, 7)


def test_the_task_of_the_page_is_one_that_a_command_would_take():
    scope = {"__name__": "my_task"}
    exec(EXAMPLES[1], scope)
    audit(scope["TASK"])


def test_the_page_on_recipes_names_every_field_and_option():
    page = (CHECKOUT / "docs/recipes.md").read_text(encoding="utf-8")
    for field in TrainConfig.__dataclass_fields__:
        assert f"`{field}`" in page, field


def test_the_page_on_running_names_every_option_and_no_other():
    page = (CHECKOUT / "docs/running.md").read_text(encoding="utf-8")
    options = {name for action in parser_for(TASK)._actions for name in action.option_strings} - {"-h"}
    assert set(re.findall("--[a-z][a-z-]+", page)) == options


PAGES = [CHECKOUT / "README.md", *CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("plots/*/RESULTS.md")]


def anchors(page):
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_link_of_a_page_leads_nowhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8"))
    for path, anchor in links:
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_the_readme_fits_on_a_few_screens():
    assert len((CHECKOUT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170
