// Sizes: a slider and its number say the same; presets fill them; the sum is compared with what is left.

const GIB = 2 ** 30;

export function coupleSizes() {
  for (const form of document.querySelectorAll("form[data-sizes]")) {
    form.addEventListener("input", (event) => {
      if (event.target.dataset.fills) fill(form, JSON.parse(event.target.dataset.fills));
      couple(form, event.target);
      sum(form);
    });
    form.addEventListener("click", (event) => {
      const preset = event.target.closest("button[data-preset]");
      if (!preset) return;
      fill(form, JSON.parse(preset.dataset.preset));
      sum(form);
    });
    for (const field of form.elements) if (field.type === "number") couple(form, field);
    sum(form);
  }
}

function fill(form, values) {
  for (const [name, value] of Object.entries(values)) {
    const field = form.elements.namedItem(name);
    if (!field) continue;
    field.value = value;
    couple(form, field);
  }
}

function couple(form, field) {
  if (field.dataset.slides) form.elements.namedItem(field.dataset.slides).value = field.value;
  else if (field.type === "number") {
    const slider = form.querySelector(`[data-slides="${field.name}"]`);
    if (slider) slider.value = field.value;
  }
}

function number(form, name) {
  const field = form.elements.namedItem(name);
  return field ? Number(field.value) || 0 : 0;
}

// A notebook is one machine; a cluster is its head and max_workers workers.
function asked(form) {
  const count = form.elements.namedItem("max_workers") ? number(form, "max_workers") : 1;
  const head = JSON.parse(form.dataset.head || '{"cpu": 0, "memory": 0}');
  return {
    cpu: head.cpu + count * number(form, "cpu"),
    memory: head.memory + count * number(form, "memory_gib") * GIB,
    gpu: count * number(form, "gpu"),
  };
}

function words(name, value) {
  const short = (x) => String(Math.round(x * 100) / 100);
  if (name === "cpu") return `${short(value)} ${value === 1 ? "core" : "cores"}`;
  if (name === "memory") return value >= GIB ? `${short(value / GIB)} GiB` : `${short(value / 2 ** 20)} MiB`;
  return `${short(value)} ${value === 1 ? "gpu" : "gpus"}`;
}

function sum(form) {
  const wants = asked(form);
  const left = JSON.parse(form.dataset.left || "{}");
  const over = Object.keys(wants).filter((name) => name in left && wants[name] > left[name] + 1e-9);
  const shown = Object.keys(wants).filter((name) => wants[name] > 0).map((name) => words(name, wants[name]));
  const place = form.querySelector("[data-sum]");
  if (place) place.textContent = shown.join(", ");
  const warning = form.querySelector("[data-over]");
  if (warning) {
    warning.hidden = over.length === 0;
    warning.textContent = over.map((name) => `You ask for ${words(name, wants[name])}; ${words(name, left[name])} ${left[name] === 1 && name === "cpu" ? "is" : "are"} left.`).join(" ");
  }
  for (const preset of form.querySelectorAll("button[data-preset]")) {
    const same = Object.entries(JSON.parse(preset.dataset.preset)).every(([name, value]) => {
      const field = form.elements.namedItem(name);
      return !field || String(field.value) === String(value);
    });
    preset.setAttribute("aria-pressed", String(same));
  }
}
