"use strict";
// What the page can do beside being read: switch curves, sort tables, and show a confusion matrix and its images.
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, text = "", properties = {}) => Object.assign(document.createElement(tag), { textContent: text }, properties);
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
const data = JSON.parse($("#data").textContent);

// Of several parts one is shown, the one that is picked; without this script, and in print, all are.
function pick(group, key) {
  for (const part of $$(`[data-of="${group}"]`)) part.hidden = part.dataset.key !== key;
}
for (const control of $$("[data-picks]")) {
  const show = () => control.type === "radio" && !control.checked || pick(control.dataset.picks, control.value);
  control.addEventListener("change", show);
  show();
}
let opened = [];
addEventListener("beforeprint", () => {
  opened = $$("details:not([open])");
  for (const part of opened) part.open = true;
});
addEventListener("afterprint", () => { for (const part of opened) part.open = false; });

// Tables: a click on a heading sorts by its column, numbers by the first in a cell, what has none last.
function sort(table, column, down) {
  const number = (row) => parseFloat((row.cells[column].textContent.replaceAll(",", "").match(/-?\d+(\.\d+)?/) || ["NaN"])[0]);
  const rows = [...table.tBodies[0].rows];
  const words = column === 0;
  rows.sort((a, b) => {
    if (words) return (down ? -1 : 1) * a.cells[0].textContent.trim().localeCompare(b.cells[0].textContent.trim(), "en", { numeric: true });
    const [x, y] = [number(a), number(b)];
    return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : (down ? y - x : x - y);
  });
  table.tBodies[0].append(...rows);
}
for (const button of $$(".sort")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const down = heading.cellIndex === 0 ? heading.ariaSort === "ascending" : heading.ariaSort !== "descending";
    for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    sort(heading.closest("table"), heading.cellIndex, down);
  });
}

