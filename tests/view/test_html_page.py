"""The HTML page of a run: what is in the file, and what a real browser makes of it."""

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from tests.conftest import refused
from tests.view.seen import STAGES, read
from tuner.view.html.figures import CURVES_SHOWN, of_search
from tuner.view.html.page import Step, embedded, page_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here (apt-get install chromium)")
EVIL = "</script><img src=x onerror=alert(1)>"


def steps_of(run):
    return [Step(stage, read(run, stage), json.loads((run / stage / "result.json").read_text())) for stage in STAGES]


@pytest.fixture(scope="module")
def page(run_dir, tmp_path_factory):
    """The page of the run, one of whose classes has a name that is markup."""
    steps = steps_of(run_dir)
    steps[-1].result["metrics"]["class_names"][0] = EVIL
    steps[-1].result["metrics"]["mistakes"] = [
        {"target": EVIL, "answer": "1", "share": 0.98, "place": "digits[4]", "png": "iVBORw0KGgo="}
    ]
    path = tmp_path_factory.mktemp("page") / "out.html"
    path.write_text(page_of(run_dir, steps, "example"), encoding="utf-8")
    return path, {step.label: step.result for step in steps}


class Parsed(HTMLParser):
    """Ids, links, and what scripts hold, as a parser of its own reads the file."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.scripts, self.tags, self._at = [], [], {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        self._at = found.get("id") if tag == "script" else None
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])

    def handle_endtag(self, tag):
        self._at = None

    def handle_data(self, data):
        if self._at is not None:
            self.scripts[self._at] = data


def test_the_embedded_json_is_the_results_whatever_a_class_is_called(page):
    path, results = page
    parsed = Parsed(path.read_text(encoding="utf-8"))
    assert json.loads(parsed.scripts["results"]) == results
    assert results["test"]["metrics"]["class_names"][0] == EVIL
    assert [tag for tag, _ in parsed.tags].count("script") == 3
    assert not any("onerror" in attributes for _, attributes in parsed.tags)


def test_every_link_has_its_target_and_every_finding_one(page):
    path, results = page
    parsed = Parsed(path.read_text(encoding="utf-8"))
    assert len(parsed.links) > len(STAGES) and len(set(parsed.ids)) == len(parsed.ids)
    assert {link.removeprefix("#") for link in parsed.links} <= set(parsed.ids)
    codes = {f"{label}-{finding['code']}" for label, result in results.items() for finding in result["findings"]}
    assert codes and codes <= set(parsed.ids)


def test_the_page_names_no_address_to_load_from(page):
    text = page[0].read_text(encoding="utf-8")
    outside = [found for found in re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", text)]
    assert all(found.startswith(("#", "data:", "x")) for found in outside)
    assert re.findall(r"https?://[^\"'\s]+", text) == ["http://www.w3.org/2000/svg"]
    assert "default-src 'none'" in text


@pytest.mark.parametrize("text", ["</script>", "<!--", "a\u2028b\u2029c", "&lt;"])
def test_embedded_json_is_safe_and_whole(text):
    found = embedded([text])
    assert not set("<>&\u2028\u2029") & set(found) and json.loads(found) == [text]


def test_findings_come_errors_first_and_accepted_ones_only_in_their_step(run_dir):
    steps = steps_of(run_dir)
    found = next(step.result["findings"][0] for step in steps if step.result["findings"])
    steps[0].result["findings"] = [
        {**found, "code": "N1", "severity": "note", "title": "a note", "accepted": False},
        {**found, "code": "E1", "severity": "error", "title": "an error", "accepted": False},
        {**found, "code": "W1", "severity": "warn", "title": "meant so", "accepted": True},
    ]
    text = page_of(run_dir, steps[:1], "example")
    top = text[text.index('id="findings"') : text.index('<section id="check-init"')]
    assert top.index("an error") < top.index("a note") and "meant so" not in top
    assert "meant so (accepted in the recipe)" in text


def test_of_many_trials_the_best_are_drawn_and_the_number_is_said(run_dir, tmp_path):
    (tmp_path / "curves").mkdir()
    rows = [{"number": i, "trial": f"t{i}", "optimizer.lr": 10 ** -(1 + i / 100), "score": i} for i in range(300)]
    with (tmp_path / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        (tmp_path / "curves" / f"{row['trial']}.csv").write_text(f"step,epoch,split,loss\n1,1,val,{row['score']}\n")
    curves, parallel = of_search({}, tmp_path)
    assert len(curves["series"]) == CURVES_SHOWN and "the best 40 of 300 trials" in curves["title"]
    assert "The best 200 of 300 trials" in parallel["title"] and parallel["names"][0] == "trial t299"


def test_report_html_writes_one_small_file_with_the_pictures_of_mistakes(finished, command):
    done = command("report", "small.toml", "--html", "out.html")
    mistakes = json.loads((finished / "runs/small/test/result.json").read_text())["metrics"]["mistakes"]
    text = (finished / "out.html").read_text()
    assert mistakes and all(entry["png"] in text and f"taken for {entry['answer']}" in text for entry in mistakes)
    assert done.code == 0 and "wrote out.html" in done.out, done.err
    assert (finished / "out.html").stat().st_size < 300_000
    refused(command("report", "--run-dir", "runs/none", "--html", "x.html"), 3, "runs/none")


def browse(page, script, *flags):
    """Open the page, run a script in it, and return what it leaves in `window.found`, with the console's messages."""
    text = page.read_text(encoding="utf-8")
    added = f"<script>(async () => {{ {script} }})().then((found) => {{ const out = document.createElement('pre');"
    added += "out.id = 'found'; out.textContent = JSON.stringify(found); document.body.append(out); });</script>"
    copy = page.with_name("browsed.html")
    copy.write_text(text.replace("</body>", f"{added}</body>"), encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *flags]
    done = subprocess.run(
        [*command, "--virtual-time-budget=4000", "--dump-dom", copy.as_uri()], capture_output=True, timeout=110
    )
    dom = done.stdout.decode()
    found = re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)
    assert found, dom[-500:] + done.stderr.decode()[-2000:]
    console = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), console


