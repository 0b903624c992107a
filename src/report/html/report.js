// What a person can do with the page: point at charts, sort and filter tables, choose columns, take the data along.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const tip = document.getElementById("tip");

  // Whatever has something to tell, tells it where the pointer or the focus is.
  const tell = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = !text;
    if (!text) return;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - width - 8)) + "px";
    tip.style.top = (y + height + 22 > innerHeight ? Math.max(4, y - height - 10) : y + 16) + "px";
  };
  addEventListener("pointermove", event => {
    const told = event.target.closest?.("[data-tip]");
    tell(told ? told.dataset.tip : "", event.clientX, event.clientY);
  });
  addEventListener("scroll", () => tell("", 0, 0), true);
  const tellAt = element => {
    const box = element.getBoundingClientRect();
    tell(element.dataset.tip, box.left + box.width / 2, box.bottom - 8);
  };
  addEventListener("focusin", event => {
    if (event.target.dataset?.tip && event.target.matches(":focus-visible")) tellAt(event.target);
  });
  addEventListener("focusout", () => {
    tell("", 0, 0);
    all(".on").forEach(mark => mark.classList.remove("on"));
  });

  // Arrows go from mark to mark of a chart that has the focus.
  addEventListener("keydown", event => {
    if (event.key === "Escape") return tell("", 0, 0);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const chart = event.target.closest?.("svg.chart");
    if (!step || !chart) return;
    const marks = all("[data-tip]", chart);
    if (!marks.length) return;
    event.preventDefault();
    const before = marks.findIndex(mark => mark.classList.contains("on"));
    const now = marks[(before + step + marks.length + (before < 0 && step < 0 ? 1 : 0)) % marks.length];
    marks.forEach(mark => mark.classList.toggle("on", mark === now));
    now.scrollIntoView({ block: "nearest", inline: "nearest" });
    tellAt(now);
  });

  // Tables: a click on a title sorts the rows of every group, a second one the other way.
  const compare = (one, other) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    const numbers = Number(one) - Number(other);
    return Number.isNaN(numbers) ? one.localeCompare(other, "en", { numeric: true }) : numbers;
  };
  const heads = table => all("thead th", table);
  const order = head => head.getAttribute("aria-sort");
  const sort = table => {
    const at = heads(table).findIndex(head => order(head) !== "none");
    if (at < 0) return;
    const down = order(heads(table)[at]) === "descending";
    for (const body of table.tBodies) {
      const rows = all("tr:not(.heading)", body);
      const value = row => row.cells[at].dataset.v;
      rows.sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        const sign = compare(a, b);
        // What is not there stays at the end.
        return down && a !== "" && b !== "" ? -sign : sign;
      });
      body.append(...rows);
    }
  };
  for (const table of all(".comparison table")) {
    heads(table).forEach(head => head.querySelector("button").addEventListener("click", () => {
      const next = order(head) === "ascending" ? "descending" : "ascending";
      heads(table).forEach(other => other.setAttribute("aria-sort", other === head ? next : "none"));
      sort(table);
    }));
    // Groups together: all rows under the first heading, which says nothing then; the name tells the group.
    const homes = new Map(all("tbody tr", table).map(row => [row, row.parentElement]));
    table.closest(".comparison").querySelector(".apart")?.addEventListener("change", event => {
      const apart = event.target.checked;
      for (const [row, home] of homes) {
        if (row.matches(".heading")) row.hidden = !apart;
        else {
          (apart ? home : table.tBodies[0]).append(row);
          row.querySelector(".group").hidden = apart;
        }
      }
      sort(table);
    });
  }
  for (const box of all(".comparison")) {
    const rows = all("tbody tr:not(.heading)", box);
    const output = box.querySelector("output");
    const filter = box.querySelector("input[type=search]");
    filter.addEventListener("input", () => {
      const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every(word => text.includes(word));
        shown += !row.hidden;
      }
      const apart = box.querySelector(".apart")?.checked !== false;
      for (const heading of all(".heading", box)) heading.hidden = !apart || all("tr:not(.heading)", heading.parentElement).every(row => row.hidden);
      output.textContent = wanted.length ? `${shown} of ${rows.length} trials` : "";
    });
    box.querySelector(".columns").addEventListener("change", event => {
      const at = Number(event.target.value);
      for (const row of all("tr:not(.heading)", box)) row.cells[at].hidden = !event.target.checked;
    });
  }
  addEventListener("click", event => {
    for (const open of all(".columns[open]")) if (!open.contains(event.target)) open.open = false;
  });

  // What is large is made when it is opened.
  const unpacked = text => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const unfold = async fold => {
    const template = fold.querySelector("template");
    if (!template || template.dataset.open) return;
    template.dataset.open = "yes";
    if (template.dataset.packed) {
      try {
        template.innerHTML = await unpacked(template.dataset.packed);
      } catch {
        template.innerHTML = "<p>This browser cannot unpack the chart: use a newer one</p>";
      }
    }
    template.replaceWith(template.content);
  };
  all("details.folded").forEach(fold => fold.addEventListener("toggle", () => unfold(fold)));
  addEventListener("beforeprint", () => all("details.folded[open]").forEach(unfold));

  // Data: within the page as JSON, packed where it is large; a CSV is a JSON string there.
  const stored = async id => {
    const element = document.getElementById(id);
    if (element.type !== "application/gzip") return element.textContent;
    return unpacked(element.textContent);
  };
  for (const button of all("[data-from]")) button.addEventListener("click", async () => {
    let text;
    try {
      text = await stored(button.dataset.from);
    } catch {
      button.textContent = "This browser cannot unpack the data: use a newer one";
      return;
    }
    const content = button.dataset.type === "text/csv" ? JSON.parse(text) : text;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type: button.dataset.type }));
    link.download = button.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  document.querySelector(".theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
  });

  // The tokens of any answer: a stroke for each at its time, as high as it was waited for.
  const draw = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const duration = seconds => seconds < 1 ? `${(seconds * 1e3).toPrecision(3)} ms` : `${seconds.toPrecision(3)} s`;
  const round = most => {
    const power = 10 ** Math.floor(Math.log10(most / 5));
    return [1, 2, 5, 10].map(factor => factor * power).find(step => most / step <= 6) ?? most;
  };
  const timeline = (svg, caption, answer) => {
    const [left, right, top, bottom] = [40, 910, 50, 340];
    const times = answer.token_nanoseconds.map(time => time / 1e9);
    const gaps = times.map((time, at) => at ? time - times[at - 1] : time);
    const [end, longest] = [Math.max(...times), Math.max(...gaps)];
    const x = time => left + (right - left) * time / end;
    const y = gap => bottom - (bottom - top) * gap / longest;
    const parts = [];
    for (let time = 0; time <= end; time += round(end)) {
      parts.push(draw("line", { x1: x(time), x2: x(time), y1: top, y2: bottom, stroke: "#D8DEE4" }));
      parts.push(draw("text", { x: x(time), y: bottom + 32, "text-anchor": "middle", "font-size": 24, fill: "#1F2328" }, Number(time.toPrecision(3))));
    }
    parts.push(draw("text", { x: right, y: bottom + 68, "text-anchor": "end", "font-size": 24, fill: "#1F2328" }, "seconds since the request"));
    parts.push(draw("text", { x: 12, y: 30, "font-size": 24, fill: "#1F2328" }, `waited, up to ${duration(longest)}`));
    parts.push(draw("line", { x1: left, x2: right, y1: bottom, y2: bottom, stroke: "#8C959F" }));
    times.forEach((time, at) => {
      parts.push(draw("line", { x1: x(time), x2: x(time), y1: bottom, y2: y(gaps[at]), stroke: at ? "#0072B2" : "#D55E00", "stroke-width": 4 }));
      const told = `${at ? "token " + (at + 1) : "first token"}\nat ${duration(time)}\nwaited ${duration(gaps[at])}`;
      parts.push(draw("rect", { x: x(time) - 5, y: top, width: 10, height: bottom - top, "fill-opacity": 0, "data-tip": told }));
    });
    svg.replaceChildren(...parts);
    caption.textContent = `${times.length} tokens, first after ${duration(times[0])}, last after ${duration(end)}, then ${answer.finish_reason}. ${answer.text.slice(0, 300)}`;
  };
  for (const box of all(".timeline")) {
    const [variants, prompts] = ["variant", "prompt"].map(name => box.querySelector("." + name));
    const [svg, caption] = [box.querySelector("svg"), box.querySelector("figcaption")];
    let answers;
    const options = (select, texts) => select.replaceChildren(...texts.map((text, at) => new Option(text, at)));
    const show = () => {
      const answer = answers[variants.value]?.[1][prompts.value];
      if (answer) timeline(svg, caption, answer);
    };
    const start = async () => {
      const { trials } = JSON.parse(await stored(box.dataset.run + "-json")).run;
      // Trials of one label are told apart by their model and by the settings in which any two differ.
      const differs = values => new Set(values.map(value => JSON.stringify(value))).size > 1;
      const settings = Object.keys(trials[0].settings).filter(key => differs(trials.map(trial => trial.settings[key])));
      const name = ({ label, model, settings: own }) => [label, ...(differs(trials.map(trial => trial.model)) ? [model] : []), ...settings.map(key => `${key} ${own[key] ?? "default"}`)].join(", ");
      answers = trials.map(trial => [name(trial), trial.visits.flatMap(visit => visit.responses).filter(it => it.token_nanoseconds.length)]);
      answers = answers.filter(([, own]) => own.length);
      options(variants, answers.map(([label]) => label));
      options(prompts, answers[0]?.[1].map(answer => answer.prompt_id) ?? []);
      variants.addEventListener("change", () => {
        const before = prompts.selectedOptions[0]?.text;
        const own = answers[variants.value][1];
        options(prompts, own.map(answer => answer.prompt_id));
        prompts.value = Math.max(0, own.findIndex(answer => answer.prompt_id === before));
        show();
      });
      prompts.addEventListener("change", show);
      show();
    };
    // The data is large: it is read when the timeline comes into view, or has the focus.
    let begun = false;
    const begin = () => {
      if (!begun) start().catch(() => box.hidden = true);
      begun = true;
    };
    box.addEventListener("focusin", begin);
    new IntersectionObserver((entries, observer) => {
      if (entries.some(entry => entry.isIntersecting)) { observer.disconnect(); begin(); }
    }, { rootMargin: "200px" }).observe(box);
  }
  document.documentElement.dataset.ready = "yes";
})();
