// Times that go on by themselves: "3 min ago", "1 min 12 s", and clock times in the reader's own zone.

function coarse(seconds) {
  for (const [name, length] of [["day", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) {
      const count = Math.floor(seconds / length);
      return `${count} ${name}${name === "day" && count !== 1 ? "s" : ""}`;
    }
  }
  return `${Math.floor(seconds)} s`;
}

function span(seconds) {
  const total = Math.max(0, Math.floor(seconds));
  if (total < 60) return `${total} s`;
  if (total < 3600) return total % 60 ? `${Math.floor(total / 60)} min ${total % 60} s` : `${total / 60} min`;
  if (total < 86400) {
    const minutes = Math.floor((total % 3600) / 60);
    return minutes ? `${Math.floor(total / 3600)} h ${minutes} min` : `${Math.floor(total / 3600)} h`;
  }
  return coarse(total);
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function tick() {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[data-since]")) {
    write(element, span((now - Date.parse(element.dateTime)) / 1000));
  }
  for (const element of document.querySelectorAll("time[data-ago]")) {
    const passed = (now - Date.parse(element.dateTime)) / 1000;
    write(element, Math.abs(passed) < 5 ? "just now" : passed > 0 ? `${coarse(passed)} ago` : `in ${coarse(-passed)}`);
  }
  for (const element of document.querySelectorAll("time[data-clock]")) {
    write(element, new Date(element.dateTime).toLocaleTimeString([], { hour12: false }));
  }
  for (const element of document.querySelectorAll("time[data-date]")) {
    write(element, new Date(element.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short", hour12: false }));
  }
}

export function startClocks() {
  tick();
  setInterval(tick, 1000);
}