LOOK = """
  const colours = (value) => value.match(/[0-9.]+/g).map(Number);
  const linear = (v) => v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const under = (node) => {
    for (; node; node = node.parentElement) {
      const found = colours(getComputedStyle(node).backgroundColor);
      if (found.length < 4 || found[3] > 0.5) return found;
    }
    return [255, 255, 255];
  };
  const worst = [...document.querySelectorAll("p,td,th,a,b,h1,h2,h3,summary,code,button,figcaption,li,svg text")]
    .filter((node) => node.textContent.trim()).map((node) => {
      const style = getComputedStyle(node);
      const ink = light(colours(node.closest("svg") ? style.fill : style.color)), paper = light(under(node));
      return [(Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), node.textContent.slice(0, 40)];
    }).sort((a, b) => a[0] - b[0])[0];
"""


@in_a_browser
def test_in_a_browser_the_page_draws_reads_and_asks_nobody(page, run_dir):
    script = """
      const figures = [...document.querySelectorAll("figure[data-figure]")];
      const node = figures.find((f) => f.textContent.includes("The winner's accuracy"));
      const svg = node.querySelector("svg");
      svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
      const byKey = node.querySelector(".read").textContent;
      const dot = svg.querySelectorAll("circle")[2], box = svg.getBoundingClientRect();
      const scale = box.width / svg.viewBox.baseVal.width;
      svg.dispatchEvent(new PointerEvent("pointermove", {
        clientX: box.left + dot.getAttribute("cx") * scale, clientY: box.top + dot.getAttribute("cy") * scale }));
      const byPointer = node.querySelector(".read").textContent;
      const logs = [...node.querySelectorAll("button")], before = svg.innerHTML;
      logs.find((b) => b.textContent === "log y").click();
      const moved = svg.innerHTML !== before;
      logs.find((b) => b.textContent === "smooth")?.click();
      return { drawn: figures.filter((f) => f.querySelector("svg path, svg circle")).length, figures: figures.length,
        byKey, byPointer, moved, loaded: performance.getEntriesByType("resource").map((e) => e.name),
        alerts: document.querySelectorAll("img[onerror]").length };
    """
    found, console = browse(page[0], script)
    assert console == []
    assert [name for name in found["loaded"] if not name.startswith(("file:", "data:"))] == []
    assert found["figures"] == found["drawn"] >= 8
    assert found["moved"] and found["alerts"] == 0
    trial = page[1]["fine"]["choice"]["trial"]
    with (run_dir / "fine" / "curves" / f"{trial}.csv").open() as file:
        rows = [(row["epoch"], row["split"], row["accuracy"]) for row in csv.DictReader(file)]
    read = re.fullmatch(r"(val|train subset): epoch (\S+), accuracy (\S+)", found["byPointer"])
    assert read, found
    split = "val" if read[1] == "val" else "train_eval"
    known = {(float(epoch), of): float(value) for epoch, of, value in rows if value}
    assert float(read[3]) == known[float(read[2]), split]
    assert re.fullmatch(r"(val|train subset): epoch 1, accuracy \S+", found["byKey"])


@in_a_browser
@pytest.mark.parametrize("scheme", ["1", "0"])
def test_in_a_browser_all_text_stands_out_in_light_and_in_dark(page, scheme):
    found, _ = browse(
        page[0],
        LOOK + "return { worst, dark: matchMedia('(prefers-color-scheme: dark)').matches };",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    assert found["dark"] == (scheme == "0")
    assert found["worst"][0] >= 4.5, found


@in_a_browser
def test_in_a_browser_nothing_but_tables_is_wider_than_a_phone(page):
    script = """
      const frame = document.createElement("iframe");
      const html = document.documentElement.outerHTML.replace(/<script>\\(async[^]*$/, "</body></html>");
      frame.style.width = "360px"; frame.srcdoc = html; document.body.append(frame);
      await new Promise((done) => { frame.onload = done; });
      const inner = frame.contentDocument;
      return { wide: inner.documentElement.scrollWidth, view: inner.documentElement.clientWidth };
    """
    found, _ = browse(page[0], script)
    assert found["wide"] <= found["view"] <= 360


@in_a_browser
def test_a_browser_prints_it(page, tmp_path):
    out = tmp_path / "page.pdf"
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    subprocess.run([*command, f"--print-to-pdf={out}", page[0].as_uri()], capture_output=True, timeout=110)
    pages = len(re.findall(rb"/Type\s*/Page\b", out.read_bytes()))
    assert 2 <= pages <= 20
