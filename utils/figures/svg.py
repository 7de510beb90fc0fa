"""A figure as SVG for a page: text as text, colours that CSS can change, groups that a script can switch.

The page's Content-Security-Policy lets no element carry a `style`, so that each becomes attributes of SVG; these also
give way to the page's own CSS, as a dark page needs. Never loads torch.
"""

import io
import re
from xml.etree import ElementTree

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure

CLASS = "class:"  # before the classes that an artist's group gets, where matplotlib keeps an id
METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # none, so that each drawing gives the same bytes
RASTER_DPI = 110  # of heat maps, which lie in the SVG as PNG
DROPPED = {"metadata", "style", "title"}
REFERENCE = re.compile(r"(?<=#)[\w-]+")


def mark(artist: Artist, *classes: str) -> None:
    """Give the artist's group in the SVG these classes."""
    artist.set_gid(CLASS + " ".join(classes))


def svg_of(figure: Figure, name: str, label: str, epochs: int = 0) -> str:
    """The figure as an SVG element for HTML, with `label` as its name for screen readers.

    No two figures of a page may have the same `name`. With `epochs`, the element says where on its first panel the
    first and the last of them lie, as shares of its width.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=METADATA, dpi=RASTER_DPI, facecolor="none")
    root = ElementTree.fromstring(buffer.getvalue())
    used = {match for e in root.iter() for value in e.attrib.values() for match in REFERENCE.findall(value)}
    _rewrite(root, name, used)
    root.attrib = {"viewBox": root.get("viewBox"), "role": "img", "aria-label": label}
    if epochs:
        across = figure.axes[0].transData + figure.transFigure.inverted()
        for where, epoch in (("first", 1), ("last", epochs)):
            root.set(f"data-{where}", f"{across.transform((epoch, 0))[0]:.4f}")
    return ElementTree.tostring(root, encoding="unicode")


def _rewrite(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Make an element and all within it plain: no namespaces, no styles, and ids of this figure alone."""
    element.tag = _local(element.tag)
    attributes = {_local(key): value for key, value in element.attrib.items()}
    attributes |= _presentation(attributes.pop("style", ""))
    identity = attributes.pop("id", "")
    if identity.startswith(CLASS):
        attributes["class"] = identity.removeprefix(CLASS)
    elif identity in used:
        attributes["id"] = f"{name}-{identity}"
    for key, value in attributes.items():
        if value.startswith(("#", "url(#")) and key not in ("fill", "stroke"):
            attributes[key] = value.replace("#", f"#{name}-", 1)
        elif key in ("d", "x", "y"):
            attributes[key] = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value)
    element.attrib = attributes
    element.tail = None
    if element.tag not in ("text", "tspan"):
        element.text = None
    for child in list(element):
        if _local(child.tag) in DROPPED:
            element.remove(child)
        else:
            _rewrite(child, name, used)


def _local(name: str) -> str:
    """A name without its namespace, which HTML knows by itself."""
    return name.rpartition("}")[2]


def _presentation(style: str) -> dict[str, str]:
    """A style as attributes, {name: value}; of a font only its size, since the page has a font of its own."""
    found = {}
    for part in filter(None, map(str.strip, style.split(";"))):
        key, _, value = (word.strip() for word in part.partition(":"))
        if key == "font":
            found["font-size"] = re.search(r"[\d.]+px", value)[0]
        elif key == "font-size" or not key.startswith(("font", "image-rendering")):
            found[key] = value
    return found
