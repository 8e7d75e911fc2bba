// A table whose rows stay the same elements: only what changed is written.

import { make, setAttribute } from "./dom.js";

/** Build a head; columns with `sort` get a button. Return what `mark` needs to show the order. */
export function head(table, caption, columns, onSort) {
  const cells = columns.map((column) => {
    const label = column.sort
      ? make("button", { type: "button", onclick: () => onSort(column.name), title: column.help }, column.title, make("span", { class: "arrow", "aria-hidden": "true" }))
      : column.hideTitle ? make("span", { class: "hidden" }, column.title) : column.title;
    return make("th", { scope: "col", class: column.kind ?? "", "data-column": column.name, title: column.sort ? null : column.help }, label);
  });
  table.append(make("caption", { class: "hidden" }, caption), make("thead", {}, make("tr", {}, cells)), make("tbody"));
  return (name, descending) => {
    for (const cell of cells) {
      if (!cell.querySelector("button")) continue;
      setAttribute(cell, "aria-sort", cell.dataset.column === name ? (descending ? "descending" : "ascending") : null);
    }
  };
}

