// While a form is filled in, the server says what it would make: a schedule in words, a notebook's parameters.

const PAUSE_MS = 300;

function later(action) {
  let waiting;
  return () => {
    clearTimeout(waiting);
    waiting = setTimeout(action, PAUSE_MS);
  };
}

async function put(place, request) {
  try {
    const answer = await fetch(request);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    place.replaceChildren(...(answer.ok ? page.body.childNodes : []));
  } catch {
    place.replaceChildren();
  }
}

function schedules() {
  for (const place of document.querySelectorAll("[data-preview-schedule]")) {
    const form = place.closest("form");
    const show = () => {
      const query = new URLSearchParams({ cron: form.elements.cron.value, timezone: form.elements.timezone.value });
      return put(place, new Request(`${place.dataset.previewSchedule}?${query}`, { headers: { "X-Live": "1" } }));
    };
    const soon = later(show);
    form.addEventListener("input", (event) => ["cron", "timezone"].includes(event.target.name) && soon());
    form.addEventListener("click", (event) => event.target.closest("[data-preset]") && soon());
    show();
  }
}

function promotions() {
  const form = document.querySelector("form[data-preview-promotion]");
  if (!form) return;
  const place = document.getElementById("promotion-preview");
  form.addEventListener("change", (event) => {
    if (!["notebook", "helpers", "name"].includes(event.target.name) || !form.elements.notebook.files.length) return;
    put(place, new Request(form.dataset.previewPromotion, { method: "POST", body: new FormData(form), headers: { "X-Live": "1" } }));
  });
}

export function showPreviews() {
  for (const field of document.querySelectorAll("[data-own-zone]")) {
    field.value ||= Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  }
  schedules();
  promotions();
  document.addEventListener("change", (event) => {
    if (event.target.dataset.opens) document.getElementById(event.target.dataset.opens).open = event.target.checked;
  });
}
