"use strict";
const made = []; // every head of a sortable column, and its button

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  // What may be reordered: never the fixed rows, never those of another table.
  const bodies = [...table.tBodies].filter((body) => !body.classList.contains("fixed"));
  const first = bodies.map((body) => [...body.rows]);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    made.push([head, button]);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[head.getAttribute("aria-sort")];
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", order);
      bodies.forEach((body, number) => body.append(...sorted(first[number], column, order)));
    });
  });
}

function sorted(rows, column, order) {
  if (order === "none") return rows;
  const sign = order === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [row.cells[column].dataset.value, row]);
  const numeric = keyed.every(([text]) => text === "" || Number.isFinite(Number(text)));
  keyed.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // what has no value stands last
    return sign * (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  });
  return keyed.map(([, row]) => row);
}

// On paper nothing can be unfolded, and a head that holds a button is not repeated on every page.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  for (const [, button] of made) button.replaceWith(...button.childNodes);
});
addEventListener("afterprint", () => {
  for (const [head, button] of made) {
    button.append(...head.childNodes);
    head.append(button);
  }
});
