// The sizing widget's picture. All texts, bounds and verdicts come from the kernel in `view`; this file places them,
// and sends back what the person does.

// Keys belong to these: JupyterLab would take arrows, and "0 0" to restart the kernel, for its own shortcuts.
const KEYED = new Set(["input", "select", "button"]);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  if (KEYED.has(tag)) node.setAttribute("data-lm-suppress-shortcuts", "true");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "className") node.className = value;
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function elapsedText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

// --- the form -------------------------------------------------------------------------------------------------------

function engineChoice(form, send) {
  const buttons = form.engines.map((engine) =>
    make(
      "button",
      {
        type: "button",
        role: "radio",
        "aria-checked": engine.name === form.engine ? "true" : "false",
        "data-engine": engine.name,
        className: `mw-segment${engine.name === form.engine ? " mw-on" : ""}${engine.available ? "" : " mw-dim"}`,
        title: engine.why ?? null,
        onclick: () => send({ do: "change", field: "engine", value: engine.name }),
      },
      engine.name === "ray" ? "Ray" : engine.name === "dask" ? "Dask" : engine.name,
    ),
  );
  return make("div", { className: "mw-segments", role: "radiogroup", "aria-label": "Engine" }, ...buttons);
}

function stepper(label, name, field, send) {
  const change = (value) => send({ do: "change", field: name, value });
  const button = (text, title, value, off) =>
    make("button", { type: "button", className: "mw-step", title, "aria-label": title, disabled: off, onclick: () => change(value) }, text);
  const input = make("input", {
    type: "number",
    "data-key": name,
    "aria-label": label,
    min: field.min,
    max: field.max,
    step: field.step,
    value: String(field.value),
    onchange: (event) => change(Number(event.target.value)),
  });
  return make(
    "label",
    { className: "mw-field" },
    make("span", { className: "mw-name" }, label),
    make(
      "span",
      { className: "mw-stepper" },
      button("−", `${label}: fewer`, field.value - field.step, field.value <= field.min),
      input,
      button("+", `${label}: more`, field.value + field.step, field.value >= field.max),
    ),
  );
}

function slider(label, name, field, text, send) {
  const input = make("input", {
    type: "range",
    "data-key": name,
    "aria-label": label,
    "aria-valuetext": text,
    min: field.min,
    max: field.max,
    step: field.step,
    value: String(field.value),
    oninput: (event) => send({ do: "change", field: name, value: Number(event.target.value) }),
  });
  input.value = String(field.value); // after min, max and step, which would else clip it
  return make(
    "label",
    { className: "mw-field" },
    make("span", { className: "mw-name" }, label, make("b", {}, text)),
    input,
  );
}

function gpuFields(form, send) {
  if (form.gpu.max < 1) return [];
  const fields = [stepper("GPUs", "gpu", form.gpu, send)];
  if (form.gpu.value > 0 && form.gpu_types.length > 0) {
    const options = form.gpu_types.map((kind) =>
      make("option", { value: kind, selected: kind === form.gpu_type }, kind),
    );
    const select = make(
      "select",
      { "data-key": "gpu_type", "aria-label": "GPU type", onchange: (event) => send({ do: "change", field: "gpu_type", value: event.target.value }) },
      ...options,
    );
    fields.push(make("label", { className: "mw-field" }, make("span", { className: "mw-name" }, "GPU type"), select));
  }
  return fields;
}

function endingField(form, send) {
  const select = make(
    "select",
    {
      "data-key": "on_notebook_end",
      "aria-label": "When this notebook ends",
      onchange: (event) => send({ do: "change", field: "on_notebook_end", value: event.target.value }),
    },
    make("option", { value: "stop", selected: form.on_notebook_end === "stop" }, "stop the cluster soon after"),
    make("option", { value: "keep", selected: form.on_notebook_end === "keep" }, "keep the cluster"),
  );
  return make("label", { className: "mw-field" }, make("span", { className: "mw-name" }, "When this notebook ends"), select);
}

function bar(line) {
  const track = make("span", { className: "mw-track" });
  const used = make("span", { className: "mw-used" });
  used.style.width = `${line.used_share * 100}%`;
  const asked = make("span", { className: line.over ? "mw-asked mw-over" : "mw-asked" });
  asked.style.width = `${(line.over ? 1 - line.used_share : line.asked_share) * 100}%`;
  track.append(used, asked);
  const left = line.left === null ? "no limit" : `${line.left} left`;
  return make(
    "div",
    { className: `mw-line${line.over ? " mw-bad" : ""}`, title: line.rule ?? null },
    make("span", { className: "mw-label" }, line.label),
    make("span", { className: "mw-amounts" }, make("b", {}, line.asked), ` · ${left}`),
    line.left === null ? null : track,
  );
}

