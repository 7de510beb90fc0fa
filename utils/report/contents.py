"""What a folder of images holds, in words: for the terminal before training, and for the report."""

from collections.abc import Mapping, Sequence

from utils.contents import Contents
from utils.words import bullets, markdown, picture_link, plural, table, three_digits

NAMED = 5  # files or groups of files that a sentence names; more are counted


def contents_on_page(contents: Contents) -> list[str]:
    """What the page of results says and shows of the folder, in Markdown."""
    sentences = bullets([markdown(sentence) for sentence in contents_in_words(contents)])
    return [sentences, picture_link("samples", "A few training images of each class"), class_table(contents)]


def contents_in_words(contents: Contents) -> list[str]:
    """Sentences without full stops: how many images, how large, what to beat, and what is odd about the files."""
    found = [_counts(contents), _sizes(contents), _classes(contents)]
    if contents.equal:
        copies = sum(map(len, contents.equal)) - len(contents.equal)
        same = "is the same as another one at this size" if copies == 1 else "are the same as others at this size"
        found.append(f"{plural(copies, 'image')} {same}; equal ones are in one part ({_groups(contents.equal)})")
    if contents.across:
        found.append(
            f"{plural(len(contents.across), 'image')} in more than one part of the folder, which makes accuracies look "
            f"better than they are ({_groups(contents.across)})"
        )
    if contents.contradictory:
        found.append(
            f"{plural(len(contents.contradictory), 'image')} in more than one class ({_groups(contents.contradictory)})"
        )
    if contents.several:
        files = plural(len(contents.several), "file")
        found.append(f"{files} with several frames or pages, of which the first counts ({_some(contents.several)})")
    if contents.skipped:
        files = plural(len(contents.skipped), "file")
        they = "it" if len(contents.skipped) == 1 else "they"
        found.append(f"{files} left out, since {they} can't be used: {_by_fault(contents.skipped)}")
    if contents.others:
        often = sorted(contents.others.items(), key=lambda entry: (-entry[1], entry[0]))
        kinds = _some([f"{count:,} {ending}" for ending, count in often])
        found.append(f"Files in the class folders that are no images count as nothing ({kinds})")
    if contents.loose:
        found.append(
            f"{plural(len(contents.loose), 'file')} outside the class folders left out ({_some(contents.loose)})"
        )
    return found


def class_table(contents: Contents) -> str:
    """A Markdown table: how many images of each class are in each part."""
    rows = [
        [markdown(name), *(f"{contents.images[part][label]:,}" for part in contents.images)]
        for label, name in enumerate(contents.class_names)
    ]
    rows.append(["all", *(f"{contents.total(part):,}" for part in contents.images)])
    return table(["class", *contents.images], rows)


def _counts(contents: Contents) -> str:
    train, val, test = (f"{contents.total(part):,}" for part in ("train", "val", "test"))
    images, classes = f"{sum(contents.of_each_class):,} images", len(contents.class_names)
    missing = [part for part in contents.images if part not in contents.given]
    how = "by the folder itself" if not missing else f"{' and '.join(missing)} split off train by contents alone"
    how = how if contents.given else "split by contents alone, each class in proportion"
    return f"{images} in {classes} classes: {train} to train, {val} to validate, {test} to test, {how}"


def _sizes(contents: Contents) -> str:
    """How large the images are, and what they become."""
    (width, height), (widest, highest), size = contents.smallest, contents.largest, contents.size
    colours = "grey" if contents.channels == 1 else "colour"
    found = f"{width} x {height} pixels"
    if contents.sizes > 1:
        found = f"{contents.sizes:,} sizes, from {found} to {widest} x {highest}"
    elif width == height == size:
        return f"Of {found}, which they keep, in {colours}"
    crop = contents.fit == "crop"
    how = "the shorter side to size and the middle kept" if crop else "the whole image, black around it"
    enlarged = f"; {contents.enlarged:,} of them enlarged" if contents.enlarged else ""
    return f"Of {found}, made {size} x {size} in {colours}: {how}{enlarged}"


def _classes(contents: Contents) -> str:
    """The majority class's share, and how unequal the classes are."""
    largest = contents.class_names[contents.largest_class]
    times = f"; the largest class has {three_digits(contents.imbalance)} times the images of the smallest"
    if contents.unequal:
        beat_too = f"to beat: {contents.to_beat:.1%}"
        times += f", so models are judged on balanced accuracy, the mean of each class's share ({beat_too})"
    beat = f"Accuracy to beat: {contents.accuracy_to_beat:.1%}, by always answering {largest}"
    return beat + (times if contents.imbalance > 1 else "")


def _by_fault(skipped: Mapping[str, str]) -> str:
    """Every file that was left out, those with the same fault together."""
    paths: dict[str, list[str]] = {}
    for path, fault in skipped.items():
        paths.setdefault(fault, []).append(path)
    return "; ".join(f"{', '.join(same)} ({fault})" for fault, same in paths.items())


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return between.join(names[:NAMED]) + more


def _groups(groups: Sequence[Sequence[str]]) -> str:
    more = f"; and {len(groups) - NAMED:,} more" if len(groups) > NAMED else ""
    return "; ".join(_some(group, " = ") for group in groups[:NAMED]) + more
