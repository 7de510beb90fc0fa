"use strict";
// What the page can do beside being read: switch curves, sort tables, show a confusion matrix and its images.
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, text, values) => Object.assign(document.createElement(tag), { textContent: text, ...values });
const { format: written } = new Intl.NumberFormat("en"); // such as 1,234
const plural = (count, noun) => `${written(count)} ${noun}${count === 1 ? "" : "s"}`;
const sum = (values) => values.reduce((total, value) => total + value, 0);
const data = JSON.parse($("#data").textContent);

// Of several parts one is shown, the one that is picked; without this script, and in print, all are.
for (const control of $$("[data-picks]")) {
  const show = () => {
    if (control.type === "radio" && !control.checked) return;
    for (const part of $$(`[data-of="${control.dataset.picks}"]`)) part.hidden = part.dataset.key !== control.value;
  };
  control.addEventListener("change", show);
  show();
}
let folded = [];
const fold = (open) => folded.forEach((part) => { part.open = open; });
addEventListener("beforeprint", () => { folded = $$("details:not([open])"); fold(true); });
addEventListener("afterprint", () => fold(false));

// Tables: a click on a heading sorts by its column: the first by words, others by the first number in a cell.
function sort(table, column, down) {
  const text = (row) => row.cells[column].textContent.replace(/^[^\p{L}\p{N}-]+/u, "");
  const number = (row) => parseFloat(text(row).replaceAll(",", "").match(/-?\d+(\.\d+)?/)?.[0]);
  const sign = down ? -1 : 1;
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    if (column === 0) return sign * text(a).localeCompare(text(b), "en", { numeric: true });
    const [x, y] = [number(a), number(b)];
    return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y);
  });
  table.tBodies[0].append(...rows);
}
for (const button of $$(".sort")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const both = ["ascending", "descending"];
    if (heading.cellIndex) both.reverse(); // who asks for numbers wants the largest
    const order = heading.getAttribute("aria-sort") === both[0] ? both[1] : both[0];
    for (const one of heading.parentElement.cells) one.setAttribute("aria-sort", one === heading ? order : "none");
    sort(heading.closest("table"), heading.cellIndex, order === "descending");
  });
}

// Curves: models on and off, and their values at an epoch, from the table below the chart.
const toggles = $$(".toggle[data-model]");
const fit = $("#fit");
const on = (button) => button.getAttribute("aria-pressed") === "true";
function showCurves() {
  for (const button of toggles) {
    for (const part of $$(`.curve .${button.dataset.model}`)) {
      part.toggleAttribute("hidden", !on(button) || (part.classList.contains("fit") && !on(fit)));
    }
  }
  $$(".readout").forEach(readOut);
}
function readOut(box) {
  const [slider, chart] = [$("input", box), $(".curve", box.parentElement)];
  const cells = $("table", box.parentElement.nextElementSibling).tBodies[0].rows[slider.value - 1].cells;
  $("output", box).value = slider.value;
  $("ul", box).replaceChildren();
  toggles.filter(on).forEach((button) => {
    const index = toggles.indexOf(button);
    for (const [column, of] of [[index, ""], [index + toggles.length, ", training images"]]) {
      if (of && !on(fit)) continue;
      const value = make("span", cells[column + 1].textContent || "stopped before");
      $("ul", box).appendChild(make("li", "")).append($(".name", button).cloneNode(true), of, value);
    }
  });
  const { first, last } = $("svg", chart).dataset;
  const share = slider.max > 1 ? (slider.value - 1) / (slider.max - 1) : 0;
  $(".hair", chart).style.left = `${100 * (+first + share * (last - first))}%`;
  $(".hair", chart).hidden = false;
}
for (const button of $$(".toggle")) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", !on(button));
    showCurves();
  });
}
for (const box of $$(".readout")) {
  const [slider, chart] = [$("input", box), $(".curve", box.parentElement)];
  slider.addEventListener("input", () => readOut(box));
  chart.addEventListener("pointermove", (event) => {
    const around = chart.getBoundingClientRect();
    const { first, last } = $("svg", chart).dataset;
    const share = ((event.clientX - around.left) / around.width - first) / (last - first || 1);
    slider.value = Math.round(1 + share * (slider.max - 1));
    readOut(box);
  });
}
if (fit) showCurves();

