// What every page does: it keeps itself fresh, counts time on, asks before it ends something, and couples its sliders.
// Without it all pages still work, by loading them again.

import { refresh } from "./morph.js";
import { startClocks, tick } from "./clocks.js";
import { coupleSizes } from "./sizes.js";
import { keepFields } from "./drafts.js";
import { readColumns } from "./columns.js";
import { drawPlots } from "./plot.js";
import { showPreviews } from "./previews.js";

const LONGEST_PAUSE_S = 30;

function keepFresh() {
  const every = () => Number(document.body.dataset.live || 0);
  let failures = 0;
  const round = async () => {
    if (!every()) return;
    if (!document.hidden) {
      try {
        const answer = await fetch(location.href, { headers: { "X-Live": "1" }, redirect: "manual" });
        if (answer.status === 401) return location.reload();
        if (answer.ok) {
          refresh(new DOMParser().parseFromString(await answer.text(), "text/html"));
          tick();
          drawPlots();
          leaveIfTold();
          failures = 0;
        } else failures += 1;
      } catch {
        failures += 1;
      }
      document.getElementById("offline").hidden = failures < 3;
    }
    setTimeout(round, 1000 * Math.min(LONGEST_PAUSE_S, every() * 2 ** Math.max(0, failures - 2)));
  };
  if (every()) setTimeout(round, 1000 * every());
}

function leaveIfTold() {
  const target = document.querySelector("[data-goto]")?.dataset.goto;
  if (target) location.replace(target);
}

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  const question = button?.dataset.confirm;
  if (question && !confirm(question)) return event.preventDefault();
  // A second click must not ask for a second one.
  if (button) setTimeout(() => (button.disabled = true), 0);
});
addEventListener("pageshow", () => document.querySelectorAll("button[disabled]:not([data-kept])").forEach((one) => (one.disabled = false)));
document.addEventListener("change", (event) => {
  if (event.target.dataset.submit !== undefined) event.target.form.requestSubmit();
});

// Good news is read once; on a page that goes on by itself it would soon be wrong.
if (document.body.dataset.live) setTimeout(() => document.querySelector(".flash.good[role=status]")?.remove(), 12000);
for (const log of document.querySelectorAll("pre.log[tabindex]:not(.trace)")) log.scrollTop = log.scrollHeight;

startClocks();
keepFields();
coupleSizes();
showPreviews();
drawPlots();
readColumns();
leaveIfTold();
keepFresh();
