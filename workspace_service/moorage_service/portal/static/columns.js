// A chart is read column by column: with the pointer, or with the arrow keys. Its words stand under it, and in the table below it.

function step(column, key) {
  const all = [...column.parentElement.querySelectorAll(".column")];
  const at = all.indexOf(column);
  const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[key];
  return next === undefined ? null : all[Math.max(0, Math.min(all.length - 1, next))];
}

function read(chart, column) {
  const place = chart.querySelector("[data-reads]");
  place.dataset.reads ||= place.textContent;
  place.textContent = column ? column.getAttribute("aria-label") : place.dataset.reads;
}

// Days begin at midnight where the reader is, which the server can't know at first.
function ownZone() {
  const form = document.querySelector("[data-zone-form]");
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const query = new URLSearchParams(location.search);
  if (!form || !zone || query.has("timezone") || form.elements.timezone.value === zone) return;
  query.set("timezone", zone);
  location.replace(`${location.pathname}?${query}`);
}

export function readColumns() {
  ownZone();
  const columnOf = (event) => event.target.closest?.("[data-chart] .column");
  for (const [begin, end] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
    document.addEventListener(begin, (event) => columnOf(event) && read(columnOf(event).closest("[data-chart]"), columnOf(event)));
    document.addEventListener(end, (event) => columnOf(event) && read(columnOf(event).closest("[data-chart]"), null));
  }
  document.addEventListener("keydown", (event) => {
    const column = columnOf(event);
    const next = column && step(column, event.key);
    if (!next) return;
    event.preventDefault();
    column.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  });
}