function formPart(view, send) {
  const { form, check } = view;
  const fields = make(
    "div",
    { className: "mw-fields" },
    make("div", { className: "mw-field" }, make("span", { className: "mw-name" }, "Engine"), engineChoice(form, send)),
    make(
      "div",
      { className: "mw-pair" },
      stepper("Workers, least", "min_workers", form.min_workers, send),
      stepper("Workers, most", "max_workers", form.max_workers, send),
    ),
    slider("Each worker: CPU", "cpu", form.cpu, form.texts.cpu, send),
    slider("Each worker: memory", "memory", form.memory, form.texts.memory, send),
    make("div", { className: "mw-pair" }, ...gpuFields(form, send)),
    endingField(form, send),
  );
  const sums = make(
    "div",
    { className: "mw-sums" },
    make("div", { className: "mw-name" }, "At its largest this holds"),
    ...check.lines.map(bar),
    make("div", { className: "mw-quiet" }, form.texts.head),
    make("p", { className: check.ok ? "mw-verdict mw-good" : "mw-verdict mw-bad", role: "status" }, check.sentence),
    make(
      "button",
      { type: "button", className: "mw-button mw-main", "data-key": "create", disabled: view.busy !== null, onclick: () => send({ do: "create" }) },
      view.busy ?? "Create cluster",
    ),
  );
  return make("div", { className: "mw-columns" }, fields, sums);
}

// --- a cluster ------------------------------------------------------------------------------------------------------

