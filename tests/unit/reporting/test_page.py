"""The page is XHTML whatever the ids are, and a real browser shows all of it, on a telephone, too."""

import html
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from unit.reporting.sample import HOSTILE, METRICS, report

from ganrec_spark.reporting.page import Id, Words, table

_SPACE = "{http://www.w3.org/1999/xhtml}"


def test_hostile_ids_stay_text() -> None:
    text = report()
    tree = ElementTree.fromstring(text.split("\n", 1)[1])
    assert tree.findall(f".//{_SPACE}script") == []
    cells = ["".join(cell.itertext()) for cell in tree.iter(f"{_SPACE}td")]
    assert HOSTILE in cells
    assert f"because of {HOSTILE}" in cells
    assert "src=" not in text
    assert re.findall(r'href="(?!#)', text) == []


def test_every_link_has_its_section() -> None:
    tree = ElementTree.fromstring(report().split("\n", 1)[1])
    links = [link.attrib["href"] for link in tree.iter(f"{_SPACE}a")]
    assert links == ["#quality", "#gate", "#lists", "#fairness", "#data", "#training", "#checks"]
    assert [head.attrib["id"] for head in tree.iter(f"{_SPACE}h2")] == [link[1:] for link in links]


def test_cells_by_kind() -> None:
    made = table(("name", "n", "", ""), [("a|b", 1234, True, None), (Words("w"), 0.5, False, Id("x"))])
    assert '<th>name</th><th class="number">n</th>' in made
    assert '<td>a|b</td><td class="number">1,234</td><td>yes</td><td>–</td>' in made
    assert '<td class="words">w</td><td class="number">0.5000</td><td>no</td><td class="id" title="x">x</td>' in made


@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="no chromium: scripts/install_chromium.sh installs Debian's"
)
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_it_without_an_error(width: int, tmp_path: Path) -> None:
    # The probe is ours and stands in this copy alone: it tells what the browser made of the page.
    probe = """<script>//<![CDATA[
addEventListener("load", () => {
  const figures = [...document.querySelectorAll("figure svg")].map(svg => svg.getBoundingClientRect());
  document.body.setAttribute("data-width", document.documentElement.scrollWidth);
  document.body.setAttribute("data-figures", figures.filter(box => box.width > 200 && box.height > 60).length);
  document.body.setAttribute("data-title", document.title);
});
//]]></script></body>"""
    file = tmp_path / "report.html"
    file.write_text(report().replace("</body>", probe), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", f"--window-size={width},900", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    body = re.search(r"<body ([^>]*)>", done.stdout)
    assert body is not None
    told = dict(re.findall(r'data-(\w+)="([^"]*)"', body[1]))
    assert int(told["width"]) <= max(width, 500)  # Chromium's windows are no narrower
    assert int(told["figures"]) == report().count("<figure>") == 6
    assert told["title"] == "Run 2026-11-01"
    blend = next(
        row for row in METRICS if (row["recommender"], row["split"], row["segment"]) == ("blend", "test", "all")
    )
    assert f"{blend['value']:.4f} [{blend['ci_low']:.4f}, {blend['ci_high']:.4f}]" in html.unescape(done.stdout)
