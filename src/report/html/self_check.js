// Used by the tests: does in a browser what a person would do with the page, and writes what came of it below it.
addEventListener("load", async () => {
  const found = [];
  const check = (name, is, more = "") => found.push(`${is ? "ok" : "FAILED"} ${name} ${is ? "" : more}`.trim());
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const until = async is => {
    for (let tries = 0; tries < 100 && !is(); tries++) await new Promise(done => setTimeout(done, 50));
  };
  const visible = element => element.getClientRects().length > 0;
  try {
    check("script ran", document.documentElement.dataset.ready === "yes");
    check("hostile text is text", window.hostile === undefined && !all("img, iframe, object, embed, b").length);
    check("nothing is fetched", !performance.getEntriesByType("resource").length,
      performance.getEntriesByType("resource").map(entry => entry.name));

    const charts = all("figure svg.chart").filter(chart => !chart.closest(".timeline"));
    check("charts are drawn", charts.length > 5, charts.length);
    const drawn = chart => chart.getBoundingClientRect().height > 60 && all("circle, polyline, rect", chart).length > 2;
    check("every chart has marks", charts.every(drawn), charts.filter(it => !drawn(it)).map(it => it.closest("figure").id));
    check("every chart has its table and a name", charts.every(it => it.closest("figure").querySelector("td, tbody th") && it.ariaLabel));
    check("the page is as wide as the window", document.documentElement.scrollWidth <= innerWidth, document.documentElement.scrollWidth);

    const fold = document.querySelector("details.folded");
    if (fold) {
      fold.open = true;
      await until(() => fold.querySelector("svg"));
      check("what is folded is drawn when it is opened", drawn(fold.querySelector("svg")));
    }

    const box = document.querySelector("article .comparison");
    const heads = all("thead th", box);
    const at = heads.findIndex(head => head.textContent.startsWith("file"));
    const column = () => all("tbody:first-of-type tr:not(.heading)", box).map(row => row.cells[at].dataset.v).filter(Boolean).map(Number);
    const isSorted = (values, sign) => values.every((value, index) => !index || sign * (value - values[index - 1]) >= 0);
    heads[at].querySelector("button").click();
    check("a click sorts", isSorted(column(), 1) && heads[at].ariaSort === "ascending", column());
    heads[at].querySelector("button").click();
    check("a second click sorts the other way", isSorted(column(), -1) && heads[at].ariaSort === "descending", column());

    const rows = all("tbody tr:not(.heading)", box);
    const apart = box.querySelector(".apart");
    if (apart) {
      apart.click();
      check("groups are sorted together", column().length === rows.filter(row => row.cells[at].dataset.v).length && isSorted(column(), -1), column());
      check("their headings go, and names tell them", all(".heading", box).every(row => !visible(row)) && all(".group", box).every(visible));
      apart.click();
      check("and apart again", all(".heading", box).every(visible) && isSorted(column(), -1));
    }
    const filter = box.querySelector("input[type=search]");
    filter.value = "q8_0";
    filter.dispatchEvent(new Event("input"));
    const left = rows.filter(visible);
    check("a filter leaves what it names", left.length > 0 && left.length < rows.length && left.every(row => /q8_0/i.test(row.textContent)), left.length);
    filter.value = "no such trial";
    filter.dispatchEvent(new Event("input"));
    check("no heading stands over nothing", all(".heading", box).every(heading => !visible(heading)));
    filter.value = "";
    filter.dispatchEvent(new Event("input"));
    check("an empty filter shows all", rows.every(visible) && all(".heading", box).every(visible));

    const boxes = all(".columns input", box);
    const hidden = boxes.find(input => !input.checked);
    hidden.click();
    check("a chosen column is shown", visible(heads[hidden.value]) && rows.every(row => !row.cells[hidden.value].hidden));
    const shown = boxes.find(input => input.checked && input !== hidden);
    shown.click();
    check("another is not", !visible(heads[shown.value]));

    const tip = document.getElementById("tip");
    const mark = document.querySelector("svg.chart [data-tip]");
    mark.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 50, clientY: 50 }));
    check("what is pointed at is told", visible(tip) && tip.textContent === mark.dataset.tip, tip.textContent);
    const chart = mark.closest("svg");
    chart.focus();
    chart.dispatchEvent(new KeyboardEvent("keydown", { bubbles: true, key: "ArrowRight" }));
    check("arrows go through a chart", chart.querySelector(".on") && visible(tip));
    check("titles tell what figures mean", heads[at].querySelector("[data-tip]").dataset.tip.includes("size of the file"));

    const blobs = [];
    URL.createObjectURL = blob => (blobs.push(blob), "blob:kept");
    HTMLAnchorElement.prototype.click = function () { blobs.at(-1).as = this.download; };
    all("[data-from]").slice(0, 2).forEach(button => button.click());
    await until(() => blobs.length === 2);
    blobs.sort((one, other) => other.as.localeCompare(one.as));
    const [json, csv] = await Promise.all(blobs.map(blob => blob.text()));
    const data = JSON.parse(json);
    check("the JSON is that of show", data.format === "quantbench.run" && data.run.trials.length === rows.length && blobs[0].as.endsWith(".json"));
    const lines = csv.trim().split("\n");
    check("the CSV has a line for each trial", lines.length === rows.length + 1 && lines[0].startsWith("run,host,model,variant") && blobs[1].as.endsWith(".csv"), lines.length);

    const timeline = document.querySelector(".timeline");
    if (timeline) {
      timeline.querySelector(".variant").focus();
      const strokes = () => all("[data-tip]", timeline).length;
      await until(() => strokes() > 2);
      check("the tokens of an answer are drawn", strokes() > 2, strokes());
      const prompts = timeline.querySelector(".prompt");
      prompts.value = "1";
      const before = timeline.querySelector("figcaption").textContent;
      prompts.dispatchEvent(new Event("change"));
      check("those of another, too", timeline.querySelector("figcaption").textContent !== before || prompts.options.length < 2);
    }
    document.querySelector(".theme").click();
    const paper = getComputedStyle(document.body).backgroundColor;
    document.querySelector(".theme").click();
    check("there are two themes", paper !== getComputedStyle(document.body).backgroundColor);
  } catch (error) {
    check("no exception", false, error.stack);
  }
  const result = document.createElement("pre");
  result.id = "self-check";
  result.textContent = found.join("\n");
  document.body.append(result);
});
