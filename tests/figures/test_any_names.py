"""Models and classes of any name and number: every picture reads, and nothing lies on anything else."""

import warnings

import matplotlib
import pytest
from made_records import make_record, make_timing
from pictures import (
    CIFAR,
    assert_legends_spare_data,
    assert_nothing_overlaps,
    by_label,
    drawn_curves,
    make_runs,
    planned,
    task_of,
)

from utils.figures import task as figures
from utils.figures.canvas import model_styles
from utils.figures.classes import confusion_difference, model_confusion_matrix, model_mistakes
from utils.figures.gradients import gradient_by_depth, gradient_flow, update_ratio
from utils.figures.lettering import fonts_for, rows_of, shortened, width_of
from utils.findings.results import Results

ODD = (
    *("CNN w/o dropout", "a|b", "$$", "$5 to $6", "$x$", "sixty letters " + 46 * "x", "<b>", "_first", "ResNet_18*"),
    *(f"A network with eight residual blocks and augmentation, {rate}" for rate in (0.1, 0.25, 0.5)),
)
GRADIENTS = pytest.param("gradients", marks=pytest.mark.slow)  # with a panel for each of twelve models
EMNIST = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")
CLASSES = {
    2: ("cat", "dog"),
    3: ("a class with a name as long as a sentence can be, or longer", "b", "c"),
    20: tuple(map(str, range(20))),
    25: tuple(f"class number {i} of many" for i in range(25)),
    47: EMNIST,
    200: tuple(f"a long name, that of class {i}" for i in range(200)),
}


def check(*made):
    for figure in made:
        assert_nothing_overlaps(figure.get_suptitle(), figure)
        assert_legends_spare_data(figure.get_suptitle(), figure)


@pytest.mark.parametrize("count", [2, 3, 20, 25, 47, pytest.param(200, marks=pytest.mark.slow)])
def test_confusions_of_any_number_of_classes_can_be_read(count):
    a, b = (make_record(m, class_names=CLASSES[count], accuracy=0.8, test_total=40 * count) for m in ("FCN", "B"))
    matrix, difference, mistakes = model_confusion_matrix([a]), confusion_difference([a], [b]), model_mistakes([a])
    check(matrix, difference, mistakes)
    for figure in (matrix, difference):
        sizes = [text.get_fontsize() for text in figure.axes[0].texts]
        assert bool(sizes) == (count <= 25) and min(sizes, default=9) >= 4.5
        assert len(figure.axes) == 1 + (count > 12 or figure is difference)  # a colour bar
        axis = figure.axes[0].yaxis
        for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True):  # thinned, yet in their rows
            assert label.get_text()[-4:] == CLASSES[count][int(place)][-4:]
        assert 1 < len(axis.get_ticklocs()) <= 47
    names = {ax.get_title() for ax in mistakes.axes if ax.get_title()}
    assert len(names) == len(a.arrays["mistake_indices"])


@pytest.mark.parametrize("draw", ["curves", "costs", "times", GRADIENTS, "flow", "contrasts", "ablation", "not timed"])
def test_twelve_models_of_any_name_can_be_read(draw):
    runs, timing, styles = (
        make_runs(ODD, 1 if draw in ("gradients", "flow") else 3),
        make_timing(ODD),
        model_styles(ODD),
    )
    if draw == "curves":
        made = [figures.all_models_curves(runs, styles), *(drawn_curves(runs[m], styles[m]) for m in ODD[-1:])]
    elif draw == "costs":
        made = [figures.comparison(runs, timing, styles), figures.accuracy_vs_cost(runs, timing, styles)]
    elif draw == "not timed":
        made = [figures.comparison(runs, None, styles), figures.accuracy_vs_cost(runs, None, styles)]
        assert [len(figure.axes) for figure in made] == [2, 1]
    elif draw == "times":
        made = [figures.training_time(runs, timing, styles)]
    elif draw == "gradients":
        made = [gradient_by_depth(runs, styles)]
    elif draw == "flow":
        made = [gradient_flow(runs[ODD[-1]])]
    elif draw == "contrasts":
        made = [
            figures.contrasts_figure(
                planned(runs, (ODD[0], ODD[5]), (ODD[1], ODD[8]), *zip(ODD, ODD[9:], strict=False)), "Differences"
            )
        ]
        made[0].draw_without_rendering()  # which lays it out
        assert made[0].axes[0].get_position().width > 0.2
    else:
        made = [figures.regularisation_ablation(make_runs(ODD, 2, **CIFAR), styles)]
    check(*made)
    if draw in ("curves", "costs", "not timed"):
        figure = made[0] if draw == "curves" else made[1]
        shown = [text.get_text() for text in figure.legends[0].get_texts()]
        assert [text.strip("\u200b").split("\n")[0][:12].strip() for text in shown] == [
            (name if len(name) > 12 else f"{name}, n = 3")[:12].strip() for name in ODD
        ]


