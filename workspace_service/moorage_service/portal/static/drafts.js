// A form that was refused comes back with what was typed into it. Kept in this tab only, and never secrets.

const kept = () => `moorage-draft:${location.pathname}`;

function fields(form) {
  return [...form.elements].filter((one) => one.name && !["hidden", "file", "password", "submit"].includes(one.type) && !one.matches("[data-secret]"));
}

export function keepFields() {
  const forms = [...document.forms];
  const draft = JSON.parse(sessionStorage.getItem(kept()) ?? "null");
  sessionStorage.removeItem(kept());
  const form = draft && document.querySelector(".flash.bad") && forms.find((one) => one.getAttribute("action") === draft.action);
  if (form) {
    for (const field of fields(form)) {
      if (!(field.name in draft.values)) continue;
      if (field.type === "radio" || field.type === "checkbox") field.checked = draft.values[field.name].includes(field.value);
      else field.value = draft.values[field.name][0];
    }
  }
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    const values = {};
    for (const field of fields(event.target)) {
      values[field.name] ??= [];
      if (!["radio", "checkbox"].includes(field.type) || field.checked) values[field.name].push(field.value);
    }
    sessionStorage.setItem(kept(), JSON.stringify({ action: event.target.getAttribute("action"), values }));
  });
}
