"""Contrasts are audited: recipes differ in what their contrast declares, and in nothing else."""

import dataclasses
from functools import partial

import pytest
from made_ablation import ABLATION, residual_nets
from made_page import rows_of
from made_records import make_record
from pictures import CIFAR
from place import RECIPE, WITH_ABLATION

from models import FCN
from utils.contrasts import audit
from utils.experiment import Experiment
from utils.findings.results import Results
from utils.report.tables import ablation_table


def test_an_ablation_needs_a_contrast_that_says_what_it_takes_apart():
    with pytest.raises(ValueError, match="an ablation needs a contrast of two variants"):
        audit(dataclasses.replace(WITH_ABLATION, contrasts=[]))
    with pytest.raises(ValueError, match="two experiments have the same name: A, B, A"):
        audit(dataclasses.replace(WITH_ABLATION, ablation=WITH_ABLATION.experiments[:1]))


@pytest.mark.parametrize(
    "model", [lambda image_shape, num_classes: FCN(image_shape, num_classes), partial(FCN, (1, 8, 8))]
)
def test_a_model_that_hides_its_options_is_refused(model):
    """Two of them could differ in dropout, and count as one recipe."""
    with pytest.raises(
        ValueError,
        match="A-Hidden: its model must be a class, a function, or a functools.partial of one with keywords only",
    ):
        audit(
            dataclasses.replace(
                WITH_ABLATION, ablation=[*WITH_ABLATION.ablation, Experiment("A-Hidden", model, RECIPE)]
            )
        )


def test_the_two_residual_nets_of_task_1_2_differ_in_dropout_and_weight_decay_alone():
    audit(ABLATION)
    assert [sorted(c.differs) for c in ABLATION.contrasts if c.differs] == [["dropout", "weight_decay"]]
    table = ablation_table(Results(ABLATION, {}, {e.name: [make_record(e.name, **CIFAR)] for e in residual_nets()}))
    assert [row["differs from CNNWithResidual in"] for row in rows_of(table, "overfitting").values()] == [
        "nothing", "weight decay 0.01, dropout 0.5", "dropout 0.5", "weight decay 0.01", "augmentation",
        "weight decay 0.01, augmentation, dropout 0.5",
    ]  # fmt: skip
