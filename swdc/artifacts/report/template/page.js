"use strict";

// A theme that the reader chose stands above that of the system, and is kept where the browser lets a file keep it.
const root = document.documentElement;
const toggle = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const kept = {
  get() { try { return localStorage.getItem("swdc-theme"); } catch { return null; } },
  set(theme) { try { localStorage.setItem("swdc-theme", theme); } catch { /* it holds for this page alone */ } },
};
function other() {
  const now = root.dataset.theme || (system.matches ? "dark" : "light");
  return now === "dark" ? "light" : "dark";
}
function tellTheme() {
  toggle.textContent = other() === "dark" ? "Dark" : "Light";
  toggle.setAttribute("aria-label", `Change to ${other()} colours`);
}
if (["light", "dark"].includes(kept.get())) root.dataset.theme = kept.get();
toggle.addEventListener("click", () => {
  root.dataset.theme = other();
  kept.set(root.dataset.theme);
  tellTheme();
});
system.addEventListener("change", tellTheme);
tellTheme();
toggle.hidden = false;

// Tables: a button in the head sorts; numbers start with the largest, and what is missing stands last.
const collator = new Intl.Collator("en", { numeric: true });

function columnOf(head) {
  const places = [];
  const table = head.closest("table");
  [...table.tHead.rows].forEach((row, line) => {
    let column = 0;
    for (const cell of row.cells) {
      while (places[line]?.[column]) column += 1;
      for (let down = line; down < line + cell.rowSpan; down += 1)
        for (let right = column; right < column + cell.colSpan; right += 1) (places[down] ??= [])[right] = cell;
      column += cell.colSpan;
    }
  });
  return places.at(-1).indexOf(head);
}

function keyOf(cell) {
  const value = cell.dataset.v;
  return value === undefined ? cell.textContent.trim() : value === "" ? null : Number(value);
}

function sort(head) {
  const numbers = head.classList.contains("n");
  const first = numbers ? "descending" : "ascending";
  const second = numbers ? "ascending" : "descending";
  const order = head.getAttribute("aria-sort") === first ? second : first;
  const table = head.closest("table");
  for (const each of table.tHead.querySelectorAll("[aria-sort]")) each.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", order);
  const column = columnOf(head);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row.cells[column]), row]);
  rows.sort(([one], [two]) => {
    if (one === null || two === null) return (one === null) - (two === null);
    return sign * (typeof one === "number" && typeof two === "number" ? one - two : collator.compare(one, two));
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const button of document.querySelectorAll(".sort"))
  button.addEventListener("click", () => sort(button.closest("th")));

// Long tables: a field that leaves the rows that hold its words.
for (const field of document.querySelectorAll("[data-finds]"))
  field.addEventListener("input", () => {
    const table = document.getElementById(field.dataset.finds);
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      found += !row.hidden;
    }
    const all = table.tBodies[0].rows.length;
    const count = found === all ? all.toLocaleString("en") : `${found.toLocaleString("en")} of ${all.toLocaleString("en")}`;
    field.parentElement.querySelector("output").textContent = `${count} ${table.dataset.things}`;
  });

// Pictures: what lies under the pointer, or where the arrow keys have gone, is told in words above the picture.
for (const picture of document.querySelectorAll("[data-told]")) {
  const told = document.getElementById(picture.dataset.told);
  const marks = [...picture.querySelectorAll(".tip")];
  let here = -1;
  const show = (number) => {
    marks[here]?.classList.remove("here");
    here = number;
    marks[here].classList.add("here");
    told.textContent = marks[here].dataset.tip;
  };
  const reveal = () => {
    const [mark, frame] = [marks[here].getBoundingClientRect(), picture.getBoundingClientRect()];
    if (mark.left < frame.left + 60) picture.scrollLeft += mark.left - frame.left - 60;
    if (mark.right > frame.right - 60) picture.scrollLeft += mark.right - frame.right + 60;
  };
  picture.addEventListener("pointerover", (event) => {
    const mark = event.target.closest(".tip");
    if (mark) show(marks.indexOf(mark));
  });
  picture.addEventListener("keydown", (event) => {
    const last = marks.length - 1;
    const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: last }[event.key];
    if (next === undefined || last < 0) return;
    event.preventDefault();
    show(Math.max(0, Math.min(last, next)));
    reveal();
  });
}