// Images: tiles of one large image, found by their numbers in the test set.
const atlas = $("#atlas");
const tiles = new Map((data.images || []).map((image, place) => [image, place]));
function photo(image) {
  const [width, height] = data.tile;
  const canvas = make("canvas", "", { width, height, role: "img", ariaLabel: `test image ${image}` });
  const [x, y] = [(tiles.get(image) % data.columns) * width, Math.floor(tiles.get(image) / data.columns) * height];
  canvas.getContext("2d").drawImage(atlas, x, y, width, height, 0, 0, width, height);
  return canvas;
}
atlas?.decode().then(() => $$("[data-image]").forEach((place) => {
  if (tiles.has(+place.dataset.image)) place.replaceChildren(photo(+place.dataset.image));
}));

// The confusion matrix. `runs[model][seed]` are predictions, one for each test image, `labels` the true classes.
async function unpacked() {
  const bytes = Uint8Array.from(atob(data.packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const all = new Uint8Array(await new Response(stream).arrayBuffer());
  let rows = 0;
  const next = () => all.subarray(rows * data.total, (rows += 1) * data.total);
  const labels = next();
  const runs = data.models.map(({ seeds }) => seeds.map(() => next().map((shift, image) => shift + labels[image])));
  return { labels, runs };
}

function matrix({ labels, runs }) {
  const [names, size] = [data.classes, data.classes.length];
  const [box, note, status, gallery] = ["#matrix", "#matrix-note", "#cell", "#gallery"].map((id) => $(id));
  const [modelSelect, seedSelect, minusSelect] = ["#model", "#seed", "#minus"].map((id) => $(id));
  const ofClass = names.map((_, label) => labels.reduce((count, own) => count + (own === label), 0));
  const title = (label, taken) => `${names[label]} ${label === taken ? "found" : `taken for ${names[taken]}`}`;
  let [now, focused] = [null, [0, 0]];

  function counts(predictions) {
    const cells = new Int32Array(size * size);
    labels.forEach((label, image) => { cells[label * size + predictions[image]] += 1; });
    return cells;
  }
  // The chosen model and seeds; with a second model, the seeds that both have.
  function chosen() {
    const model = +modelSelect.value;
    const other = minusSelect?.value ? +minusSelect.value : model;
    const minus = other === model ? null : other;
    const seeds = data.models[model].seeds.filter((seed) => ["all", `${seed}`].includes(seedSelect.value)
      && data.models[other].seeds.includes(seed));
    const of = (which) => seeds.map((seed) => runs[which][data.models[which].seeds.indexOf(seed)]);
    return { model, minus, seeds, first: of(model), second: minus === null ? [] : of(minus) };
  }
  // What the cells of a model say: counts over seeds, with shares of the row, and the colour by the share's cube root.
  function countCells({ seeds, first }) {
    const each = first.map(counts);
    return Array.from({ length: size * size }, (_, cell) => {
      const label = Math.floor(cell / size);
      const [count, all] = [sum(each.map((of) => of[cell])), ofClass[label] * seeds.length];
      const percent = `${(100 * count / Math.max(1, all)).toFixed(1)}%`;
      const told = () => `${title(label, cell % size)}: ${written(count)} of ${plural(all, "prediction")}, ${percent}`;
      const look = { share: Math.cbrt(count / Math.max(1, all)), hue: count ? "" : "none" };
      return { text: written(count), small: count ? percent : "", ...look, told };
    });
  }
  // What the cells of a difference say: its mean over seeds in points, grey where the t-interval doesn't exclude 0.
  function changeCells({ seeds, first, second }) {
    const [a, b, n] = [first.map(counts), second.map(counts), seeds.length];
    const cells = Array.from({ length: size * size }, (_, cell) => {
      const label = Math.floor(cell / size);
      const changes = a.map((of, index) => (of[cell] - b[index][cell]) / Math.max(1, ofClass[label]));
      const mean = sum(changes) / n;
      const error = Math.sqrt(sum(changes.map((change) => (change - mean) ** 2)) / (n - 1) / n);
      const unsure = n in data.t && !(error > 1e-12 && Math.abs(mean) > data.t[n] * error);
      const points = `${mean > 0 ? "+" : ""}${(100 * mean).toFixed(1)}`.replace("-", "−").replace(/^.0\.0$/, "0.0");
      const why = unsure ? "; its 95% interval covers 0 or is undefined" : "";
      const told = () => `${title(label, cell % size)}: ${points} points of ${plural(ofClass[label], "image")}${why}`;
      return { text: points, small: "", size: unsure ? 0 : Math.abs(mean), told,
        hue: unsure ? "unsure" : mean > 0 ? "plus" : mean < 0 ? "minus" : "none" };
    });
    const largest = Math.max(0.001, ...cells.map((cell) => cell.size));
    return cells.map((cell) => ({ ...cell, share: cell.size / largest }));
  }
  function describe({ model, minus, seeds }) {
    const [name, other] = [data.models[model].name, minus === null ? "" : data.models[minus].name];
    if (!seeds.length) return `${name} and ${other} have no such seed in common.`;
    const over = seeds.length > 1 ? `over seeds ${seeds.join(", ")}` : `seed ${seeds[0]}`;
    const grey = seeds.length in data.t ? "grey where the unadjusted 95% interval covers 0 or is undefined"
      : "too few seeds for intervals";
    return (minus === null ? `${name}, ${over}: test images by true class (rows) and predicted class (columns), percent
      of the row.` : `${name} minus ${other}, ${over}: percentage points of the row; ${grey}.`)
      + " Arrow keys move; Enter or a click shows the images of a cell.";
  }
  function draw() {
    now = chosen();
    note.textContent = describe(now);
    for (const part of [gallery, status]) part.replaceChildren();
    const cells = !now.seeds.length ? [] : now.minus === null ? countCells(now) : changeCells(now);
    now.told = cells.map((cell) => cell.told);
    const table = make("table", "", { role: "grid", ariaLabel: note.textContent });
    const head = table.createTHead().insertRow();
    head.append(make("th", "true \\ predicted", { scope: "col" }));
    for (const title of names) head.appendChild(make("th", "", { scope: "col", title })).append(make("span", title));
    const body = table.createTBody();
    for (let label = 0; label * size < cells.length; label += 1) {
      const row = body.insertRow();
      row.append(make("th", names[label], { scope: "row", title: names[label] }));
      for (const { text, small, share, hue } of cells.slice(label * size, (label + 1) * size)) {
        const cell = make("td", size <= 25 ? text : "", { tabIndex: -1, ariaLabel: size <= 25 ? null : text });
        cell.className = `${hue}${share > 0.74 ? " strong" : ""}`;
        if (small && size <= 12) cell.append(make("small", small));
        if (share) cell.style.setProperty("--share", `${(100 * share).toFixed(1)}%`);
        row.append(cell);
      }
    }
    const short = size <= 25 && names.every((name) => name.length <= 4);
    box.className = `scroll matrix ${size <= 12 ? "" : size <= 25 ? "middle" : "dense"} ${short ? "flat" : ""}`;
    box.replaceChildren(...(cells.length ? [table] : []));
    if (cells.length) at(...focused).tabIndex = 0;
  }
  const at = (label, taken) => $("tbody", box).rows[label].cells[taken + 1];
  const placeOf = (cell) => [cell.parentElement.rowIndex - 1, cell.cellIndex - 1];
  const tell = (label, taken, more = "") => { status.textContent = `${now.told[label * size + taken]()}.${more}`; };
  // The images of a cell, those first that most seeds of the model put there; of two models, where they differ most.
  function show(label, taken) {
    const times = (which, image) => runs[which].filter((predictions) => predictions[image] === taken).length;
    const wrong = (which, image) => runs[which].filter((predictions) => predictions[image] !== label).length;
    const share = (which, image) => times(which, image) / runs[which].length;
    const need = (image) => {
      if (now.minus !== null) return Math.abs(share(now.model, image) - share(now.minus, image));
      return label === taken ? wrong(now.model, image) : times(now.model, image);
    };
    const seen = [...now.first, ...now.second];
    const found = [...labels.keys()]
      .filter((image) => labels[image] === label && seen.some((predictions) => predictions[image] === taken))
      .map((image) => [image, need(image)])
      .sort(([a, x], [b, y]) => y - x || a - b);
    const shown = found.filter(([image]) => !tiles.size || tiles.has(image)).slice(0, data.most);
    const list = make("ul", "", { className: "images" });
    for (const [image] of shown) {
      const told = [now.model, now.minus].filter((which) => which !== null).map((which) => (
        `${now.minus === null ? "" : `${data.models[which].name}: `}predicted ${names[taken]} with `
        + `${times(which, image)} of ${plural(runs[which].length, "seed")}, wrong with ${wrong(which, image)}`));
      const item = list.appendChild(make("li", ""));
      if (tiles.has(image)) item.appendChild(make("span", "", { className: "photo" })).append(photo(image));
      item.append(make("span", `no. ${image}, true ${names[label]}; ${told.join("; ")}`, { className: "told" }));
    }
    const missing = tiles.size ? "" : "; the images weren't at hand when this page was written";
    const how = found.length ? `${shown.length} of ${written(found.length)} shown${missing}` : "no image";
    gallery.replaceChildren(make("h3", `${title(label, taken)}: ${how}`), list);
    for (const other of $$("[aria-selected]", box)) other.removeAttribute("aria-selected");
    at(label, taken).setAttribute("aria-selected", "true");
    tell(label, taken, ` Below: ${how}.`);
  }
  function focus(label, taken) {
    at(...focused).tabIndex = -1;
    focused = [label, taken];
    at(label, taken).tabIndex = 0;
    at(label, taken).focus();
  }
  for (const kind of ["pointerover", "focusin", "click"]) {
    box.addEventListener(kind, (event) => {
      const cell = event.target.closest("td");
      if (cell) (kind === "click" ? [focus, show] : [tell]).forEach((act) => act(...placeOf(cell)));
    });
  }
  box.addEventListener("keydown", (event) => {
    const [[label, taken], end] = [focused, size - 1];
    const to = { ArrowUp: [label - 1, taken], ArrowDown: [label + 1, taken], ArrowLeft: [label, taken - 1],
      ArrowRight: [label, taken + 1], Home: [label, 0], End: [label, end], PageUp: [0, taken], PageDown: [end, taken] };
    if (event.key in to) focus(...to[event.key].map((place) => Math.min(end, Math.max(0, place))));
    else if (event.key === "Enter" || event.key === " ") show(label, taken);
    else return;
    event.preventDefault();
  });
  function offerSeeds() {
    const { seeds } = data.models[+modelSelect.value];
    const kept = seeds.find((seed) => `${seed}` === seedSelect.value) ?? "all";
    seedSelect.replaceChildren(...["all", ...seeds].map((seed) => new Option(seed, seed, false, seed === kept)));
    draw();
  }
  modelSelect.addEventListener("change", offerSeeds);
  for (const select of [seedSelect, minusSelect]) select?.addEventListener("change", draw);
  offerSeeds();
}
if (data.packed) {
  unpacked().then(matrix).catch((error) => {
    $("#matrix-note").textContent = `The matrix can't be shown (${error.message}); a newer browser can.`;
  });
}
