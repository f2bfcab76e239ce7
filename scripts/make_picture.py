"""Draw the first screen of a report as one SVG, for README.

    .venv/bin/python scripts/make_picture.py lake/reports/2026-11-01.html docs/report.svg

The picture is the report's own text and first figure, so it shows what a run really said.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree

_XHTML, _SVG = "http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"
_SIZE = (1000, 900)


def main(report: Path, target: Path) -> None:
    """Write the header, the first figure and its values into `target`."""
    for prefix, name in (("", _SVG), ("h", _XHTML), ("xlink", "http://www.w3.org/1999/xlink")):
        ElementTree.register_namespace(prefix, name)
    tree = ElementTree.fromstring(report.read_text(encoding="utf-8").split("\n", 1)[1])
    width, height = (str(side) for side in _SIZE)
    picture = ElementTree.Element(
        f"{{{_SVG}}}svg", {"width": width, "height": height, "viewBox": f"0 0 {width} {height}"}
    )
    ElementTree.SubElement(picture, f"{{{_SVG}}}rect", {"width": width, "height": height, "fill": "white"})
    frame = ElementTree.SubElement(picture, f"{{{_SVG}}}foreignObject", {"width": width, "height": height})
    body = ElementTree.SubElement(frame, f"{{{_XHTML}}}div", {"class": "page"})
    style = ElementTree.SubElement(body, f"{{{_XHTML}}}style")
    style.text = _first(tree, "style").text
    body.append(_first(tree, "header"))
    section = ElementTree.SubElement(body, f"{{{_XHTML}}}main")
    for name in ("h2", "h3", "figure", "div"):
        section.append(_first(_first(tree, "main"), name))
    target.write_bytes(ElementTree.tostring(picture, encoding="utf-8"))


def _first(tree: ElementTree.Element, name: str) -> ElementTree.Element:
    found = next(tree.iter(f"{{{_XHTML}}}{name}"), None)
    if found is None:
        sys.exit(f"expected a report of `ganrec run`, found no <{name}> in it")
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