def test_models_of_one_colour_differ_in_marker_and_line():
    looks = list(model_styles([str(i) for i in range(24)]).values())
    assert len({(look.color, look.marker) for look in looks}) == len({(x.color, x.linestyle) for x in looks}) == 24


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_epoch_shows_points_at_whole_numbers(seeds):
    runs = make_runs(["FCN", "SimpleCNN"], seeds, epochs=1)
    made = [figures.all_models_curves(runs, model_styles(runs)), drawn_curves(runs["FCN"])]
    check(*made, gradient_flow(runs["FCN"]), gradient_by_depth(runs, model_styles(runs)))
    for ax in (ax for figure in made for ax in figure.axes):
        assert ax.get_xticks().tolist() == [1] and by_label(ax)
        assert all(line.get_marker() not in ("", "None") for line in ax.get_lines() if len(line.get_xdata()) == 1)


def test_a_run_that_stopped_early_is_left_out_of_gradients_and_not_of_curves():
    records = [make_record("FCN", 0, epochs=7), *(make_record("FCN", seed) for seed in (1, 2))]
    for figure in (gradient_flow(records), update_ratio(records)):
        assert "2 seeds" in figure.get_suptitle()
    both = gradient_by_depth({"FCN": records}, model_styles(["FCN"]))
    assert both.axes[0].get_title() == "FCN\n2 seeds, epochs 1, 8, 15"
    assert "3 seeds" in drawn_curves(records).get_suptitle()


def test_powers_of_ten_are_drawn_as_mathematics_and_names_are_not():
    figure = gradient_by_depth({"$x$": [make_record("$x$")]}, model_styles(["$x$"]))
    figure.draw_without_rendering()
    labels = [label for label in figure.axes[0].get_yticklabels() if label.get_text()]
    assert labels and all(label.get_parse_math() for label in labels)
    assert not figure.axes[0].title.get_parse_math() and figure.axes[0].get_title().startswith("$x$\n")


def test_pictures_are_called_what_a_file_can_be_called():
    runs = make_runs(ODD[:2], 1)
    names = {name for name, _ in figures.figures_of(Results(task_of(list(ODD[:2])), runs))}
    assert {"CNN-w-o-dropout-dc970102_curves", "a-b-0eab8a0a_mistakes"} <= names and "training_time" not in names


def test_text_is_wrapped_and_shortened_by_its_width():
    assert rows_of("a few words", 500) == ["a few words"] and shortened("short", 100) == "short"
    for text in ("a few words that need more than one row", 60 * "W", 60 * "i"):
        rows = rows_of(text, 100)
        assert "".join(rows).replace(" ", "") == text.replace(" ", "")
        assert all(width_of(row, 10) <= 100 for row in [*rows, shortened(text, 100)])
    assert shortened("network with dropout 0.5", 70).endswith("0.5") and "…" in shortened(60 * "W", 100, rows=2)


@pytest.mark.filterwarnings("error")
def test_letters_without_a_font_are_told_once_and_never_by_matplotlib(capsys):
    rare = "\U0001e900\U0001e901"  # Adlam, which fonts seldom have
    with fonts_for([rare]):
        assert matplotlib.rcParams["font.family"][0] == "sans-serif"
        check(figures.all_models_curves(make_runs([rare], 1), model_styles([rare])))
    told = capsys.readouterr().err
    assert "No installed font has" in told and rare in told and told.count("\n") == 1


def test_a_font_that_has_the_letters_is_found_and_only_where_needed(capsys):
    before = list(matplotlib.rcParams["font.family"])
    with fonts_for(["FCN", "ü → −"]):
        assert matplotlib.rcParams["font.family"] == before
    letter = "\ue036"  # of a private area, which STIXNonUnicode has, one of matplotlib's own fonts
    with fonts_for([letter]), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "STIXNonUnicode" in matplotlib.rcParams["font.family"] or not letter.isprintable()
    assert capsys.readouterr().err == ""