// Curves: models on and off, and their values at an epoch, from the table below the chart.
const toggles = $$(".toggle[data-model]");
const fit = $("#fit");
const on = (button) => button.getAttribute("aria-pressed") === "true";
function showCurves() {
  for (const button of toggles) {
    for (const part of $$(`.curve .${button.dataset.model}`)) {
      part.toggleAttribute("hidden", !on(button) || part.classList.contains("fit") && !on(fit));
    }
  }
  $$(".readout").forEach(readOut);
}
function readOut(box) {
  const [slider, list, chart] = [$("input", box), $("ul", box), $(".curve", box.parentElement)];
  const epoch = +slider.value;
  const cells = $("table", box.parentElement.nextElementSibling).tBodies[0].rows[epoch - 1].cells;
  $("output", box).value = epoch;
  slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
  list.replaceChildren();
  toggles.forEach((button, index) => {
    for (const [column, of] of [[index, ""], [index + toggles.length, ", training images"]]) {
      if (!on(button) || of && !on(fit)) continue;
      const item = list.appendChild(make("li"));
      item.append($(".name", button).cloneNode(true), of, make("span", cells[column + 1].textContent || "stopped before"));
    }
  });
  const { first, last } = $("svg", chart).dataset;
  const share = +first + (slider.max > 1 ? (epoch - 1) / (slider.max - 1) : 0) * (last - first);
  $(".hair", chart).style.left = `${100 * share}%`;
  $(".hair", chart).hidden = false;
}
for (const button of $$(".toggle")) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", !on(button));
    showCurves();
  });
}
for (const box of $$(".readout")) {
  const slider = $("input", box);
  const chart = $(".curve", box.parentElement);
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

// Images: tiles of one large image, drawn by their numbers in the test set.
const atlas = $("#atlas");
const tiles = new Map((data.images || []).map((image, place) => [image, place]));
function photo(image, label) {
  const canvas = make("canvas", "", { width: data.side, height: data.side });
  const place = tiles.get(image);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const [x, y] = [(place % 32) * data.side, Math.floor(place / 32) * data.side];
  canvas.getContext("2d").drawImage(atlas, x, y, data.side, data.side, 0, 0, data.side, data.side);
  return canvas;
}
function showPhotos() {
  for (const place of $$("[data-image]")) {
    const image = +place.dataset.image;
    if (tiles.has(image)) place.replaceChildren(photo(image, `test image ${image}`));
  }
}
if (atlas) atlas.decode().then(showPhotos);

// The confusion matrix. `runs[model][seed]` are predictions, one for each test image.
async function matrix() {
  const packed = Uint8Array.from(atob(data.packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array(await new Response(stream).arrayBuffer());
  const labels = rows.subarray(0, data.total);
  let row = 0;
  const runs = data.models.map((model) => model.seeds.map(() => {
    row += 1;
    return rows.subarray(row * data.total, (row + 1) * data.total).map((shift, image) => shift + labels[image]);
  }));
  const [names, size] = [data.classes, data.classes.length];
  const [box, note, status, gallery] = ["#matrix", "#matrix-note", "#cell", "#gallery"].map((id) => $(id));
  const [modelSelect, seedSelect, minusSelect] = ["#model", "#seed", "#minus"].map((id) => $(id));
  const ofClass = new Int32Array(size);
  for (const label of labels) ofClass[label] += 1;

  function counts(predictions) {
    const cells = new Int32Array(size * size);
    labels.forEach((label, image) => { cells[label * size + predictions[image]] += 1; });
    return cells;
  }
  // The chosen model and seeds; with a second model, the seeds that both have.
  function chosen() {
    const model = +modelSelect.value;
    const minus = minusSelect && minusSelect.value !== "" && +minusSelect.value !== model ? +minusSelect.value : null;
    const has = (which, seed) => data.models[which].seeds.includes(seed);
    const seeds = data.models[model].seeds.filter((seed) => (seedSelect.value === "all" || seed === +seedSelect.value) && (minus === null || has(minus, seed)));
    const of = (which) => seeds.map((seed) => runs[which][data.models[which].seeds.indexOf(seed)]);
    return { model, minus, seeds, first: of(model), second: minus === null ? [] : of(minus) };
  }
  function offerSeeds() {
    const before = seedSelect.value || "all";
    const { seeds } = data.models[+modelSelect.value];
    const all = make("option", seeds.length > 1 ? "all" : `${seeds[0]}`, { value: "all" });
    seedSelect.replaceChildren(all, ...(seeds.length > 1 ? seeds.map((seed) => make("option", seed, { value: seed })) : []));
    seedSelect.value = $$("option", seedSelect).some((option) => option.value === before) ? before : "all";
  }
  let focused = [0, 0];
  let now;
  // What each cell says: {text, small, share, hue, sentence}.
  function cellsOf({ model, minus, seeds, first, second }) {
    const one = first.map(counts);
    const other = second.map(counts);
    const n = seeds.length;
    const biggest = { value: 0.001 };
    const cells = Array.from({ length: size * size }, (_, cell) => {
      const [label, taken] = [Math.floor(cell / size), cell % size];
      const what = label === taken ? `${names[label]} found` : `${names[label]} taken for ${names[taken]}`;
      const images = Math.max(1, ofClass[label]);
      if (minus === null) {
        const count = one.reduce((sum, of) => sum + of[cell], 0);
        const share = count / images / n;
        const sentence = `${what}: ${count.toLocaleString("en")} of ${plural(ofClass[label] * n, "prediction")}, ${(100 * share).toFixed(1)}%`;
        return { text: count.toLocaleString("en"), small: count ? `${(100 * share).toFixed(1)}%` : "", share: Math.cbrt(share), hue: count ? "" : "none", sentence };
      }
      const changes = one.map((of, index) => (of[cell] - other[index][cell]) / images);
      const mean = changes.reduce((sum, change) => sum + change, 0) / n;
      const sd = Math.sqrt(changes.reduce((sum, change) => sum + (change - mean) ** 2, 0) / (n - 1));
      const unsure = n in data.t && !(Math.abs(mean) > data.t[n] * sd / Math.sqrt(n) && sd > 1e-12);
      if (!unsure) biggest.value = Math.max(biggest.value, Math.abs(mean));
      const points = (100 * mean).toFixed(1).replace("-", "−").replace(/^−0\.0$/, "0.0");
      const sentence = `${what}: ${mean > 0 ? "+" : ""}${points} points of ${plural(ofClass[label], "image")}${unsure ? "; its 95% interval covers 0 or is undefined" : ""}`;
      return { text: mean > 0 && points !== "0.0" ? `+${points}` : points, small: "", mean, hue: unsure ? "unsure" : mean > 0 ? "plus" : mean < 0 ? "minus" : "none", sentence };
    });
    if (minus !== null) for (const cell of cells) cell.share = cell.hue === "unsure" ? 0 : Math.abs(cell.mean) / biggest.value;
    return cells;
  }
  function draw() {
    now = chosen();
    const { model, minus, seeds } = now;
    const name = data.models[model].name;
    gallery.replaceChildren();
    status.textContent = "";
    if (!seeds.length) {
      note.textContent = `${name} and ${data.models[minus].name} have no such seed in common.`;
      box.replaceChildren();
      return;
    }
    const over = seeds.length > 1 ? `over seeds ${seeds.join(", ")}` : `seed ${seeds[0]}`;
    note.textContent = minus === null
      ? `${name}, ${seeds.length > 1 ? "summed " : ""}${over}: test images by true class (rows) and predicted class (columns); percent of the row.`
      : `${name} minus ${data.models[minus].name}, ${over}: percentage points of the row; grey where the unadjusted 95% interval covers 0 or is undefined${seeds.length in data.t ? "" : " (too few seeds for intervals)"}.`;
    note.textContent += " Arrow keys move; Enter or a click shows the images of a cell.";
    const cells = cellsOf(now);
    now.sentences = cells.map((cell) => cell.sentence);
    const table = make("table");
    table.setAttribute("role", "grid");
    table.setAttribute("aria-label", note.textContent);
    const head = table.createTHead().insertRow();
    head.append(make("th", "true \\ predicted", { scope: "col" }));
    for (const title of names) {
      const heading = head.appendChild(make("th", "", { scope: "col", title }));
      heading.append(make("span", title));
    }
    const body = table.createTBody();
    names.forEach((title, label) => {
      const line = body.insertRow();
      line.append(make("th", title, { scope: "row", title }));
      for (let taken = 0; taken < size; taken += 1) {
        const { text, small, share, hue } = cells[label * size + taken];
        const cell = make("td", text, { tabIndex: -1, className: `${hue}${share > 0.74 ? " strong" : ""}` });
        if (small && size <= 12) cell.append(make("small", small));
        if (share) cell.style.setProperty("--share", `${(100 * share).toFixed(1)}%`);
        line.append(cell);
      }
    });
    box.className = `scroll matrix ${size <= 12 ? "" : size <= 25 ? "middle" : "dense"}`;
    box.replaceChildren(table);
    at(...focused).tabIndex = 0;
  }
  const at = (label, taken) => $("tbody", box).rows[label].cells[taken + 1];
  const placeOf = (cell) => [cell.parentElement.rowIndex - 1, cell.cellIndex - 1];
  function tell(cell) {
    const [label, taken] = placeOf(cell);
    status.textContent = `${now.sentences[label * size + taken]}.`;
  }
  // The images of a cell, those first that most seeds of the model put there; of two models, where they differ most.
  function show(cell) {
    const [label, taken] = placeOf(cell);
    const whole = (model) => runs[model].length;
    const times = (model, image) => runs[model].filter((predictions) => predictions[image] === taken).length;
    const wrong = (model, image) => runs[model].filter((predictions) => predictions[image] !== label).length;
    const { model, minus } = now;
    const found = [];
    labels.forEach((own, image) => {
      if (own !== label || ![...now.first, ...now.second].some((predictions) => predictions[image] === taken)) return;
      const often = label === taken ? wrong(model, image) : times(model, image);
      found.push({ image, need: minus === null ? often : Math.abs(times(model, image) / whole(model) - times(minus, image) / whole(minus)) });
    });
    found.sort((a, b) => b.need - a.need || a.image - b.image);
    const shown = (tiles.size ? found.filter(({ image }) => tiles.has(image)) : found).slice(0, data.most);
    const title = label === taken ? `${names[label]}, found` : `${names[label]} taken for ${names[taken]}`;
    const list = make("ul", "", { className: "images" });
    for (const { image } of shown) {
      const of = [model, ...(minus === null ? [] : [minus])].map((which) => {
        const which_name = minus === null ? "" : `${data.models[which].name}: `;
        return `${which_name}predicted ${names[taken]} with ${times(which, image)} of ${plural(whole(which), "seed")}, wrong with ${wrong(which, image)}`;
      }).join("; ");
      const item = list.appendChild(make("li"));
      if (tiles.has(image)) item.append(make("span", "", { className: "photo" })), item.firstChild.append(photo(image, `test image ${image}`));
      item.append(make("span", `no. ${image}, true ${names[label]}; ${of}`, { className: "told" }));
    }
    const why = !found.length ? "no image" : tiles.size ? `${shown.length} of ${found.length} shown` : `${shown.length} of ${found.length} named; the images weren't at hand when this page was written`;
    gallery.replaceChildren(make("h3", `${title}: ${why}`), list);
    for (const other of $$("[aria-selected]", box)) other.removeAttribute("aria-selected");
    cell.setAttribute("aria-selected", "true");
    status.textContent = `${now.sentences[label * size + taken]}. ${why}, below.`;
  }
  function focus(label, taken) {
    at(...focused).tabIndex = -1;
    focused = [label, taken];
    at(label, taken).tabIndex = 0;
    at(label, taken).focus();
  }
  box.addEventListener("pointerover", (event) => event.target.closest("td") && tell(event.target.closest("td")));
  box.addEventListener("focusin", (event) => event.target.closest("td") && tell(event.target.closest("td")));
  box.addEventListener("click", (event) => {
    const cell = event.target.closest("td");
    if (cell) focus(...placeOf(cell)), show(cell);
  });
  box.addEventListener("keydown", (event) => {
    const [label, taken] = focused;
    const end = size - 1;
    const to = { ArrowUp: [label - 1, taken], ArrowDown: [label + 1, taken], ArrowLeft: [label, taken - 1], ArrowRight: [label, taken + 1], Home: [label, 0], End: [label, end], PageUp: [0, taken], PageDown: [end, taken] }[event.key];
    if (to) focus(...to.map((place) => Math.min(end, Math.max(0, place))));
    else if (event.key === "Enter" || event.key === " ") show(event.target.closest("td"));
    else return;
    event.preventDefault();
  });
  modelSelect.addEventListener("change", () => { offerSeeds(); draw(); });
  seedSelect.addEventListener("change", draw);
  minusSelect?.addEventListener("change", draw);
  offerSeeds();
  draw();
}
if (data.packed) matrix().catch((error) => { $("#matrix-note").textContent = `The matrix can't be shown (${error.message}); a newer browser can.`; });

// While the run goes on, the page loads itself again, unless somebody is just using it.
const written = +document.body.dataset.live;
if (written) {
  let used = 0;
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, () => { used = Date.now(); });
  setInterval(() => {
    const seconds = Math.round(Date.now() / 1000 - written);
    $("#age").textContent = seconds < 600 ? `Written ${seconds} seconds ago.` : `Nothing new for ${Math.round(seconds / 60)} minutes: the run may have been stopped.`;
    if (Date.now() - used > 15000 && !document.hidden && seconds > 3) location.reload();
  }, 5000);
}
