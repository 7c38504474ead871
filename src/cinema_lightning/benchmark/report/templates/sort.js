// A click on a heading sorts its table by that column: up, then down.
for (const head of document.querySelectorAll("thead th")) {
  const sort = () => {
    const place = head.cellIndex, body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    const key = row => {
      const cell = row.cells[place], number = cell.dataset.sort;
      return number === undefined ? cell.textContent : Number(number);
    };
    const none = row => row.cells[place].querySelector(".muted") !== null;
    const order = (a, b) => none(a) - none(b) ||
      (down ? -1 : 1) * (typeof key(a) === "number" && typeof key(b) === "number" ? key(a) - key(b)
        : String(key(a)).localeCompare(String(key(b)), undefined, {numeric: true}));
    body.append(...[...body.rows].sort(order));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  head.tabIndex = 0;
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
