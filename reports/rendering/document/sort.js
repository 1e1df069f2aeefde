// A click on a heading sorts its table: numbers by value, empty cells last, then the other way round.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.querySelectorAll("tr.heads th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = row => {
      const cell = row.cells[column];
      if ("v" in cell.dataset) return Number(cell.dataset.v);
      const text = cell.textContent.trim();
      return text === "–" || text === "" ? null : text;
    };
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    const rows = [...table.tBodies[0].rows].map(row => [key(row), row]);
    rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : (descending ? -1 : 1) * compare(a, b));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}
