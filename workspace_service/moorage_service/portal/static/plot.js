// How many workers there were since the page was opened: kept in this tab, drawn as a step line.

const MOST = 600;
const WIDTH = 600;
const HEIGHT = 110;

export function drawPlots() {
  for (const place of document.querySelectorAll("[data-plot]")) {
    const key = `moorage-plot:${place.dataset.plot}`;
    const known = JSON.parse(sessionStorage.getItem(key) ?? "[]");
    known.push([Date.now(), Number(place.dataset.value)]);
    const points = known.slice(-MOST);
    sessionStorage.setItem(key, JSON.stringify(points));
    draw(place, points, Math.max(1, Number(place.dataset.max)));
  }
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function draw(place, points, most) {
  const [start, end] = [points[0][0], Math.max(points.at(-1)[0], points[0][0] + 60000)];
  const x = (at) => ((at - start) / (end - start)) * WIDTH;
  const y = (count) => HEIGHT - 6 - (count / most) * (HEIGHT - 16);
  let line = `M0,${y(points[0][1])}`;
  for (const [at, count] of points.slice(1)) line += `H${x(at).toFixed(1)}V${y(count).toFixed(1)}`;
  const last = x(points.at(-1)[0]).toFixed(1);
  const svg = shape("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" });
  svg.append(
    shape("path", { class: "area", d: `${line}H${last}V${y(0)}H0Z` }),
    shape("line", { class: "max", x1: 0, x2: WIDTH, y1: y(most), y2: y(most) }),
    shape("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(0), y2: y(0) }),
    shape("path", { class: "line", d: line }),
  );
  place.replaceChildren(svg);
}