function copyButton(text) {
  const button = make("button", { type: "button", className: "mw-button mw-small", title: "Copy" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

function facts(cluster) {
  const rows = [
    ["Workers", cluster.workers],
    ["Each worker", cluster.size],
    ["Versions", cluster.versions],
    ["Address", cluster.address],
    ["By itself", cluster.keeping],
  ].filter(([, value]) => value);
  const list = make("dl", { className: "mw-facts" });
  for (const [name, value] of rows) list.append(make("dt", {}, name), make("dd", {}, value));
  if (cluster.dashboard) {
    const link = make("a", { href: cluster.dashboard, target: "_blank", rel: "noopener" }, "Open dashboard ↗");
    list.append(make("dt", {}, "Dashboard"), make("dd", {}, link));
  }
  return list;
}

function keepButtons(view, send) {
  const { cluster } = view;
  if (cluster.ended || cluster.phase === "stopping") return [];
  const button = (text, key, change) =>
    make(
      "button",
      { type: "button", className: "mw-button mw-plain", "data-key": key, disabled: view.busy !== null, onclick: () => send({ do: "keep", id: cluster.id, ...change }) },
      text,
    );
  const stays = cluster.on_notebook_end === "keep";
  return [
    button("Keep for 8 h", "keep", { hours: 8 }),
    stays
      ? button("End with this notebook", "ending", { on_notebook_end: "stop" })
      : button("Keep when this notebook ends", "ending", { on_notebook_end: "keep" }),
  ];
}

function clusterPart(view, send) {
  const { cluster } = view;
  const clock = make("span", { className: "mw-clock", "data-key": "clock" }, elapsedText(cluster.elapsed_s));
  const steps = cluster.steps.map((step) =>
    make("li", { className: `mw-${step.mark}`, "data-phase": step.phase }, step.label),
  );
  const ready = cluster.phase === "ready";
  return make(
    "div",
    { className: "mw-cluster", "data-phase": cluster.phase, "data-id": cluster.id },
    make(
      "div",
      { className: "mw-head" },
      make("b", {}, `${cluster.engine === "ray" ? "Ray" : "Dask"} cluster ${cluster.name}`),
      make("span", { className: `mw-dot mw-${cluster.phase}` }),
      make("span", { role: "status" }, cluster.words),
      cluster.counting || ready ? make("span", { className: "mw-quiet" }, ready ? "Started in " : "", clock) : null,
    ),
    steps.length > 0 ? make("ol", { className: "mw-steps" }, ...steps) : null,
    cluster.reason ? make("p", { className: "mw-reason" }, cluster.reason) : null,
    !cluster.reason && cluster.counting && cluster.last_event ? make("p", { className: "mw-quiet" }, cluster.last_event) : null,
    cluster.ending ? make("p", { className: "mw-note", role: "status" }, cluster.ending) : null,
    facts(cluster),
    ready
      ? make("div", { className: "mw-snippet" }, make("pre", {}, cluster.snippet), copyButton(cluster.snippet))
      : null,
    cluster.overlay ? make("p", { className: "mw-note" }, cluster.overlay) : null,
    make(
      "div",
      { className: "mw-actions" },
      cluster.ended || cluster.phase === "stopping"
        ? null
        : make(
            "button",
            { type: "button", className: "mw-button", "data-key": "stop", disabled: view.busy !== null, onclick: () => send({ do: "stop", id: cluster.id }) },
            view.busy ?? "Stop cluster",
          ),
      ...keepButtons(view, send),
      make("button", { type: "button", className: "mw-button mw-plain", "data-key": "new", onclick: () => send({ do: "new" }) }, "New cluster"),
    ),
  );
}

// --- the rest -------------------------------------------------------------------------------------------------------

function troublePart(trouble) {
  if (trouble.kind !== "refusal") return make("div", { className: "mw-trouble", role: "alert" }, trouble.message);
  const holders = trouble.holders.map((one) => make("li", {}, `${one.amount} by ${one.kind} ${one.name} of ${one.owner}`));
  return make(
    "div",
    { className: "mw-trouble", role: "alert" },
    make("b", {}, trouble.message),
    make(
      "dl",
      { className: "mw-facts" },
      make("dt", {}, "Rule"),
      make("dd", {}, trouble.rule),
      make("dt", {}, "Used"),
      make("dd", {}, trouble.used),
      make("dt", {}, "Asked"),
      make("dd", {}, trouble.asked),
      ...(holders.length > 0 ? [make("dt", {}, "Held by"), make("dd", {}, make("ul", {}, ...holders))] : []),
    ),
  );
}

function listPart(view, send) {
  const rows = view.clusters.filter((one) => !one.shown);
  if (rows.length === 0) return null;
  const lines = rows.map((one) =>
    make(
      "li",
      { "data-id": one.id },
      make("span", { className: `mw-dot mw-${one.phase}` }),
      make("b", {}, one.name),
      make("span", { className: "mw-quiet" }, `${one.engine} · ${one.phase} · ${one.workers} · ${one.size}`),
      make("button", { type: "button", className: "mw-button mw-small", onclick: () => send({ do: "choose", id: one.id }) }, "Show"),
      make(
        "button",
        { type: "button", className: "mw-button mw-small", disabled: one.phase === "stopping", onclick: () => send({ do: "stop", id: one.id }) },
        "Stop",
      ),
    ),
  );
  return make("div", { className: "mw-list" }, make("div", { className: "mw-name" }, "Your clusters in this project"), make("ul", {}, ...lines));
}

function wholePart(view, send) {
  const parts = [];
  if (view.offline) parts.push(make("div", { className: "mw-trouble", role: "alert" }, view.offline));
  if (view.trouble) parts.push(troublePart(view.trouble));
  if (view.cluster) parts.push(clusterPart(view, send));
  else if (view.form) parts.push(formPart(view, send));
  else if (view.loading) parts.push(make("div", { className: "mw-quiet" }, "Asking what is left for you..."));
  parts.push(listPart(view, send));
  return parts.filter((part) => part !== null);
}

function render({ model, el }) {
  const root = make("div", { className: "moorage-sizing" });
  el.append(root);
  const send = (message) => model.send(message);
  let came = performance.now();
  let shown = null;
  let dragging = false;
  let late = false;

  function draw() {
    const view = model.get("view");
    const text = JSON.stringify(view);
    if (text === shown) return; // a look that changed nothing must not take the focus away
    shown = text;
    came = performance.now();
    const held = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    root.replaceChildren(...wholePart(view, send));
    if (held) root.querySelector(`[data-key="${held}"]`)?.focus();
  }

  function update() {
    // A slider that is replaced under the finger would let go of it: renew its numbers only, the rest when it is let go.
    if (!dragging) return draw();
    late = true;
    const view = model.get("view");
    if (!view.form) return;
    const sums = formPart(view, send).querySelector(".mw-sums");
    root.querySelector(".mw-sums")?.replaceWith(sums);
    for (const name of ["cpu", "memory"]) {
      const label = root.querySelector(`[data-key="${name}"]`)?.closest(".mw-field")?.querySelector("b");
      if (label) label.textContent = view.form.texts[name];
    }
  }

  function press(event) {
    dragging = event.target.type === "range";
  }

  function release() {
    dragging = false;
    if (late) {
      late = false;
      shown = null;
      draw();
    }
  }

  function tick() {
    const view = model.get("view");
    const clock = root.querySelector('[data-key="clock"]');
    if (clock && view.cluster?.counting) {
      clock.textContent = elapsedText(view.cluster.elapsed_s + (performance.now() - came) / 1000);
    }
  }

  root.addEventListener("pointerdown", press);
  window.addEventListener("pointerup", release);
  model.on("change:view", update);
  const timer = setInterval(tick, 500);
  draw();
  send({ do: "refresh" });
  return () => {
    clearInterval(timer);
    window.removeEventListener("pointerup", release);
    model.off("change:view", update);
  };
}

export default { render };
